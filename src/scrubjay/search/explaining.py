"""Explains the hits of a search: which parts of the query and of a hit make them similar."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import CatalogueError, DataError, ImageError
from scrubjay.gallery.items import image_problem, sample_of
from scrubjay.generations.generation import Generation
from scrubjay.models.explanation import ExplainedHit, explain
from scrubjay.search.query_image import QueryImage
from scrubjay.search.request import Answer
from scrubjay.stores import Item
from scrubjay.types import Hit, Sample
from scrubjay.workspace.workspace import Workspace

REMOVED = "the item has been removed from the gallery"


def explain_hits(workspace: Workspace, image: Path, answer: Answer) -> list[ExplainedHit]:
    """The hits of an answer with their explanations; see `Catalogue.explain`."""
    generation = workspace.lineage.get(answer.generation)
    query = Sample(image, 0)
    items = {item.id: item for item in workspace.gallery.store.items([hit.id for hit in answer.hits])}
    return [_explained(workspace, generation, query, hit, items.get(hit.id)) for hit in answer.hits]


def explain_item(workspace: Workspace, image: QueryImage, name: str) -> ExplainedHit:
    """An image and one item of the gallery, as if a search had found it; see `Catalogue.explain_item`."""
    generation = workspace.serving_generation()
    store = workspace.gallery.store
    item = next(iter(store.items([name])), None)
    if item is None:
        raise DataError(f"there is no item {name!r}; search again.")
    spaces = (space for space in workspace.searched_spaces(generation) if store.vectors(space.id, [name])[0])
    space = next(spaces, None)
    found = Hit(item.id, item.uri, item.label, 0.0, generation.name if space is None else space.generation)
    if space is None:
        return ExplainedHit(found, None, "it has no vector that this generation can search: run a backfill")
    explained = _explained(workspace, generation, image.pixels, found, item)
    if explained.explanation is None:
        return explained
    return replace(explained, hit=replace(found, score=explained.explanation.score))


def _explained(
    workspace: Workspace, generation: Generation, query: Sample | NDArray[np.uint8], hit: Hit, item: Item | None
) -> ExplainedHit:
    problem = REMOVED if item is None else image_problem(item)
    if item is None or problem is not None:
        return ExplainedHit(hit, None, problem or REMOVED)
    if hit.generation != generation.name and _crosses_bridge(workspace, generation, hit):
        reason = (
            f"its score was computed over a bridge from {generation.name} to {hit.generation}, which keeps no "
            "sum over positions"
        )
        return ExplainedHit(hit, None, reason)
    try:
        owner = workspace.encoder(workspace.lineage.get(hit.generation))
        return ExplainedHit(hit, explain(workspace.encoder(generation), query, sample_of(item), owner))
    except ImageError as error:
        if isinstance(query, Sample) and str(error).startswith(f"{query.path}: "):
            raise
        return ExplainedHit(hit, None, str(error).removeprefix(f"{item.uri}: "))
    except CatalogueError:
        return ExplainedHit(hit, None, f"the network of {hit.generation} that embedded it has been pruned")


def _crosses_bridge(workspace: Workspace, generation: Generation, hit: Hit) -> bool:
    """Whether the query is mapped by a bridge before it is compared with vectors of the hit's generation."""
    direct = workspace.calibrations(generation).direct
    if any(space.generation == hit.generation and space.id in direct for space in workspace.gallery.store.spaces()):
        return False
    return any(True for _ in workspace.bridge_paths.bridge(generation.name, hit.generation).steps())
