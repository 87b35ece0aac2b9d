"""How a catalogue answers a query: the generation that serves, the spaces it reaches, and whether anything matches."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.data.images import decode
from scrubjay.data.photos import content_hash
from scrubjay.errors import CatalogueError, CheckpointError, SpaceError
from scrubjay.gallery.calibration import Calibration
from scrubjay.gallery.gallery import Gallery, Leg
from scrubjay.generations.bridge_paths import Routes, space_of
from scrubjay.generations.lineage import Generation, Lineage
from scrubjay.generations.serving import ServingFile
from scrubjay.io.atomic import write_json
from scrubjay.models.embedder import Embedder
from scrubjay.models.embedding import embed
from scrubjay.search.novelty import Novelty, novelty, threshold
from scrubjay.search.query_log import Query, QueryLog, brief
from scrubjay.search.shadow import Compared, answer_pending, chosen, compare
from scrubjay.stores import Item
from scrubjay.types import Embeddings, Hit, Sample
from scrubjay.workspace.options import CatalogueOptions


@dataclass(frozen=True, slots=True)
class Calibrations:
    """What the probe images say about the scores of one generation's queries.

    Attributes:
        spaces: of the cosines in each embedding space, by its id.
        straight: ids of older spaces that queries enter as they are: no bridge did as well.
        unknown: the best calibrated score of each probe image among items of other classes: what an image of a
            class that is not in the gallery gets.
        known: its best score among items of its own class.
    """

    spaces: Mapping[str, Calibration] = field(default_factory=dict)
    straight: Sequence[str] = ()
    unknown: Sequence[float] = ()
    known: Sequence[float] = ()

    def save(self, path: Path) -> None:
        """Write them, whole or not at all."""
        spaces = {name: calibration.to_json() for name, calibration in self.spaces.items()}
        scores = {name: list(getattr(self, name)) for name in ("straight", "unknown", "known")}
        write_json(path, {"spaces": spaces, **scores})

    @classmethod
    def load(cls, path: Path) -> Calibrations:
        """Read what `save` wrote; nothing where it never was.

        Raises:
            CheckpointError: the file is damaged.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            spaces = {name: Calibration.from_json(each) for name, each in values["spaces"].items()}
            return cls(spaces, values["straight"], values["unknown"], values["known"])
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: damaged ({error}): delete it; the next `scrubjay add` makes it again."
            ) from None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found.

    Attributes:
        hits: best first; an item whose image has the same bytes as the query is the first, with a match of 1.
        generation: the one that embedded the query.
        matched: whether the best hit is likely to be of the query's class; None where nothing is known about it.
        threshold: the calibrated probability that the best hit has to be above for that.
        unembedded: items without any vector, which no search finds.
    """

    hits: tuple[Hit, ...]
    generation: str
    matched: bool | None
    threshold: float | None
    unembedded: int


class Answering:
    """Answers queries of one catalogue; what it reads of generations is kept, for they never change."""

    def __init__(
        self, folder: Path, options: CatalogueOptions, lineage: Lineage, gallery: Gallery, serving: ServingFile
    ) -> None:
        self.folder = folder
        self.options = options
        self.lineage = lineage
        self.gallery = gallery
        self.serving = serving
        self.routes = Routes(lineage)
        self._embedders: dict[str, Embedder] = {}

    def generation(self) -> Generation:
        """The generation that answers.

        Raises:
            CatalogueError: nothing was learned yet.
        """
        name = self.serving.read().generation
        if name is None:
            raise CatalogueError(f"{self.folder}: nothing was learned yet: scrubjay learn {self.folder} PHOTOS")
        return self.lineage.get(name)

    def embedder(self, generation: Generation) -> Embedder:
        """The embedder of a generation."""
        if generation.name not in self._embedders:
            self._embedders[generation.name] = self.lineage.network(generation).embedder
        return self._embedders[generation.name]

    def embed(self, generation: Generation, samples: Sequence[Sample]) -> Embeddings:
        """Images as a generation sees them.

        Raises:
            SpaceError: the options were changed so that the vectors would be of another space.
        """
        embedded = embed(self.embedder(generation), samples, self.options.images)
        if embedded.fingerprint != generation.fingerprint:
            raise SpaceError(
                f"{self.folder}: the vectors would not be those of {generation.name}: its weights or images.size or "
                "images.resize were changed since it was made; set them back."
            )
        return embedded

    def legs(self, generation: Generation, vectors: NDArray[np.float32]) -> list[Leg]:
        """Queries of a generation in every space that it reaches, nearest first."""
        calibrations = self.calibrations(generation)
        own = space_of(generation)
        spaces = self.routes.order(generation.name, self.gallery.store.spaces())
        usual = calibrations.spaces.get(own.id, Calibration())
        return [
            Leg(
                space,
                vectors
                if space.id in calibrations.straight
                else self.routes.bridge(generation.name, space.generation)(vectors),
                calibrations.spaces.get(space.id, usual),
            )
            for space in spaces
        ]

    def calibrations(self, generation: Generation) -> Calibrations:
        """Of a generation's queries."""
        return Calibrations.load(self.calibrations_path(generation))

    def calibrations_path(self, generation: Generation) -> Path:
        """Where they lie."""
        return self.folder / "calibration" / f"{generation.name}.json"

    def answer(self, image: Path, k: int, labels: Sequence[str] | None, where: Mapping[str, Any] | None) -> Answer:
        """See `Catalogue.answer`."""
        began = time.perf_counter()
        decode(image, max_pixels=self.options.images.max_pixels)
        generation = self.generation()
        query = self.embed(generation, [Sample(image, 0)])
        legs = self.legs(generation, query.vectors)
        (hits,) = self.gallery.search_mixed(legs, k, labels, where)
        content = content_hash(Sample(image, 0))
        everything = not labels and not where
        hits = self._itself_first(content, legs, hits, k, everything)
        needed = self.needed(generation)
        best = hits[0].match if hits else None
        matched = None if needed is None or best is None else best > needed
        if everything:
            milliseconds = 1000 * (time.perf_counter() - began)
            self._write_down(image, content, generation, query.vectors[0], hits, matched, milliseconds)
        unembedded = self.gallery.unembedded([leg.space for leg in legs])
        return Answer(tuple(hits), generation.name, matched, needed, unembedded)

    def needed(self, generation: Generation) -> float | None:
        """The probability of a match that the best hit has to be above; None where too few probe images say it.

        At most a share of `false_match_rate` of images of classes that are not in the gallery are.
        """
        unknown = np.asarray(self.calibrations(generation).unknown)
        needed = threshold(unknown, self.options.false_match_rate)
        return needed if np.isfinite(needed) else None

    def shadowed(self) -> Compared:
        """See `Catalogue.shadowed`."""
        shadow = self.serving.read().shadow
        if shadow is None:
            raise CatalogueError(
                f"{self.folder}: no generation answers in the shadow: scrubjay shadow {self.folder} GENERATION"
            )
        answer_pending(self.log, self.shadow_answer)
        return compare(self.log.answered(shadow.generation))

    def shadow_answer(self, query: Query) -> list[Hit]:
        """What the shadow generation finds for a query that was answered before.

        Raises:
            ImageError: the query's image is gone.
        """
        generation = self.lineage.get(str(query.shadow))
        vectors = self.embed(generation, [Sample(Path(query.image or ""), 0)]).vectors
        return self.gallery.search_mixed(self.legs(generation, vectors), max(1, len(query.hits)))[0]

    def novel(self) -> Novelty | None:
        """See `Catalogue.novel`."""
        generation = self.generation()
        calibrations, needed = self.calibrations(generation), self.needed(generation)
        if needed is None:
            return None
        own = calibrations.spaces.get(space_of(generation).id, Calibration())
        queries = [query for query in self.log.recent() if query.generation == generation.name]
        return novelty(queries, calibrations.known, needed, -own.offset / own.slope)

    @property
    def log(self) -> QueryLog:
        """Of live queries."""
        return QueryLog(self.folder / "queries.sqlite")

    def _itself_first(self, content: str, legs: Sequence[Leg], hits: list[Hit], k: int, everything: bool) -> list[Hit]:
        """The hits with the item whose image has the same bytes as the query in front: that match is certain.

        Where everything was searched it is in front even if it was not among the hits.
        """
        found = next((hit for hit in hits if hit.id == content), None)
        if found is None and everything:
            found = next((self._hit(item, legs) for item in self.gallery.store.items([content])), None)
        if found is None:
            return hits
        return [replace(found, match=1.0), *(hit for hit in hits if hit.id != content)][:k]

    def _hit(self, item: Item, legs: Sequence[Leg]) -> Hit | None:
        for leg in legs:
            names, vectors = self.gallery.store.vectors(leg.space.id, [item.id])
            if names:
                score = float(np.clip(leg.queries[0] @ vectors[0], -1, 1))
                return Hit(item.id, item.uri, item.label, score, leg.space.generation, item.metadata)
        return None

    def _write_down(
        self,
        image: Path,
        content: str,
        generation: Generation,
        vector: NDArray[np.float32],
        hits: Sequence[Hit],
        matched: bool | None,
        milliseconds: float,
    ) -> None:
        shadow = self.serving.read().shadow
        other = shadow.generation if shadow is not None and chosen(content, shadow.share) else None
        place = str(image.absolute())
        self.log.append(Query(place, content, generation.name, vector, brief(hits), matched, milliseconds, other))
