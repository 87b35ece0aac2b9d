"""What the jobs do, by kind. Every function may be killed at any point, and goes on where it was when called again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrubjay.errors import DataError, UserError
from scrubjay.service.job_process import Reporter, Work, without_path
from scrubjay.service.uploads import Upload, Uploads

if TYPE_CHECKING:
    from scrubjay.catalogue import Catalogue
    from scrubjay.generations.generation import Generation


def learn(folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Learn an upload, and add its images to the gallery; the upload is deleted afterwards."""
    upload = Uploads(folder).get(reporter.job.request.upload or "")
    if "result" not in reporter.job.notes:
        if upload is None:
            raise DataError(f"there is no upload {reporter.job.request.upload!r} any more: send the images again.")
        reporter.note(result=_learned(_opened(folder, reporter), upload, reporter))
    if upload is not None:
        upload.remove()
    return dict(reporter.job.notes["result"])


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
        reporter.note(planned=_report(planned.counts, planned.successors, []))
    reporter.step("removing what was learned and stored")
    done = catalogue.upkeep.forget(request.classes, request.items)
    return _report(done.counts, done.generations, [without_path(line, folder) for line in done.remains])


WORK: Mapping[str, Work] = {"learn": learn, "backfill": backfill, "export": export, "forget": forget}
"""The work of each kind of job."""


def _opened(folder: Path, reporter: Reporter) -> Catalogue:
    """The catalogue; importing it takes seconds."""
    reporter.step("opening the catalogue")
    from scrubjay.catalogue import Catalogue

    return Catalogue(folder)


def _learned(catalogue: Catalogue, upload: Upload, reporter: Reporter) -> dict[str, Any]:
    """Learn an upload, and add its images where that is asked for; returns the result of the job."""
    from scrubjay.data.photos import read_photos
    from scrubjay.learning.session import HELD_OUT
    from scrubjay.service.staged_images import StagedImage, learned_from, stage

    request = reporter.job.request
    if "before" not in reporter.job.notes:
        reporter.note(before=[generation.name for generation in catalogue.lineage.generations()])
    upload.select(request.leave_out)
    if not request.add:
        paths = {str(path) for path in upload.files().values()}
        generation = learned_from(catalogue, paths, reporter.job.notes["before"])
        return _result(generation or catalogue.learn(upload.images, request.method), 0, ())
    reporter.step("storing the images")
    dataset = read_photos(upload.images, HELD_OUT)
    staged = stage(
        catalogue,
        upload.id,
        (
            StagedImage(sample.path.name, sample.path.read_bytes(), dataset.classes[sample.label], sample.split)
            for sample in dataset.samples
        ),
    )
    try:
        paths = {str(path) for path in staged.paths.values()}
        generation = learned_from(catalogue, paths, reporter.job.notes["before"])
        generation = generation or catalogue.learn(staged.table, request.method)
        reporter.step("adding the images to the gallery")
        added = catalogue.add([staged.table]).items
    except UserError:
        staged.discard(catalogue)
        raise
    staged.discard(catalogue)
    return _result(generation, added, staged.refused)


def _result(generation: Generation, added: int, refused: Iterable[tuple[str, str]]) -> dict[str, Any]:
    info = generation.info
    return {
        "generation": generation.name,
        "classes": list(info.new_classes),
        "extended_classes": list(info.extended_classes),
        "images": info.image_count,
        "added": added,
        "refused": [[Path(path).name, reason] for path, reason in (*refused, *info.broken)],
    }


def _report(removed: Mapping[str, int], generations: Mapping[str, str], remains: list[str]) -> dict[str, Any]:
    """The result of a removal: entries removed by place, the generations made, and what was not removed and why."""
    return {"removed": dict(removed), "generations": dict(generations), "report": remains}
