"""The contents of `result.json`, computed from the records of all generations of a run."""

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
from scrubjay.generations.lineage import class_means
from scrubjay.generations.versions import versions

ADDED = ("bridged", "bridges", "backward_compatibility", "negative_flips", "retained")
"""Keys that results of older versions lack."""


@dataclass(frozen=True)
class GenerationRecord:
    """Everything that a run has stored about one generation.

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
    options: ExperimentOptions, stream: Stream, records: Sequence[GenerationRecord], reference: Mapping[str, Any]
) -> dict[str, Any]:
    """Compute all figures of a run.

    Args:
        options: options of the run.
        stream: what was learned.
        records: every generation, oldest first.
        reference: contents of `reference.json`.

    Returns:
        What `result.json` holds; `docs/result.schema.json` describes every key.
    """
    phase = Phase(len(records) - 1, "evaluate")
    figures = _figures(stream, records, reference["sessions"])
    evaluated = phase.record(len(records[-1].measured.test.labels))
    return {
        "scrubjay": versions()["scrubjay"],
        "name": options.name,
        "method": options.method["name"],
        "seed": options.seed,
        "config": options.model_dump(mode="json"),
        "versions": versions(),
        "data": {
            "source": stream.name,
            "hash": [record.generation.info.data_hash for record in records],
            "classes": list(stream.classes),
            "broken": _broken(records),
        },
        "sessions": [
            {"classes": list(session.classes), "train": len(session.train), "test": len(session.test)}
            for session in stream.sessions
        ],
        **figures,
        "bridges": [record.chosen for record in records],
        "reference": reference["groups"],
        "curves": {str(record.generation.number): record.generation.info.curves for record in records},
        "phases": _phases(records, evaluated),
    }


def _figures(
    stream: Stream, records: Sequence[GenerationRecord], before: Mapping[str, list[float | None]]
) -> dict[str, Any]:
    """The scores; `before` is the score on each session's classes before any training, by metric."""
    measured = [record.measured for record in records]
    scores = [measurement.groups(each.test, stream, step) for step, each in enumerate(measured)]
    accuracy = measurement.accuracy(scores)
    bridges = {record.generation.number: record.bridge for record in records if record.bridge is not None}
    return {
        "groups": [measurement.group_figures(each) for each in scores],
        "accuracy": accuracy,
        "retained": {metric: retained_by_session(matrix) for metric, matrix in accuracy.items()},
        **cross_generation.figures(measured, stream, bridges),
        "continual": measurement.summaries(accuracy, before),
        "class_means": [
            measurement.by_class_means(record.measured.test, class_means(record.generation), stream, step)
            for step, record in enumerate(records)
        ],
    }


def _broken(records: Iterable[GenerationRecord]) -> list[list[str]]:
    """Path and reason of every image that could not be decoded, each once."""
    broken: set[tuple[str, ...]] = set()
    for record in records:
        broken |= {tuple(entry) for entry in record.generation.info.broken}
        broken |= {*record.measured.test.failures, *record.measured.gallery.failures}
    return sorted(map(list, broken))


def _phases(records: Sequence[GenerationRecord], evaluated: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Phases in the order learn, embed, bridge, evaluate.

    Those of older versions have the peak since the process started.
    """
    entries: list[Mapping[str, Any]] = [record.generation.info.phase or {} for record in records]
    for name in ("embed", "bridge"):
        entries += [phase for record in records for phase in record.phases if phase["phase"] == name]
    return [{**entry, "peak_since": entry.get("peak_since", "start")} for entry in (*entries, evaluated)]


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
