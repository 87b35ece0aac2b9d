"""The contents of `result.json`, from what a run has kept of every generation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scrubjay.bridges import Bridge
from scrubjay.data.stream import Stream
from scrubjay.errors import DataError
from scrubjay.evaluation.compatibility import compatibility_summary, retained_by_session
from scrubjay.experiments import cross_generation, measurement
from scrubjay.experiments.measurement import Measured
from scrubjay.experiments.options import ExperimentOptions
from scrubjay.experiments.phases import Phase
from scrubjay.generations.generation import Generation
from scrubjay.generations.lineage import class_means, versions

ADDED = ("bridged", "bridges", "backward_compatibility", "negative_flips", "retained")
"""Keys that results of older versions lack."""


@dataclass(frozen=True)
class Kept:
    """What a run has kept of one generation.

    Attributes:
        generation: the trained network, with its description.
        measured: its embeddings.
        phases: entries of `phases` other than that of learning.
        bridge: the map to its parent's space; None for the first generation, and where none could be fitted.
        chosen: how that bridge was chosen, as `bridges` in `result.json` has it.
    """

    generation: Generation
    measured: Measured
    phases: Sequence[Mapping[str, Any]]
    bridge: Bridge | None
    chosen: Mapping[str, Any] | None


def build(
    options: ExperimentOptions, stream: Stream, kept: Sequence[Kept], reference: Mapping[str, Any]
) -> dict[str, Any]:
    """Compute all figures of a run.

    Args:
        options: of the run.
        stream: what was learned.
        kept: every generation, oldest first.
        reference: contents of `reference.json`.

    Returns:
        What `result.json` holds; `docs/result.schema.json` describes every key.
    """
    phase = Phase(len(kept) - 1, "evaluate")
    measured = [each.measured for each in kept]
    scores = [measurement.groups(each.test, stream, step) for step, each in enumerate(measured)]
    accuracy = measurement.accuracy(scores)
    bridges = {each.generation.number: each.bridge for each in kept if each.bridge is not None}
    figures = {
        "groups": [measurement.group_figures(each) for each in scores],
        "accuracy": accuracy,
        "retained": {metric: retained_by_session(matrix) for metric, matrix in accuracy.items()},
        **cross_generation.figures(measured, stream, bridges),
        "continual": measurement.summaries(accuracy, reference["sessions"]),
    }
    evaluated = phase.record(len(measured[-1].test.labels))
    generations = [each.generation for each in kept]
    return {
        "scrubjay": versions()["scrubjay"],
        "name": options.name,
        "method": options.method["name"],
        "seed": options.seed,
        "config": options.model_dump(mode="json"),
        "versions": versions(),
        "data": {
            "source": stream.name,
            "hash": [generation.info.data_hash for generation in generations],
            "classes": list(stream.classes),
            "broken": _broken(kept),
        },
        "sessions": [
            {"classes": list(each.classes), "train": len(each.train), "test": len(each.test)}
            for each in stream.sessions
        ],
        **figures,
        "bridges": [each.chosen for each in kept],
        "class_means": [
            measurement.by_class_means(each.measured.test, class_means(each.generation), stream, number)
            for number, each in enumerate(kept)
        ],
        "reference": reference["groups"],
        "curves": {str(generation.number): generation.info.curves for generation in generations},
        "phases": _phases(kept, evaluated),
    }


def _broken(kept: Iterable[Kept]) -> list[list[str]]:
    """Path and reason of every image that could not be decoded, each once."""
    broken: set[tuple[str, ...]] = set()
    for each in kept:
        broken |= {tuple(entry) for entry in each.generation.info.broken}
        broken |= {*each.measured.test.failures, *each.measured.gallery.failures}
    return sorted(map(list, broken))


def _phases(kept: Sequence[Kept], evaluated: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Phases in the order learn, embed, bridge, evaluate. Those of older versions had the peak of the process."""
    entries: list[Mapping[str, Any]] = [each.generation.info.phase or {} for each in kept]
    for name in ("embed", "bridge"):
        entries += [phase for each in kept for phase in each.phases if phase["phase"] == name]
    return [{"peak_since": "start", **entry} for entry in (*entries, evaluated)]


def is_current(result: Mapping[str, Any]) -> bool:
    """Whether a result has every figure of this version, apart from those that could not be measured."""
    return all(key in result for key in ADDED)


def completed(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result of an older version with the figures added that follow from its own matrices.

    Figures that need embeddings, such as those over bridges and negative flips, stay missing: they were not measured.
    """
    added: dict[str, Any] = {}
    try:
        if "retained" not in result and result.get("accuracy"):
            matrices = result["accuracy"].items()
            added["retained"] = {metric: retained_by_session(matrix) for metric, matrix in matrices}
        if "backward_compatibility" not in result and result.get("compatibility"):
            matrices = result["compatibility"].items()
            plain = {metric: compatibility_summary(matrix) for metric, matrix in matrices}
            added["backward_compatibility"] = {"plain": plain, "bridged": None}
    except (DataError, IndexError, TypeError, ValueError, AttributeError):
        return dict(result)  # not the matrices of a run: what cannot be computed is not measured
    return {**result, **added}
