"""A run: every session of a stream learned by one method and measured. Read `run` first; it is the whole thing.

In the folder of a run lie `config.json`, `generations/g0 …`, `measured/g0.safetensors …` (embeddings),
`reference.json` (the backbone without training) and `result.json`. Run again, it goes on where it was cut.
"""

from __future__ import annotations

import json
import logging
import resource
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from scrubjay.config import Config, difference
from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import Cache, ImageLoader
from scrubjay.data.sources import source
from scrubjay.data.stream import Stream, StreamOptions, data_hash, split
from scrubjay.errors import CheckpointError, ConfigError, UserError
from scrubjay.experiments import measurement
from scrubjay.experiments.measurement import Measured
from scrubjay.generations.generation import Generation, SessionRecord
from scrubjay.generations.lineage import Lineage, class_means, versions
from scrubjay.io.atomic import write_json
from scrubjay.io.locking import locked
from scrubjay.methods import Method, method
from scrubjay.models.activations import Activations
from scrubjay.models.checkpoint import load_into, load_tensors
from scrubjay.models.embedder import Network, NetworkOptions
from scrubjay.models.embedding import embed, embed_backbone, space_fingerprint
from scrubjay.training import TrainingOptions, adopt, learn, seeded
from scrubjay.types import Sample, Session

logger = logging.getLogger(__name__)

_AT_THE_START = ("metric", "metric_options", "metric_weight", "margin", "mining")
"""Options of every method that count in the initial session too."""


class ExperimentOptions(Config):
    """All options of a run: what a recipe may set."""

    name: str = "experiment"
    """For people; it names the run in tables and reports."""
    seed: int = Field(0, ge=0)
    """Of weights, batches and augmentation. The order of classes has its own: `stream.seed`."""
    source: dict[str, Any]
    """`name` of a source and its options."""
    stream: StreamOptions
    """How classes come."""
    images: ImageOptions = ImageOptions()
    """How images are prepared."""
    network: NetworkOptions = NetworkOptions()
    """What is trained."""
    method: dict[str, Any] = Field(default={"name": "moments"})
    """`name` of a method and its options."""
    training: TrainingOptions = TrainingOptions()
    """How each session is learned."""

    @field_validator("source", mode="after")
    @classmethod
    def _resolve_source(cls, value: dict[str, Any]) -> dict[str, Any]:
        name, options = _named(value, "source")
        return {"name": name, **source(name).parse(options, "source").model_dump(mode="json")}

    @field_validator("method", mode="after")
    @classmethod
    def _resolve_method(cls, value: dict[str, Any]) -> dict[str, Any]:
        name, options = _named(value, "method")
        return {"name": name, **method(name).Options.parse(options, "method").model_dump(mode="json")}


def _named(value: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(value.get("name"), str):
        raise ConfigError(f"{where}: key 'name' is missing; `scrubjay {where}s` lists what there is.")
    return value["name"], {key: item for key, item in value.items() if key != "name"}


def run(
    options: ExperimentOptions, out: Path, start: Path | None = None, activations: Path | None = None
) -> dict[str, Any]:
    """Learn every session of a stream without the images of earlier ones, and measure after each.

    Args:
        options: everything.
        out: folder of the run. What is done there is not done again.
        start: folder of a run whose initial session is the same but for the method; its g0 is taken over.
        activations: folder where those of the network's frozen part are kept, which runs may share; none: they are
            computed every time. The result is the same.

    Returns:
        What `result.json` holds.

    Raises:
        UserError: `out` holds a run with other options, another process is at work there, or `start` began
            differently.
    """
    stream, root = load_stream(options)
    learner = make_method(options)  # what is wrong with the options is said before the folder is taken
    with locked(out):
        _claim(out, options)
        cache, kept = Cache(options.images.cache_mb), None
        if activations is not None and options.network.frozen is not None:
            kept = Activations(activations, learner.network.embedder, options.images)
        going = _Run(options, out, stream, root, Lineage(out / "generations"), cache, kept)
        reference = going.reference(learner.network)
        if start is not None and not going.lineage.generations():
            going.take_over(start, learner)
        done = len(going.lineage.generations())
        for session in stream.sessions:
            if session.index < done:
                generation = going.lineage.get(f"g{session.index}")
                if session.index == done - 1 or not going.is_measured(generation):
                    going.lineage.restore(generation, learner)
            else:
                generation = going.learn(learner, session)
            going.measure(generation, learner.network)
        return going.result(reference)


def load_stream(options: ExperimentOptions) -> tuple[Stream, Path]:
    """The stream of a run, and the folder that its paths are relative to."""
    name, fields = _named(options.source, "source")
    dataset = source(name).parse(fields, "source").load()
    return split(dataset, options.stream), dataset.root


def make_method(options: ExperimentOptions) -> Method:
    """The method of a run around a fresh network, the same for the same seed."""
    name, fields = _named(options.method, "method")
    with seeded(options.seed):
        network = Network(options.network)
    kind = method(name)
    return kind(network, kind.Options.parse(fields, "method"))


@dataclass(frozen=True)
class _Run:
    """What every step of a run needs."""

    options: ExperimentOptions
    out: Path
    stream: Stream
    root: Path
    lineage: Lineage
    cache: Cache
    activations: Activations | None

    def take_over(self, start: Path, learner: Method) -> None:
        """Take the initial session of another run for one's own; what the method keeps of it is made here."""
        _check_start(start, self.options)
        theirs = Lineage(start / "generations").get("g0")
        weights = theirs.folder / "network.safetensors"
        load_into(learner.network, load_tensors(weights, f"run {start} again")[0], weights)
        session = self.stream.sessions[0]
        adopt(learner, session, self._loader(session.train), self.options.seed)
        for measured in sorted((start / "measured").glob("g0.*")):
            (self.out / "measured").mkdir(exist_ok=True)
            shutil.copy2(measured, self.out / "measured")
        self.lineage.add(learner, theirs.info.record.model_copy(update={"method": self.options.method}))

    def _loader(self, samples: Sequence[Sample]) -> ImageLoader:
        loader = ImageLoader(samples, self.options.images, train=True, cache=self.cache)
        return loader if self.activations is None else self.activations.of(loader)

    def learn(self, learner: Method, session: Session) -> Generation:
        options, index = self.options, session.index
        old = measurement.gallery_samples(self.stream, index - 1) if learner.needs_old_images else []
        samples = [*old, *session.train]
        checkpoint = self.out / f"session{index}.safetensors"
        began = time.perf_counter()
        loader = self._loader(samples)
        learned = learn(learner, session, loader, options.training, options.seed, checkpoint, f"session {index}")
        seconds = time.perf_counter() - began
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
                phase=_phase(index, "learn", seconds, learned.images),
            ),
        )
        for finished in self.out.glob("session*.safetensors"):  # also one left by a kill just after a generation
            finished.unlink()
        return generation

    def is_measured(self, generation: Generation) -> bool:
        return self._measured(generation).exists() and self._measured(generation, ".json").exists()

    def measure(self, generation: Generation, network: Network) -> None:
        """Embed what the figures need, and keep it, if that was not done."""
        if self.is_measured(generation):
            return
        began = time.perf_counter()
        tested = measurement.test_samples(self.stream)
        kept = measurement.gallery_samples(self.stream, generation.number)
        measured = Measured(
            embed(network.embedder, tested, self.options.images, self.cache, self.activations),
            embed(network.embedder, kept, self.options.images, self.cache, self.activations),
        )
        seconds = time.perf_counter() - began
        measured.save(self._measured(generation))
        phase = _phase(generation.number, "embed", seconds, len(tested) + len(kept))
        write_json(self._measured(generation, ".json"), phase)

    def reference(self, network: Network) -> dict[str, Any]:
        """Every group at the last session by the backbone's own features, and each session's score before training."""
        path = self.out / "reference.json"
        if not path.exists():
            tested = measurement.test_samples(self.stream)
            features = embed_backbone(network.embedder, tested, self.options.images, self.cache, self.activations)
            scores = measurement.groups(features, self.stream, len(self.stream.sessions) - 1)
            write_json(path, {"groups": measurement.group_figures(scores), "sessions": measurement.by_session(scores)})
        return _read(path)

    def result(self, reference: dict[str, Any]) -> dict[str, Any]:
        generations = self.lineage.generations()
        began = time.perf_counter()
        measured = [Measured.load(self._measured(generation)) for generation in generations]
        scores = [measurement.groups(each.test, self.stream, step) for step, each in enumerate(measured)]
        figures = measurement.figures(scores, measured, self.stream, reference["sessions"])
        seconds = time.perf_counter() - began
        evaluated = _phase(len(measured) - 1, "evaluate", seconds, len(measured[-1].test.labels))
        broken = {tuple(each) for generation in generations for each in generation.info.broken}
        broken |= {each for one in measured for part in (one.test, one.gallery) for each in part.failures}
        result = {
            "scrubjay": versions()["scrubjay"],
            "name": self.options.name,
            "method": self.options.method["name"],
            "seed": self.options.seed,
            "config": self.options.model_dump(mode="json"),
            "versions": versions(),
            "data": {
                "source": self.stream.name,
                "hash": [generation.info.data_hash for generation in generations],
                "classes": list(self.stream.classes),
                "broken": sorted(map(list, broken)),
            },
            "sessions": [
                {"classes": list(each.classes), "train": len(each.train), "test": len(each.test)}
                for each in self.stream.sessions
            ],
            **figures,
            "class_means": [
                measurement.by_class_means(each.test, class_means(generation), self.stream, generation.number)
                for generation, each in zip(generations, measured, strict=True)
            ],
            "reference": reference["groups"],
            "curves": {str(generation.number): generation.info.curves for generation in generations},
            "phases": [
                *(generation.info.phase for generation in generations),
                *(_read(self._measured(generation, ".json")) for generation in generations),
                evaluated,
            ],
        }
        write_json(self.out / "result.json", result)
        return result

    def _measured(self, generation: Generation, suffix: str = ".safetensors") -> Path:
        return self.out / "measured" / f"{generation.name}{suffix}"


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or missing ({error}): delete it, and it is made again.") from None
    return found


def _phase(session: int, name: str, seconds: float, images: int) -> dict[str, Any]:
    return {
        "session": session,
        "phase": name,
        "seconds": round(seconds, 3),
        "images": images,
        "images_per_second": round(images / seconds, 1) if seconds > 0 else None,
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> int:
    """The most memory that this process has held since it began, in MiB: it never falls from phase to phase."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)


def _claim(out: Path, options: ExperimentOptions) -> None:
    """Write the options of a new run; refuse to go on with other options in the folder of an old one."""
    path, mine = out / "config.json", options.model_dump(mode="json")
    if not path.exists():
        write_json(path, mine)
        return
    key = difference(stored_options(path), mine)
    if key is not None:
        raise UserError(f"{out}: holds a run with another {key}; give a new --out, or the same options to go on.")


def stored_options(path: Path) -> dict[str, Any]:
    """The resolved options in a run's config.json, with the defaults of options that were added since it was written.

    Options that today's version refuses are returned as they are, so that the caller reports the difference.
    """
    stored: dict[str, Any] = _read(path)
    try:
        return ExperimentOptions.parse(stored, str(path)).model_dump(mode="json")
    except ConfigError:
        return stored


def _check_start(start: Path, options: ExperimentOptions) -> None:
    """That a run has finished its initial session, and began it with the same options but for the method."""
    if not (start / "measured" / "g0.json").exists():
        raise UserError(f"{start}: has not finished its initial session; run it first, or leave it out.")
    kind = method(options.method["name"])
    if kind.own_start:
        raise UserError(f"method {options.method['name']!r} needs an initial session of its own; give no start.")
    key = difference(initial(_read(start / "config.json")), initial(options.model_dump(mode="json")))
    if key is not None:
        raise UserError(f"{start}: began with another {key}; its initial session cannot be taken over.")


def initial(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a resolved configuration the initial session depends on: all but names and what a method adds later."""
    shared = {key: config["method"].get(key) for key in _AT_THE_START}
    return {**config, "name": None, "method": shared}
