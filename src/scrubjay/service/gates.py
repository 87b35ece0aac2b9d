"""What the gates of generations measured, kept on disk: measuring takes seconds, and the page shows it often.

shop/gates/<generation>.json    the answer, and the state of the catalogue that it was measured in
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from scrubjay.catalogue import Catalogue
from scrubjay.errors import CatalogueError
from scrubjay.gate.probe_set import Probe
from scrubjay.gate.report import GateReport
from scrubjay.io.atomic import write_file
from scrubjay.service.schemas.generations import FlippedQuery, GateAnswer, GateCheck


class KeptGate(BaseModel):
    """The content of a file.

    Attributes:
        state: see `_state`.
        answer: what was measured.
    """

    model_config = ConfigDict(frozen=True)

    state: Mapping[str, Any]
    answer: GateAnswer


def measured_gate(catalogue: Catalogue, name: str) -> GateAnswer:
    """What would change if a generation answered queries; measured again only where the catalogue has changed.

    Raises:
        CatalogueError: there is no such generation, it answers already, or nothing answers yet.
    """
    serving = catalogue.serving.read()
    catalogue.lineage.get(name)
    if serving.generation is None:
        raise CatalogueError(f"{catalogue.folder}: no generation answers yet, so there is nothing to compare with.")
    state = _state(catalogue)
    kept = last_gate(catalogue, name)
    if name != serving.generation and kept is not None and kept.state == state:
        return kept.answer
    return keep_gate(catalogue, catalogue.gate(name), state)


def keep_gate(catalogue: Catalogue, report: GateReport, state: Mapping[str, Any] | None = None) -> GateAnswer:
    """Keep what a gate measured.

    Args:
        catalogue: the catalogue.
        report: the report of the gate.
        state: the state that it was measured in; None: the state of now.
    """
    answer = _answer(catalogue, report)
    kept = KeptGate(state=_state(catalogue) if state is None else state, answer=answer)
    write_file(_path(catalogue, report.candidate), kept.model_dump_json(indent=1).encode())
    return answer


def last_gate(catalogue: Catalogue, name: str) -> KeptGate | None:
    """What the gate of a generation measured last; None where it was not measured."""
    try:
        return KeptGate.model_validate_json(_path(catalogue, name).read_bytes())
    except (OSError, ValidationError):
        return None


def retained(catalogue: Catalogue, name: str) -> float | None:
    """Share of recall@1 and mAP@R on old classes that a generation kept, when its gate was measured last."""
    kept = last_gate(catalogue, name)
    checks = () if kept is None else kept.answer.checks
    return next((check.measured for check in checks if check.name == "old_retention"), None)


def all_probes(catalogue: Catalogue) -> list[Probe]:
    """The probe images of all generations; flips name them by their position, which later generations do not change."""
    return catalogue.workspace.probe_set.probes(each.name for each in catalogue.lineage.generations())


def _state(catalogue: Catalogue) -> dict[str, Any]:
    """What a gate depends on, as far as it is cheap to find out: who answers, and how many items have which vectors."""
    return {
        "revision": catalogue.serving.read().revision,
        "items": catalogue.gallery.count(),
        "vectors": catalogue.gallery.counts(),
        "limits": catalogue.options.gate.model_dump(mode="json"),
    }


def _answer(catalogue: Catalogue, report: GateReport) -> GateAnswer:
    positions = {
        str(probe.sample.path if probe.sample else probe.original): position
        for position, probe in enumerate(all_probes(catalogue))
    }
    return GateAnswer(
        generation=report.candidate,
        serving=report.serving or "",
        passed=report.passed,
        reasons=list(report.reasons),
        checks=[
            GateCheck(
                name=check.name,
                measured=check.measured,
                limit=check.limit,
                kind=check.kind,
                passed=check.passed,
                images=check.images,
            )
            for check in report.checks
        ],
        flips=[
            FlippedQuery(
                index=positions[flip.image], label=flip.label, before=flip.before.label, after=flip.after.label
            )
            for flip in report.flips
            if flip.image in positions
        ],
    )


def _path(catalogue: Catalogue, name: str) -> Path:
    return catalogue.folder / "gates" / f"{name}.json"
