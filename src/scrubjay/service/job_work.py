"""What the jobs do, by kind. Every function may be killed at any point, and goes on where it was when called again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrubjay.errors import DataError
from scrubjay.service.job_process import Reporter, Work
from scrubjay.service.uploads import Uploads

if TYPE_CHECKING:
    from scrubjay.catalogue import Catalogue
    from scrubjay.generations.generation import Generation


def learn(folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Learn an upload, and add its images to the gallery; the upload is deleted afterwards."""
    from scrubjay.service.learned_upload import add_upload, generation_of

    request, catalogue = reporter.job.request, _opened(folder, reporter)
    upload = Uploads(folder).get(request.upload or "")
    if upload is None:
        raise DataError(f"there is no upload {request.upload!r} any more: send the images again.")
    upload.select(request.leave_out)
    generation = generation_of(catalogue, upload)
    if generation is None:
        reporter.step("reading the images")
        generation = catalogue.learn(upload.images, request.method)
    if request.add and "added" not in reporter.job.notes:
        reporter.step("adding the images to the gallery")
        reporter.note(added=add_upload(catalogue, generation, upload))
    result = _learned(generation, reporter)
    upload.remove()
    return result


def backfill(folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Re-embed the items that have no vector of the serving generation."""
    result = _opened(folder, reporter).backfill()
    return {"done": result.done, "remaining": result.missing, "problems": list(result.problems)}


def export(folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Write the embedder of a generation as an ONNX file in the catalogue's folder."""
    catalogue = _opened(folder, reporter)
    name = reporter.job.request.generation or catalogue.workspace.serving_generation().name
    reporter.step(f"exporting {name}")
    exported = catalogue.upkeep.export(name)
    return {"path": exported.path.name, "bytes": exported.bytes, "images": exported.images}


def forget(folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Forget classes and items."""
    from scrubjay.maintenance.removal_plan import RemovalPlanner
    from scrubjay.workspace.removal_request import RemovalRequest

    request, catalogue = reporter.job.request, _opened(folder, reporter)
    reporter.step("looking for what is stored")
    if RemovalRequest.pending(folder) is None:
        planner = RemovalPlanner(catalogue.workspace, catalogue.upkeep.searcher.query_log)
        try:
            planned = planner.planned(planner.asked(request.classes, request.items), {})
        except DataError:
            if "planned" not in reporter.job.notes:
                raise
            return dict(reporter.job.notes["planned"])  # the process died when everything was removed
        reporter.note(planned=_report(planned.counts, planned.successors, ()))
    reporter.step("removing what was learned and stored")
    done = catalogue.upkeep.forget(request.classes, request.items)
    return _report(done.counts, done.generations, done.remains)


WORK: Mapping[str, Work] = {"learn": learn, "backfill": backfill, "export": export, "forget": forget}
"""The work of each kind of job."""


def _opened(folder: Path, reporter: Reporter) -> Catalogue:
    """The catalogue; importing it takes seconds."""
    reporter.step("opening the catalogue")
    from scrubjay.catalogue import Catalogue

    return Catalogue(folder)


def _learned(generation: Generation, reporter: Reporter) -> dict[str, Any]:
    info = generation.info
    return {
        "generation": generation.name,
        "classes": list(info.new_classes),
        "extended_classes": list(info.extended_classes),
        "images": info.image_count,
        "added": reporter.job.notes.get("added", 0),
        "refused": [[Path(path).name, reason] for path, reason in info.broken],
    }


def _report(removed: Mapping[str, int], generations: Mapping[str, str], remains: tuple[str, ...]) -> dict[str, Any]:
    """The result of a removal: entries removed by place, the generations made, and what was not removed and why."""
    return {"removed": dict(removed), "generations": dict(generations), "report": list(remains)}
