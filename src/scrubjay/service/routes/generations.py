"""Generations: what each learned, what would change if it answered, and which of them answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from scrubjay.catalogue import Catalogue
from scrubjay.errors import ImageError, ServingChangedError
from scrubjay.gate.probe_set import Probe
from scrubjay.generations.bridge_paths import space_of
from scrubjay.generations.generation import Generation
from scrubjay.service.dependencies import Admin, Opened, Reader
from scrubjay.service.gates import all_probes, keep_gate, measured_gate, retained
from scrubjay.service.images import JPEG
from scrubjay.service.opened import OpenCatalogue
from scrubjay.service.problems import ProblemError, image_refused, not_found, problems
from scrubjay.service.schemas.generations import (
    GateAnswer,
    GenerationList,
    GenerationRecord,
    PromoteRequest,
    RollbackRequest,
    ServingChange,
    ServingRecord,
)

router = APIRouter(prefix="/v1", tags=["generations"])

Name = Annotated[str, Path(max_length=100, description="Name of the generation, such as g2.")]


@router.get("/generations", dependencies=Reader)
async def list_generations(opened: Opened) -> GenerationList:
    """The line of generations, oldest first, and the changes of the one that answers."""
    return await opened.run(_listed, opened.catalogue)


@router.get("/generations/{name}/gate", dependencies=Reader, responses=problems(404, 409))
async def gate(opened: Opened, name: Name) -> GateAnswer:
    """What would change if a generation answered queries. Measuring takes seconds; the result is kept."""
    await _find(opened, name)
    return await opened.background.run(measured_gate, name)


@router.get(
    "/generations/{name}/gate/{index}/image",
    response_class=Response,
    dependencies=Reader,
    responses={**problems(404, 409), **JPEG},
)
async def probe_image(
    opened: Opened, name: Name, index: Annotated[int, Path(ge=0, description="Number of the probe image.")]
) -> Response:
    """A probe image as a JPEG file of at most 256 pixels, without metadata."""
    await _find(opened, name)
    probe: Probe | None = await opened.run(_probe, opened.catalogue, index)
    if probe is None or probe.sample is None:
        raise not_found(f"There is no image of the probe {index}; some catalogues keep only embeddings of them.")
    sample = probe.sample
    try:
        content = await opened.decoder.reencode(await opened.run(sample.path.read_bytes), 256, sample.box)
    except ImageError as error:
        raise image_refused(f"probe image {index}: {error}") from None
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


@router.post("/generations/{name}/promote", dependencies=Admin, responses=problems(404, 409))
async def promote(opened: Opened, name: Name, request: PromoteRequest) -> ServingRecord:
    """Let a generation answer queries, if its gate passes and nobody else has changed what answers."""
    await _find(opened, name)
    try:
        return await opened.background.run(_promote, opened, name, request)
    except ServingChangedError:
        raise await serving_changed(opened) from None


@router.post("/rollback", dependencies=Admin, responses=problems(404, 409))
async def rollback(opened: Opened, request: RollbackRequest) -> ServingRecord:
    """Let an earlier generation answer again. No vector is changed."""
    if request.generation is not None:
        await _find(opened, request.generation)
    try:
        serving = await opened.run(opened.catalogue.rollback, request.generation, request.revision)
    except ServingChangedError:
        raise await serving_changed(opened) from None
    return ServingRecord(serving=str(serving.generation), revision=serving.revision)


async def serving_changed(opened: OpenCatalogue) -> ProblemError:
    """409: somebody else changed the serving generation; says which one answers now."""
    serving = await opened.run(opened.catalogue.serving.read)
    return ProblemError(
        409,
        "serving-changed",
        "Another generation answers now",
        f"Somebody else changed the serving generation in the meantime: {serving.generation} answers now (revision "
        f"{serving.revision}). Look at the generations again and decide again.",
    )


def _promote(catalogue: Catalogue, opened: OpenCatalogue, name: str, request: PromoteRequest) -> ServingRecord:
    opened.preload(name)
    report = catalogue.promote(name, request.force, request.revision)
    if report.serving is not None:
        keep_gate(catalogue, report)
    serving = catalogue.serving.read()
    return ServingRecord(serving=str(serving.generation), revision=serving.revision)


async def _find(opened: OpenCatalogue, name: str) -> None:
    known = await opened.run(opened.catalogue.lineage.by_name)
    if name not in known:
        raise not_found(f"There is no generation {name[:100]!r}; there are: {', '.join(known) or 'none'}.")


def _probe(catalogue: Catalogue, index: int) -> Probe | None:
    probes = all_probes(catalogue)
    return probes[index] if index < len(probes) else None


def _listed(catalogue: Catalogue) -> GenerationList:
    serving = catalogue.serving.read()
    items = catalogue.gallery.count()
    return GenerationList(
        generations=[
            _record(catalogue, each, each.name == serving.generation, items) for each in catalogue.lineage.generations()
        ],
        serving=serving.generation,
        revision=serving.revision,
        history=[
            ServingChange(kind=change.action, generation=change.after, time=change.at, forced=change.forced)
            for change in serving.history
        ],
    )


def _record(catalogue: Catalogue, generation: Generation, serving: bool, items: int) -> GenerationRecord:
    info = generation.info
    embedded, _ = catalogue.gallery.store.coverage(space_of(generation))
    return GenerationRecord(
        name=info.name,
        parent=info.parent,
        created=info.created,
        method=str(info.method["name"]),
        classes=len(set(info.classes)),
        new_classes=list(info.new_classes),
        extended_classes=list(info.extended_classes),
        images=info.image_count,
        seconds=info.seconds,
        serving=serving,
        measured=info.measured,
        coverage=min(1.0, embedded / items) if items else 0.0,
        retained=retained(catalogue, info.name),
    )
