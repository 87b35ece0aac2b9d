"""One candidate's trial: a session is learned from part of its images and evaluated on the rest.

Only the session's training images are read, unless old data are asked for. The figures of a trial are stored in
`trials/NAME-eEPOCHS.json`; an interrupted trial resumes from its checkpoint.
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

from scrubjay.config import read_json
from scrubjay.data.loading import Cache, ImageLoader
from scrubjay.data.stream import Stream
from scrubjay.errors import DataError
from scrubjay.evaluation.retrieval import evaluate_query_gallery
from scrubjay.evaluation.tradeoff import agreement
from scrubjay.experiments import measurement
from scrubjay.experiments.measurement import finite, rows_where
from scrubjay.experiments.options import ExperimentOptions, make_method
from scrubjay.generations.generation import Generation
from scrubjay.generations.lineage import Lineage
from scrubjay.io.atomic import write_json
from scrubjay.models.activations import Activations
from scrubjay.models.embedder import Network
from scrubjay.models.embedding import Encoder
from scrubjay.training import discard, learn
from scrubjay.types import Embeddings, Sample

HELD_OUT = 0.25
"""Share of each class's training images that no candidate learns from."""


def hold_out(samples: Iterable[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """Split training images into those to learn from and a quarter of each class, held out to evaluate on.

    At least one image is held out of each class that has two.

    Raises:
        DataError: no class has two images.
    """
    by_class: dict[int, list[Sample]] = {}
    for sample in samples:
        by_class.setdefault(sample.label, []).append(sample)
    learned: list[Sample] = []
    held_out: list[Sample] = []
    for label, members in sorted(by_class.items()):
        number = min(max(1, round(HELD_OUT * len(members))), len(members) - 1)
        drawn = set(random.Random(f"{seed} {label}").sample(range(len(members)), number))
        held_out += (sample for index, sample in enumerate(members) if index in drawn)
        learned += (sample for index, sample in enumerate(members) if index not in drawn)
    if not held_out:
        raise DataError("no class of this session has two training images, so that none can be held out; add some.")
    return learned, held_out


@dataclass(frozen=True)
class Trials:
    """All trials of one session.

    Attributes:
        options: options of the run; those of the method are replaced by each candidate's.
        stream: the sessions up to the one to learn, which is the last.
        lineage: the lineage of `generation`.
        generation: the generation before the session: every trial starts from it, and it is the teacher.
        out: folder of the figures.
        activations: folder in which activations of the frozen part are stored, or None.
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
        """Figures of a candidate after a number of epochs; it is trained unless they are stored already.

        Args:
            name: label of the candidate.
            method: `name` and options of its method.
            epochs: passes over the images.
            peek: whether it is evaluated on old and on test images too.

        Returns:
            mAP@R of held-out images as queries on the learned images as gallery: `plasticity`, both embedded by the
            candidate; `cross`, the gallery by the teacher; `cross_start`, both by the teacher. `agreement` of the two
            networks on the held-out images; `seconds` of learning; `peek`: the figures on old data, or None.
        """
        path = self._path(name, epochs)
        figures = read_json(path) if path.exists() else None
        if figures is not None and (figures["peek"] is not None or not peek):
            return figures
        began = time.perf_counter()
        network = self._learned(name, method, epochs)
        if figures is None:
            figures = {"seconds": round(time.perf_counter() - began, 3), **self._evaluated(network)}
        figures["peek"] = self._peeked(network) if peek else None
        write_json(path, figures)
        discard(path.with_suffix(".safetensors"))
        return figures

    @cached_property
    def old_gallery_before(self) -> float | None:
        """MAP@R of old test images on the old gallery, both embedded by the generation before the session."""
        test, gallery = self._old
        return finite(_map_at_r(self._old_queries(test), gallery))

    def _learned(self, name: str, method: Mapping[str, Any], epochs: int) -> Network:
        """Train a candidate on the images that are not held out."""
        training = self.options.training.model_copy(update={"increment_epochs": epochs})
        options = self.options.model_copy(update={"method": dict(method), "training": training})
        learner = make_method(options)
        self.lineage.restore(self.generation, learner)
        samples, _ = self.split
        session = replace(self.stream.sessions[-1], train=tuple(samples), test=())
        loader = ImageLoader(samples, options.images, train=True, cache=self._cache)
        if self._stored is not None:
            loader = self._stored.of(loader)
        checkpoint = self._path(name, epochs).with_suffix(".safetensors")
        learn(learner, session, loader, training, options.seed, checkpoint, f"{name}, {epochs} epochs")
        return learner.network

    def _path(self, name: str, epochs: int) -> Path:
        safe = re.sub(r"[^\w.,=+-]+", "_", name)
        return self.out / f"{safe}-e{epochs}.json"

    def _evaluated(self, network: Network) -> dict[str, float]:
        """Figures on the session's own images."""
        learned, held_out = (self._embed(network, samples) for samples in self.split)
        learned_o, held_out_o = self._teacher_split
        shared = np.intersect1d(held_out.indices, held_out_o.indices)  # images that could be decoded both times
        z_o, z_n = (part.vectors[np.isin(part.indices, shared)] for part in (held_out_o, held_out))
        return {
            "plasticity": _map_at_r(held_out, learned),
            "cross": _map_at_r(held_out, learned_o),
            "cross_start": _map_at_r(held_out_o, learned_o),
            "agreement": agreement(z_o, z_n),
        }

    def _peeked(self, network: Network) -> dict[str, float | None]:
        """Figures on old and test images."""
        began = time.perf_counter()
        step = len(self.stream.sessions) - 1
        test = self._embed(network, measurement.test_samples(self.stream))
        gallery = self._embed(network, measurement.gallery_samples(self.stream, step - 1))
        scores = measurement.groups(test, self.stream, step)
        queries, (_, old_gallery) = self._old_queries(test), self._old
        return {
            "before": self._old_score_before,
            "old": finite(scores.old.map_at_r),
            "new": finite(scores.new.map_at_r),
            "seen": finite(scores.seen.map_at_r),
            "old_gallery": _map_at_r(queries, old_gallery),
            "old_gallery_reindexed": _map_at_r(queries, gallery),
            "old_gallery_before": self.old_gallery_before,
            "seconds": round(time.perf_counter() - began, 3),
        }

    def _old_queries(self, test: Embeddings) -> Embeddings:
        """Test images of old classes that may be queries."""
        may_query, _ = measurement.test_flags(test, self.stream)
        return rows_where(test, may_query & (test.labels < self.stream.sessions[-1].first_label))

    @cached_property
    def _teacher(self) -> Network:
        network = self.lineage.network(self.generation)
        network.embedder.make_batch_invariant()  # the same bits whether or not activations are cached
        return network

    @cached_property
    def _teacher_split(self) -> tuple[Embeddings, Embeddings]:
        learned, held_out = (self._embed(self._teacher, samples) for samples in self.split)
        return learned, held_out

    @cached_property
    def _old(self) -> tuple[Embeddings, Embeddings]:
        """Test images and the old gallery, embedded before the session."""
        step = len(self.stream.sessions) - 1
        test = self._embed(self._teacher, measurement.test_samples(self.stream))
        return test, self._embed(self._teacher, measurement.gallery_samples(self.stream, step - 1))

    @cached_property
    def _old_score_before(self) -> float | None:
        """MAP@R of the old classes before the session."""
        scores = measurement.groups(self._old[0], self.stream, len(self.stream.sessions) - 1)
        return finite(scores.old.map_at_r)

    @cached_property
    def _cache(self) -> Cache:
        return Cache(self.options.images.cache_mb)

    @cached_property
    def _stored(self) -> Activations | None:
        """Stored activations of the frozen part, if there is one and a folder for them."""
        if self.activations is None or self.options.network.frozen is None:
            return None
        return Activations(self.activations, self._teacher.embedder, self.options.images)

    def _embed(self, network: Network, samples: Sequence[Sample]) -> Embeddings:
        return Encoder(network.embedder, self.options.images).embed(samples, self._cache, self._stored)


def _map_at_r(queries: Embeddings, gallery: Embeddings) -> float:
    """MAP@R. The two may be embedded by different networks: how well these can be compared is what is measured."""
    scores = evaluate_query_gallery(queries.vectors, queries.labels, gallery.vectors, gallery.labels)
    return float(scores.map_at_r)
