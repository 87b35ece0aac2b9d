"""One candidate's trial: a session learned from part of its images and judged on the rest, teacher included.

Nothing but the session's training images is read, unless the old data are asked for too. A trial's figures lie in
`trials/NAME-eEPOCHS.json`; one that was cut goes on where it was.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.config import read_json
from scrubjay.data.loading import Cache, ImageLoader
from scrubjay.data.stream import Stream
from scrubjay.errors import DataError
from scrubjay.evaluation.retrieval import evaluate_query_gallery
from scrubjay.evaluation.tradeoff import agreement
from scrubjay.experiments import measurement
from scrubjay.experiments.run import ExperimentOptions, make_method
from scrubjay.generations.generation import Generation
from scrubjay.generations.lineage import Lineage
from scrubjay.io.atomic import write_json
from scrubjay.models.activations import Activations
from scrubjay.models.embedder import Network
from scrubjay.models.embedding import embed
from scrubjay.training import learn
from scrubjay.types import Embeddings, Sample

HELD = 0.25
"""Share of each class's images that no candidate learns from."""


def hold_out(samples: Iterable[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """Training images to learn from, and those to judge by: a quarter of each class, at least one where it has two.

    Raises:
        DataError: no class has two images.
    """
    by_class: dict[int, list[Sample]] = {}
    for sample in samples:
        by_class.setdefault(sample.label, []).append(sample)
    kept: list[Sample] = []
    held: list[Sample] = []
    for label, mine in sorted(by_class.items()):
        aside = min(max(1, round(HELD * len(mine))), len(mine) - 1)
        drawn = set(random.Random(f"{seed} {label}").sample(range(len(mine)), aside))
        held += (sample for index, sample in enumerate(mine) if index in drawn)
        kept += (sample for index, sample in enumerate(mine) if index not in drawn)
    if not held:
        raise DataError("no class of this session has two training images, so that none can be judged by; add some.")
    return kept, held


@dataclass(frozen=True)
class Trials:
    """What all trials of a session share.

    Attributes:
        options: of the run; the method's are replaced by each candidate's.
        stream: its sessions up to the one to learn, which is the last.
        lineage: holds `generation`.
        generation: the one before the session: where every trial begins, and the teacher.
        out: folder of the figures.
        activations: folder of those of the frozen part, if they are to be kept.
    """

    options: ExperimentOptions
    stream: Stream
    lineage: Lineage
    generation: Generation
    out: Path
    activations: Path | None

    @cached_property
    def split(self) -> tuple[list[Sample], list[Sample]]:
        """Images of the session to learn from, and those held out."""
        return hold_out(self.stream.sessions[-1].train, self.options.seed)

    def figures(self, name: str, method: Mapping[str, Any], epochs: int, peek: bool = False) -> dict[str, Any]:
        """What a candidate is worth after so many epochs; learned when that is not known yet.

        Args:
            name: of the candidate.
            method: `name` and options of its method.
            epochs: passes over the images.
            peek: whether it is measured on old and on test images too.

        Returns:
            `plasticity`: held-out images find the learned ones, mAP@R; `cross`: they find them as the teacher embeds
            these; `cross_start`: and with the teacher on both sides; `agreement`: with the teacher, on the held-out
            ones; `seconds` of learning; `peek`: the figures on old data, or None.
        """
        path = self._path(name, epochs)
        found = read_json(path) if path.exists() else None
        if found is not None and (found["peek"] is not None or not peek):
            return found
        began = time.perf_counter()
        network = self._learned(name, method, epochs)
        if found is None:
            found = {"seconds": round(time.perf_counter() - began, 3), **self._judged(network)}
        found["peek"] = self._peeked(network) if peek else None
        write_json(path, found)
        path.with_suffix(".safetensors").unlink(missing_ok=True)
        return found

    def _learned(self, name: str, method: Mapping[str, Any], epochs: int) -> Network:
        training = self.options.training.model_copy(update={"increment_epochs": epochs})
        options = self.options.model_copy(update={"method": dict(method), "training": training})
        learner = make_method(options)
        self.lineage.restore(self.generation, learner)
        kept, _ = self.split
        session = replace(self.stream.sessions[-1], train=tuple(kept), test=())
        loader = ImageLoader(kept, options.images, train=True, cache=self._cache)
        if self._kept is not None:
            loader = self._kept.of(loader)
        checkpoint = self._path(name, epochs).with_suffix(".safetensors")
        learn(learner, session, loader, training, options.seed, checkpoint, f"{name}, {epochs} epochs")
        return learner.network

    def _path(self, name: str, epochs: int) -> Path:
        safe = re.sub(r"[^\w.,=+-]+", "_", name)
        return self.out / f"{safe}-e{epochs}.json"

    def _judged(self, network: Network) -> dict[str, float]:
        kept, held = (self._embed(network, samples) for samples in self.split)
        kept_o, held_o = self._teacher
        both = np.intersect1d(held.indices, held_o.indices)  # what either could decode is what both could
        z_o, z_n = (part.vectors[np.isin(part.indices, both)] for part in (held_o, held))
        return {
            "plasticity": _found(held, kept),
            "cross": _found(held, kept_o),
            "cross_start": _found(held_o, kept_o),
            "agreement": agreement(z_o, z_n),
        }

    def _peeked(self, network: Network) -> dict[str, float | None]:
        began = time.perf_counter()
        step = len(self.stream.sessions) - 1
        test = self._embed(network, measurement.test_samples(self.stream))
        gallery = self._embed(network, measurement.gallery_samples(self.stream, step - 1))
        scores = measurement.groups(test, self.stream, step)
        before, gallery_o = self._old
        asked = self._queries(test)
        return {
            "before": before,
            "old": _finite(scores.old.map_at_r),
            "new": _finite(scores.new.map_at_r),
            "seen": _finite(scores.seen.map_at_r),
            "old_gallery": _found(asked, gallery_o),
            "old_gallery_anew": _found(asked, gallery),
            "seconds": round(time.perf_counter() - began, 3),
        }

    def _queries(self, test: Embeddings) -> Embeddings:
        """Test images of old classes that may be queries."""
        flags = np.array([sample.query for sample in measurement.test_samples(self.stream)], dtype=bool)
        return _part(test, flags[test.indices] & (test.labels < self.stream.sessions[-1].first_label))

    @cached_property
    def _start(self) -> Network:
        return self.lineage.network(self.generation)

    @cached_property
    def _teacher(self) -> tuple[Embeddings, Embeddings]:
        kept, held = (self._embed(self._start, samples) for samples in self.split)
        return kept, held

    @cached_property
    def _old(self) -> tuple[float | None, Embeddings]:
        """The old classes' mAP@R before the session, and the old gallery as it then was."""
        test = self._embed(self._start, measurement.test_samples(self.stream))
        step = len(self.stream.sessions) - 1
        before = _finite(measurement.groups(test, self.stream, step).old.map_at_r)
        return before, self._embed(self._start, measurement.gallery_samples(self.stream, step - 1))

    @cached_property
    def _cache(self) -> Cache:
        return Cache(self.options.images.cache_mb)

    @cached_property
    def _kept(self) -> Activations | None:
        if self.activations is None or self.options.network.frozen is None:
            return None
        return Activations(self.activations, self._start.embedder, self.options.images)

    def _embed(self, network: Network, samples: Sequence[Sample]) -> Embeddings:
        return embed(network.embedder, samples, self.options.images, self._cache, self._kept)


def _found(queries: Embeddings, gallery: Embeddings) -> float:
    """MAP@R. The two may be of two networks: how far they can be compared is what is asked."""
    scores = evaluate_query_gallery(queries.vectors, queries.labels, gallery.vectors, gallery.labels)
    return float(scores.map_at_r)


def _part(embeddings: Embeddings, mask: NDArray[np.bool_]) -> Embeddings:
    rows = {name: getattr(embeddings, name)[mask] for name in ("vectors", "labels", "indices")}
    return replace(embeddings, **rows)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
