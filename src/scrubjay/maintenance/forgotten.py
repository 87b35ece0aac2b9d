"""The report of a removal: what was removed from where, and what cannot be removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scrubjay.generations.generation import Generation
from scrubjay.maintenance.removal_plan import ITEMS
from scrubjay.workspace.removal_request import RemovalRequest
from scrubjay.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The report of a removal.

    Attributes:
        classes: names of the classes that were removed.
        images: content hashes of the single images that were removed.
        counts: number of entries that were removed, by place.
        generations: names of the generations that were made, by the generation that each replaces.
        remains: what was not removed, and what to do about it.
    """

    classes: tuple[str, ...]
    images: tuple[str, ...]
    counts: Mapping[str, int]
    generations: Mapping[str, str]
    remains: tuple[str, ...]

    @classmethod
    def of(cls, request: RemovalRequest, workspace: Workspace) -> Forgotten:
        """The report of a request that was carried out."""
        remains = tuple(_remains(request, workspace))
        return cls(request.classes, request.images, request.counts, request.successors, remains)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON stores it."""
        return {
            "classes": list(self.classes),
            "images": list(self.images),
            "removed": dict(self.counts),
            "generations": dict(self.generations),
            "remains": list(self.remains),
        }

    def lines(self) -> list[str]:
        """The report as lines for a terminal."""
        width = max((len(str(number)) for number in self.counts.values()), default=0)
        table = [f"  {number:>{width}}  {place}" for place, number in self.counts.items()]
        made = [f"{new} replaces {old}." for old, new in self.generations.items()]
        return ["removed:", *table, *made, *(f"not removed: {text}" for text in self.remains)]


def _remains(request: RemovalRequest, workspace: Workspace) -> Iterator[str]:
    """What still depends on removed images."""
    made = set(request.successors.values())
    others = [each for each in workspace.lineage.generations() if each.name not in made]
    affected = [each for each in others if set(each.info.statistics) & set(request.involved)]
    if affected:
        names = ", ".join(each.name for each in affected)
        yield (
            f"the metric and the class names of {names}, which were learned with the removed images: "
            f"`scrubjay prune {workspace.folder}` deletes them as soon as no rollback and no item needs them"
        )
    adapted = [each for each in workspace.lineage.generations() if _is_adapted(each, request, workspace)]
    if adapted:
        yield (
            f"what the backbone of {', '.join(each.name for each in adapted)} may have learned from them in the first "
            "session, which trained it: learn again in a new catalogue without the removed images"
        )
    first = {each.info.statistics[0] for each in affected}
    if first & set(request.involved):
        yield "two settings that were chosen on the first session: prior of the covariance, weight of residual axes"
    statistics = workspace.lineage.statistics
    imported = [path.stem for path in statistics.paths() if statistics.get(path.stem).images is None]
    if request.images and imported:
        yield f"what {', '.join(imported)}, learned in a run, may have learned from the single images"
    trained = [each for each in others if not each.info.statistics]
    if trained:
        names = ", ".join(f"{each.name} ({each.info.method['name']})" for each in trained)
        yield f"what the weights of {names} may have learned from the images"
    if request.counts.get(ITEMS):
        yield (
            "deleted items in files of the gallery's store, which some stores keep for an hour: run "
            f"`scrubjay doctor {workspace.folder} --repair` later"
        )
    yield "figures, reports, ONNX files and copies of this catalogue that were made before"


def _is_adapted(generation: Generation, request: RemovalRequest, workspace: Workspace) -> bool:
    """Whether the first session on the line of a generation trained the backbone, and on removed images."""
    sessions = generation.info.statistics
    return bool(sessions) and sessions[0] in request.involved and workspace.lineage.has_trained_backbone(generation)
