"""A run: one method learns every session of a stream, and every generation is measured. Start reading at `run`.

The folder of a run holds `config.json`, `generations/g0 …`, `measured/g0.safetensors …` (embeddings),
`measured/g1.bridge.safetensors …` (the map to the parent's space), `reference.json` (the backbone without training)
and `result.json`. Started again with the same options, a run resumes where it was interrupted.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scrubjay import bridges as maps
from scrubjay.data.loading import Cache, ImageLoader
from scrubjay.data.stream import Stream, data_hash
from scrubjay.errors import ConfigError, DataError, ImageError
from scrubjay.experiments import cross_generation, measurement
from scrubjay.experiments import result as results
from scrubjay.experiments.measurement import Measured
from scrubjay.experiments.options import ExperimentOptions, load_stream, make_method
from scrubjay.experiments.phases import Phase
from scrubjay.experiments.run_folder import check_initial_session, claim, read_record
from scrubjay.generations.generation import Generation, SessionRecord
from scrubjay.generations.lineage import Lineage
from scrubjay.io.atomic import write_json
from scrubjay.io.locking import locked
from scrubjay.methods import Method
from scrubjay.models.activations import Activations
from scrubjay.models.embedder import Network
from scrubjay.models.embedding import Encoder, space_fingerprint
from scrubjay.training import adopt, discard, learn
from scrubjay.types import Embeddings, Sample, Session
from scrubjay.workers import HERE, Workers

__all__ = ["ExperimentOptions", "load_stream", "make_method", "run"]

logger = logging.getLogger(__name__)


def run(
    options: ExperimentOptions,
    out: Path,
    start: Path | None = None,
    activations: Path | None = None,
    workers: Workers = HERE,
) -> dict[str, Any]:
    """Learn every session of a stream without the images of earlier ones, and measure after each.

    Args:
        options: all options.
        out: folder of the run. Work that is complete there is not repeated.
        start: folder of a run with the same options but for those of the method; its initial session is used in place
            of learning it.
        activations: folder in which the activations of the network's frozen part are stored, which runs may share;
            None: they are computed every time. The result is the same.
        workers: processes that compute each training step together, or the features of images; see `training.learn`.

    Returns:
        What `result.json` holds.

    Raises:
        UserError: `out` holds a run with other options, another process is working in it, or the initial session of
            `start` cannot be used.
    """
    if activations is not None and not workers.here:
        raise ConfigError("stored activations are read by one process: give activations or several workers, not both.")
    stream, root = load_stream(options)
    learner = make_method(options)  # refuses wrong options before the folder is created
    with locked(out):
        claim(out, options.model_dump(mode="json"))
        stored = None
        if activations is not None and options.network.frozen is not None:
            stored = Activations(activations, learner.network.embedder, options.images)
        lineage = Lineage(out / "generations")
        current = _Run(options, out, stream, root, lineage, Cache(options.images.cache_mb), stored, workers)
        reference = current.reference(learner.network)
        if start is not None and not lineage.generations():
            current.reuse_initial_session(start, learner)
        done = len(lineage.generations())
        for session in stream.sessions:
            if session.index < done:
                generation = lineage.get(f"g{session.index}")
                if session.index == done - 1 or not current.is_measured(generation):
                    lineage.restore(generation, learner)
            else:
                generation = current.learn(learner, session)
            current.measure(generation, learner.network)
            if session.index > 0:
                current.fit_bridge(generation, learner.network)
        return current.write_result(reference)


@dataclass(frozen=True)
class _Run:
    """What every step of a run needs.

    Attributes:
        options: all options.
        out: folder of the run.
        stream: what is learned.
        root: folder that the image paths of the stream are relative to.
        lineage: the generations learned so far.
        cache: decoded images.
        activations: of the network's frozen part; None: they are computed every time.
        workers: processes that learn together.
    """

    options: ExperimentOptions
    out: Path
    stream: Stream
    root: Path
    lineage: Lineage
    cache: Cache
    activations: Activations | None
    workers: Workers

    def reuse_initial_session(self, start: Path, learner: Method) -> None:
        """Use the initial session of another run; what the method stores of a session is computed here."""
        check_initial_session(start, self.options)
        lineage = Lineage(start / "generations")
        other = lineage.get("g0")
        lineage.load(other, learner.network)
        session = self.stream.sessions[0]
        adopt(learner, session, self._loader(session.train), self.options.seed)
        for measured in sorted((start / "measured").glob("g0.*")):
            (self.out / "measured").mkdir(exist_ok=True)
            shutil.copy2(measured, self.out / "measured")
        self.lineage.add(learner, other.info.record.model_copy(update={"method": self.options.method}))

    def learn(self, learner: Method, session: Session) -> Generation:
        """Learn one session, or finish it from its checkpoint, and store the generation."""
        options, index = self.options, session.index
        old = measurement.gallery_samples(self.stream, index - 1) if learner.needs_old_images else []
        samples = [*old, *session.train]
        checkpoint = self.out / f"session{index}.safetensors"
        loader = self._loader(samples)
        phase = Phase(index, "learn")
        key = f"session {index}"
        learned = learn(learner, session, loader, options.training, options.seed, checkpoint, key, self.workers)
        entry = phase.record(learned.images)
        generation = self.lineage.add(
            learner,
            SessionRecord(
                method=options.method,
                images=options.images,
                training=options.training.model_dump(mode="json"),
                seed=options.seed,
                fingerprint=space_fingerprint(learner.network.embedder, options.images),
                data_hash=data_hash(samples, self.root),
                classes=tuple(name for each in self.stream.sessions[: index + 1] for name in each.classes),
                new_classes=session.classes,
                image_count=len(samples),
                curves=learned.curves,
                broken=learned.failures,
                phase=entry,
            ),
        )
        for finished in self.out.glob("session*"):  # also what was left by a kill just after a generation
            discard(finished.with_suffix(".safetensors"))
        return generation

    def is_measured(self, generation: Generation) -> bool:
        """Whether the embeddings by a generation are complete."""
        return self._measured(generation).exists() and self._measured(generation, ".json").exists()

    def measure(self, generation: Generation, network: Network) -> None:
        """Embed and store the test images and the gallery, unless that is done already."""
        if self.is_measured(generation):
            return
        phase = Phase(generation.number, "embed")
        tested = measurement.test_samples(self.stream)
        gallery = measurement.gallery_samples(self.stream, generation.number)
        measured = Measured(self._embed(network, tested), self._embed(network, gallery))
        measured.save(self._measured(generation))
        write_json(self._measured(generation, ".json"), phase.record(len(tested) + len(gallery)))

    def fit_bridge(self, generation: Generation, network: Network) -> None:
        """Fit and store the map to the parent's space, from the session's training images alone, unless done already.

        Where these images can no longer be read, there is no bridge, and the figures over bridges are not measured.
        """
        if self._measured(generation, ".bridge.json").exists():
            return
        phase = Phase(generation.number, "bridge")
        parent = self.lineage.network(self.lineage.get(f"g{generation.number - 1}"))
        parent.embedder.make_batch_invariant()  # the same bits whether or not activations are cached
        parent.to(next(network.parameters()).device)
        samples = self.stream.sessions[generation.number].train
        try:
            choice = cross_generation.fit_bridge(
                Measured.load(self._measured(generation)),
                self._embed(parent, samples),
                self.stream,
                generation.number,
            )
        except (DataError, ImageError) as error:
            logger.warning("%s has no bridge to its parent: %s", generation.name, error)
            return
        maps.save(self._measured(generation, ".bridge.safetensors"), {"to_parent": choice.bridge})
        chosen = {"kind": choice.bridge.kind, "figures": choice.figures}
        entry = {"chosen": chosen, "phase": phase.record(len(samples))}
        write_json(self._measured(generation, ".bridge.json"), entry)

    def reference(self, network: Network) -> dict[str, Any]:
        """Figures of the backbone's own features: groups at the last session, and each session before any training."""
        path = self.out / "reference.json"
        if not path.exists():
            tested = measurement.test_samples(self.stream)
            encoder = Encoder(network.embedder, self.options.images)
            features = encoder.embed_backbone(tested, self.cache, self.activations)
            scores = measurement.groups(features, self.stream, len(self.stream.sessions) - 1)
            write_json(path, {"groups": measurement.group_figures(scores), "sessions": measurement.by_session(scores)})
        return read_record(path)

    def write_result(self, reference: dict[str, Any]) -> dict[str, Any]:
        """Compute all figures from what is stored of every generation, and write `result.json`."""
        records = [self._record(generation) for generation in self.lineage.generations()]
        result = results.build(self.options, self.stream, records, reference)
        write_json(self.out / "result.json", result)
        return result

    def _record(self, generation: Generation) -> results.GenerationRecord:
        measured = Measured.load(self._measured(generation))
        phases = [read_record(self._measured(generation, ".json"))]
        description = self._measured(generation, ".bridge.json")
        if not description.exists():
            return results.GenerationRecord(generation, measured, phases, None, None)
        entry = read_record(description)
        bridge = maps.load(self._measured(generation, ".bridge.safetensors"))["to_parent"]
        return results.GenerationRecord(generation, measured, [*phases, entry["phase"]], bridge, entry["chosen"])

    def _embed(self, network: Network, samples: Sequence[Sample]) -> Embeddings:
        encoder = Encoder(network.embedder, self.options.images)
        return encoder.embed(samples, self.cache, self.activations)

    def _loader(self, samples: Sequence[Sample]) -> ImageLoader:
        loader = ImageLoader(samples, self.options.images, train=True, cache=self.cache)
        return loader if self.activations is None else self.activations.of(loader)

    def _measured(self, generation: Generation, suffix: str = ".safetensors") -> Path:
        return self.out / "measured" / f"{generation.name}{suffix}"
