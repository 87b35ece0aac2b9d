"""One session of a catalogue: learn new classes, measure them, fit bridges to the parent, keep probe images."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.bridges import Bridge, PairedEmbeddings, choose, learned
from scrubjay.components.accumulation import Accumulation
from scrubjay.data.loading import Cache, ImageLoader, readable
from scrubjay.data.photos import read_photos
from scrubjay.data.stream import data_hash, extend
from scrubjay.errors import ConfigError
from scrubjay.evaluation.retrieval import evaluate_query_gallery
from scrubjay.generations.generation import BridgeRecord, Generation, SessionRecord
from scrubjay.generations.session_embeddings import SessionEmbeddings, SplitEmbeddings
from scrubjay.generations.session_statistics import TrainingImages
from scrubjay.learning.aligned import identity_bridges
from scrubjay.learning.bridge_pairs import gallery_pairs
from scrubjay.learning.relabelled import relabel
from scrubjay.learning.training_images import training_images, without_known
from scrubjay.methods import Method, method
from scrubjay.models.embedder import Network, NetworkOptions
from scrubjay.models.embedding import Encoder
from scrubjay.training import discard, learn, seeded
from scrubjay.types import Sample, Session, TrunkFeatures
from scrubjay.workers import HERE, Workers
from scrubjay.workspace.removal_request import RemovalRequest
from scrubjay.workspace.workspace import Workspace

HELD_OUT = 0.15
"""Share of the images of a folder that are held out from training."""
KEPT = 5000
"""Number of training images whose embeddings are stored with a generation; more do not make bridges better."""


def default_method(network: NetworkOptions) -> str:
    """The method that a first session takes: whichever was best on the bench with such a network.

    Args:
        network: options of the network.
    """
    if network.features != "last":
        return "slda"
    return "mmd" if network.frozen is None else "moments"


@dataclass(frozen=True, slots=True)
class SessionLearner:
    """Learns one session of a catalogue.

    Attributes:
        workspace: the open catalogue.
        parent: generation that is trained further; None for the first session.
        workers: where the trunk features of the images are computed, for methods that learn in closed form.
    """

    workspace: Workspace
    parent: Generation | None
    workers: Workers = HERE

    @property
    def name(self) -> str:
        """Name of the generation that is made."""
        newest = self.workspace.lineage.newest
        return f"g{0 if newest is None else newest.number + 1}"

    @property
    def checkpoint(self) -> Path:
        """File from which interrupted learning is resumed."""
        return self.workspace.folder / f"session-{self.name}.safetensors"

    def learn(self, photos: Path, method_name: str | None, settings: Mapping[str, Any]) -> Generation:
        """Learn the classes of a folder or table; see `Catalogue.learn`."""
        RemovalRequest.refuse_pending(self.workspace.folder)
        options = self.workspace.options
        previous = None if self.parent is None else str(self.parent.info.method["name"])
        name = method_name or previous or default_method(options.network)
        kind = method(name)
        accumulates = issubclass(kind, Accumulation) and kind.keeps_statistics
        if self.workers.ray is not None and not accumulates:
            raise ConfigError(
                f"method {name!r} takes gradient steps, which are not computed on Ray: give --processes or use "
                "`accelerate launch`, or take a method in closed form such as slda."
            )
        if kind.needs_old_images:
            raise ConfigError(
                f"method {name!r} trains on the images of all sessions, which a catalogue does not keep; take slda."
            )
        if kind.has_memory and previous not in (None, name):
            raise ConfigError(
                f"method {name!r} protects only what was learned with it, and the generation to be trained further was "
                f"learned with {previous!r}: go on with {previous!r}, or take a method without a memory, such as mmd."
            )
        if kind.has_memory and self.parent is not None and self.parent.info.weights_only:
            raise ConfigError(f"{self.parent.name} was pulled with weights only: {name!r} cannot go on; take mmd.")
        settings_of_method = kind.Options.parse(settings, f"method {name}")
        dataset = read_photos(photos, HELD_OUT)
        number = int(self.name.removeprefix("g"))
        known = tuple(dict.fromkeys(self._known)) if accumulates else self._known
        session = extend(known, dataset, number, more_of_known=accumulates)
        repeats = 0
        if accumulates:
            session, repeats = without_known(session, (*known, *session.classes), self._known_images())
        with seeded(options.seed):
            fresh = {} if self.parent is None else {"pretrained": False}
            network = Network(options.network.model_copy(update=fresh))
        learner = kind(network, settings_of_method)
        if self.parent is not None:
            self.workspace.lineage.restore(self.parent, learner)
        if known != self._known and isinstance(learner, Accumulation):  # classes were merged: they are one from now on
            relabel(learner, self._known, known)
        chosen = {"name": name, **settings_of_method.model_dump(mode="json")}
        return self._train(learner, session, dataset.root, chosen, known, repeats)

    @property
    def _known(self) -> tuple[str, ...]:
        """Names of the classes that the parent has learned, in the order of the rows of its head."""
        return self.parent.classes if self.parent else ()

    def _known_images(self) -> set[str]:
        """Content hashes of the images on the parent's line that were learned from or are probe images."""
        if self.parent is None:
            return set()
        workspace = self.workspace
        probes = workspace.probe_set.probes(workspace.lineage.line(self.parent.name))
        learned_from = (workspace.lineage.statistics.hashes(name) for name in self.parent.info.statistics)
        return {probe.id for probe in probes}.union(*learned_from)

    def _train(
        self, learner: Method, session: Session, root: Path, chosen: dict[str, Any], known: tuple[str, ...], left: int
    ) -> Generation:
        options, checkpoint = self.workspace.options, self.checkpoint
        for stale in interrupted_sessions(self.workspace.folder):  # left by a kill just after a generation
            if stale != checkpoint:
                discard(stale)
        content = data_hash(session.train, root)
        loader = ImageLoader(session.train, options.images, train=True)
        tests, unreadable = readable(ImageLoader(session.test, options.images, train=False, cache=loader.cache))
        session = replace(session, test=tuple(tests))
        began = time.perf_counter()
        key = self._work_key(content, chosen)
        if isinstance(learner, Accumulation) and learner.keeps_statistics and options.keep_training_features:
            learner.kept_features = []
        result = learn(learner, session, loader, options.training, options.seed, checkpoint, key, self.workers)
        seconds = time.perf_counter() - began
        encoder = Encoder(learner.network.embedder, options.images)
        classes = (*known, *session.classes)
        extended = {sample.label for sample in session.train} - set(session.labels)
        record = SessionRecord(
            fingerprint=encoder.fingerprint,
            classes=classes,
            new_classes=session.classes,
            extended_classes=tuple(classes[label] for label in sorted(extended)),
            known_images=left,
            method=chosen,
            seed=options.seed,
            images=options.images,
            training=options.training.model_dump(mode="json"),
            data_hash=content,
            image_count=len(session.train),
            seconds=round(seconds, 1),
            curves=result.curves,
            broken=(*result.failures, *unreadable),
        )
        decoded, images = replace(session, train=result.samples), None
        if isinstance(learner, Accumulation) and learner.keeps_statistics:
            images = training_images(result.samples, learner.kept_features)
        generation = self._add(learner, encoder, decoded, loader.cache, record, images)
        discard(checkpoint)
        return generation

    def _work_key(self, content: str, chosen: dict[str, Any]) -> str:
        """Names the work, so that a checkpoint of other data or other options is refused."""
        options = self.workspace.options
        trained = {name: getattr(options, name).model_dump(mode="json") for name in ("images", "network", "training")}
        parent = self.parent.name if self.parent else None
        work = json.dumps([content, chosen, trained, options.seed, parent])
        return hashlib.blake2b(work.encode(), digest_size=16).hexdigest()

    def _add(
        self,
        learner: Method,
        encoder: Encoder,
        session: Session,
        cache: Cache,
        record: SessionRecord,
        images: TrainingImages | None,
    ) -> Generation:
        """Measure the session, fit the bridges, keep the probe images, and write the generation."""
        workspace = self.workspace
        parent = None if self.parent is None else workspace.encoder(self.parent)
        chosen = _balanced(session.train)
        learned = None if images is None or images.features is None else images.features[chosen, 0].float().numpy()
        embeddings = SessionEmbeddings(
            train=_embedded(encoder, parent, [session.train[position] for position in chosen], cache, learned),
            test=_embedded(encoder, parent, session.test, cache),
        )
        bridges, records = self._bridges(learner, encoder, embeddings)
        held_out = [(sample, record.classes[sample.label]) for sample in session.test]
        workspace.probe_set.keep(self.name, held_out, workspace.options.probe, encoder.embed_crops)
        measured = {"new": _measure(embeddings, "new"), "new_before": _measure(embeddings, "old")}
        record = record.model_copy(update={"measured": measured, "bridges": records})
        return workspace.lineage.add(
            learner, record, self.parent, bridges=bridges, embeddings=embeddings, images=images
        )

    def _bridges(
        self, learner: Method, encoder: Encoder, embeddings: SessionEmbeddings
    ) -> tuple[dict[str, Bridge], dict[str, BridgeRecord]]:
        """The best maps to the parent's space and back, and the figures of all kinds that were compared."""
        if self.parent is None or embeddings.train is None:
            return {}, {}
        if learner.aligned_over_one_trunk and self.workspace.encoder(self.parent).era == encoder.era:
            return identity_bridges()
        projection = learned({key: value for key, value in learner.state_dict().items() if key.startswith("bridge.")})
        gallery = gallery_pairs(self.workspace, self.parent, encoder)
        bridges, records = {}, {}
        for direction, (source, target) in {"to_parent": ("new", "old"), "from_parent": ("old", "new")}.items():
            extra = {"projection": projection} if projection is not None and direction == "to_parent" else {}
            sample = gallery if gallery is None or source == "old" else gallery.reversed()
            fitted_on = _pairs(embeddings.train, source, target)
            judged_on = (
                fitted_on.where(np.zeros(0, np.int64))
                if embeddings.test is None
                else _pairs(embeddings.test, source, target)
            )
            choice = choose(fitted_on, judged_on, extra=extra, sample=sample)
            bridges[direction] = choice.bridge
            records[direction] = BridgeRecord(chosen=choice.bridge.kind, figures=choice.figures)
        return bridges, records


def interrupted_sessions(folder: Path) -> list[Path]:
    """Checkpoints of sessions of a catalogue whose learning was interrupted; see `scrubjay.training.learn`."""
    return sorted({path.with_suffix(".safetensors") for path in folder.glob("session-g*")})


def _embedded(
    encoder: Encoder,
    parent: Encoder | None,
    samples: Sequence[Sample],
    cache: Cache,
    learned: NDArray[np.float32] | None = None,
) -> SplitEmbeddings | None:
    """Embeddings of images by the new network and by the parent's; None without images.

    Args:
        encoder: the new network.
        parent: the parent's.
        samples: the images.
        cache: cache of decoded images.
        learned: (N, p) trunk features of the images by the new network, where they are known.
    """
    if not samples:
        return None
    if learned is None:
        found = encoder.features(samples, cache)
    else:
        labels = np.array([sample.label for sample in samples], dtype=np.int64)
        found = TrunkFeatures(learned, labels, encoder.era, np.arange(len(samples)))
    old = None
    if parent is not None:
        same = parent.era == encoder.era
        old = parent.project(found.features) if same else parent.embed(samples, cache).vectors
    paths = tuple(str(samples[index].path) for index in found.indices)
    return SplitEmbeddings(found.labels, paths, encoder.project(found.features), old)


def _balanced(samples: Sequence[Sample]) -> list[int]:
    """Positions of at most `KEPT` of the images, the same number of each class as far as possible."""
    if len(samples) <= KEPT:
        return list(range(len(samples)))
    turn: dict[int, int] = {}
    ranked = []
    for position, sample in enumerate(samples):
        turn[sample.label] = turn.get(sample.label, 0) + 1
        ranked.append((turn[sample.label], position))
    return sorted(position for _, position in sorted(ranked)[:KEPT])


def _pairs(split: SplitEmbeddings, source: str, target: str) -> PairedEmbeddings:
    return PairedEmbeddings(getattr(split, source), getattr(split, target), split.labels)


def _measure(embeddings: SessionEmbeddings, name: str) -> dict[str, Any] | None:
    """Held-out images of the new classes against the training images; None where none were held out."""
    train, test = embeddings.train, embeddings.test
    if train is None or test is None or getattr(test, name) is None:
        return None
    return evaluate_query_gallery(getattr(test, name), test.labels, getattr(train, name), train.labels).to_dict()
