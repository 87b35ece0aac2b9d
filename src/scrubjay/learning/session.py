"""One session of a catalogue: learn it, measure it, fit the bridges to its parent, keep its probe images."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scrubjay.bridges import Bridge, Judged, choose, learned
from scrubjay.data.loading import Cache, ImageLoader, readable
from scrubjay.data.photos import read_photos
from scrubjay.data.stream import data_hash, extend
from scrubjay.errors import ConfigError
from scrubjay.evaluation.retrieval import evaluate_query_gallery
from scrubjay.gate.probe_set import ProbeSet
from scrubjay.generations.lineage import Generation, Lineage
from scrubjay.methods import Method, method
from scrubjay.models.embedder import Embedder, Network
from scrubjay.models.embedding import embed, embed_crops, space_fingerprint
from scrubjay.training import learn, seeded
from scrubjay.types import Dataset, Sample, Session
from scrubjay.workspace.options import CatalogueOptions

HELD_OUT = 0.15
"""Share of the images of a folder that are not learned from."""
KEPT = 5000
"""Images of a session whose embeddings stay with its generation: bridges need no more."""

Pairs = Callable[[Embedder], Judged | None]
"""A new embedder → items of the gallery as they are stored by the parent, and as it embeds them."""


@dataclass(frozen=True)
class Learning:
    """What learning needs beside the session.

    Attributes:
        folder: of the catalogue.
        options: of the catalogue.
        lineage: of the catalogue.
        parent: what is trained further; None for the first.
        pairs: gallery items on which bridges are judged too; None without a parent.
    """

    folder: Path
    options: CatalogueOptions
    lineage: Lineage
    parent: Generation | None
    pairs: Pairs | None

    @property
    def name(self) -> str:
        """Of the generation that is made."""
        newest = self.lineage.newest
        return f"g{0 if newest is None else newest.number + 1}"

    def checkpoint(self) -> Path:
        """Where learning that is cut short goes on from."""
        return self.folder / f"session-{self.name}.safetensors"

    def learn(self, photos: Path, method_name: str | None, settings: Mapping[str, Any]) -> Generation:
        """Learn the classes of a folder or table; see `Catalogue.learn`."""
        before = self.parent.info["method"]["name"] if self.parent else None
        name = method_name or before or ("mmd" if self.options.network.frozen is None else "moments")
        kind = method(name)
        if kind.needs_old_images:
            raise ConfigError(f"method {name!r} needs the old images, a catalogue keeps none; take mmd.")
        if kind.remembers and before not in (None, name):
            raise ConfigError(
                f"method {name!r} protects what was learned with it, and what is to be trained further was learned "
                f"with {before!r}: go on with {before!r}, or take a method that keeps nothing, for instance mmd."
            )
        options = kind.Options.parse(settings, f"method {name}")
        dataset = read_photos(photos, HELD_OUT)
        number = int(self.name.removeprefix("g"))
        session = extend(self.parent.classes if self.parent else (), dataset, number)
        with seeded(self.options.seed):
            fresh = {} if self.parent is None else {"pretrained": False}
            network = Network(self.options.network.model_copy(update=fresh))
        learner = kind(network, options)
        if self.parent is not None:
            self.lineage.restore(self.parent, learner)
        return self._learned(learner, session, dataset, {"name": name, **options.model_dump(mode="json")})

    def _learned(self, learner: Method, session: Session, dataset: Dataset, chosen: dict[str, Any]) -> Generation:
        images, checkpoint = self.options.images, self.checkpoint()
        for stale in self.folder.glob("session-g*.safetensors"):  # of a generation that was made just before a kill
            if stale != checkpoint:
                stale.unlink()
        content = data_hash(session.train, dataset.root)
        parent = self.parent.name if self.parent else None
        trained = {
            name: getattr(self.options, name).model_dump(mode="json") for name in ("images", "network", "training")
        }
        work = json.dumps([content, chosen, trained, self.options.seed, parent])
        loader = ImageLoader(session.train, images, train=True)
        tests, unreadable = readable(ImageLoader(session.test, images, train=False, cache=loader.cache))
        session = replace(session, test=tuple(tests))
        began = time.perf_counter()
        key = hashlib.blake2b(work.encode(), digest_size=16).hexdigest()
        found = learn(learner, session, loader, self.options.training, self.options.seed, checkpoint, key=key)
        seconds = time.perf_counter() - began
        info = {
            "method": chosen,
            "options": self.options.model_dump(mode="json"),
            "seed": self.options.seed,
            "fingerprint": space_fingerprint(learner.network.embedder, images),
            "data_hash": content,
            "classes": [*(self.parent.classes if self.parent else ()), *session.classes],
            "new_classes": list(session.classes),
            "images": len(session.train),
            "seconds": round(seconds, 1),
            "curves": found.curves,
            "broken": [*found.failures, *unreadable],
        }
        generation = self._made(learner, session, loader.cache, info)
        checkpoint.unlink(missing_ok=True)
        return generation

    def _made(self, learner: Method, session: Session, cache: Cache, info: dict[str, Any]) -> Generation:
        embedder = learner.network.embedder
        embedders = {"new": embedder}
        if self.parent is not None:
            embedders["old"] = self.lineage.network(self.parent).embedder
        embedded = _session(embedders, session, self.options, cache)
        bridges, figures = self._bridges(learner, embedded)
        measured = {"new": _measure(embedded, "new"), "new_before": _measure(embedded, "old")}
        held_out = [(sample, session.classes[sample.label - session.first_label]) for sample in session.test]

        def crops(samples: Sequence[Sample], number: int) -> NDArray[np.float32]:
            return embed_crops(embedder, samples, self.options.images, number)

        ProbeSet(self.folder / "probe").keep(self.name, held_out, self.options.probe, crops)
        return self.lineage.add(
            learner,
            {**info, "measured": measured, "bridges": figures},
            self.parent,
            bridges=bridges,
            embedded=embedded,
        )

    def _bridges(self, learner: Method, embedded: dict[str, Tensor]) -> tuple[dict[str, Bridge], dict[str, Any]]:
        """The best maps to the parent's space and from it, and the figures of all that were tried."""
        if self.parent is None:
            return {}, {}
        taught = learned({key: value for key, value in learner.state_dict().items() if key.startswith("bridge.")})
        extra = {"to_parent": {} if taught is None else {"projection": taught}, "from_parent": {}}
        pairs = None if self.pairs is None else self.pairs(learner.network.embedder)
        bridges, figures = {}, {}
        for direction, (source, target) in {"to_parent": ("new", "old"), "from_parent": ("old", "new")}.items():
            judged = None if pairs is None else pairs if source == "old" else pairs.reversed()
            choice = choose(
                _judged(embedded, "train", source, target),
                _judged(embedded, "test", source, target),
                extra=extra[direction],
                sample=judged,
            )
            bridges[direction], figures[direction] = (
                choice.bridge,
                {"chosen": choice.bridge.kind, "figures": choice.figures},
            )
        return bridges, figures


def _session(
    embedders: dict[str, Embedder], session: Session, options: CatalogueOptions, cache: Cache
) -> dict[str, Tensor]:
    """Embeddings of the session's images by each embedder, their labels, and where they were."""
    found: dict[str, Tensor] = {}
    for part, samples in {"train": _balanced(session.train), "test": session.test}.items():
        for name, embedder in embedders.items():
            if not samples:
                continue
            vectors = embed(embedder, samples, options.images, cache)
            found[f"{part}.{name}"] = torch.from_numpy(vectors.vectors)
            found[f"{part}.labels"] = torch.from_numpy(vectors.labels)
            places = "\0".join(str(samples[index].path) for index in vectors.indices)
            found[f"{part}.paths"] = torch.frombuffer(bytearray(os.fsencode(places)), dtype=torch.uint8)
    return found


def _balanced(samples: Sequence[Sample]) -> Sequence[Sample]:
    """At most `KEPT` of them, as many of each class as can be."""
    if len(samples) <= KEPT:
        return samples
    turn: dict[int, int] = {}
    ranked = []
    for position, sample in enumerate(samples):
        turn[sample.label] = turn.get(sample.label, 0) + 1
        ranked.append((turn[sample.label], position))
    return [samples[position] for _, position in sorted(sorted(ranked)[:KEPT], key=lambda each: each[1])]


def _judged(embedded: dict[str, Tensor], part: str, source: str, target: str) -> Judged:
    if f"{part}.labels" not in embedded:
        dims = {name: embedded[f"train.{name}"].shape[1] for name in (source, target)}
        none_of_source, none_of_target = (np.empty((0, dims[name]), np.float32) for name in (source, target))
        return Judged(none_of_source, none_of_target, np.empty(0, np.int64))
    return Judged(
        embedded[f"{part}.{source}"].numpy(), embedded[f"{part}.{target}"].numpy(), embedded[f"{part}.labels"].numpy()
    )


def _measure(embedded: dict[str, Tensor], name: str) -> dict[str, Any] | None:
    """Held-out images of the new classes against those learned from; None when none are held out."""
    if f"test.{name}" not in embedded:
        return None
    queries, gallery = (embedded[f"{part}.{name}"].numpy() for part in ("test", "train"))
    labels, known = (embedded[f"{part}.labels"].numpy() for part in ("test", "train"))
    return evaluate_query_gallery(queries, labels, gallery, known).to_dict()
