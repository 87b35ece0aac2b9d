"""Whether the service works, its figures, and the catalogue in figures."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from scrubjay.errors import ScrubjayError
from scrubjay.service import VERSION
from scrubjay.service.dependencies import CallerScopes, Opened, Reader
from scrubjay.service.opened import OpenCatalogue
from scrubjay.service.problems import problems
from scrubjay.service.schemas.operations import CatalogueRecord, Ready
from scrubjay.service.teaching import teaches

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> Ready:
    """Whether the process answers at all; a supervisor restarts it if not."""
    return Ready(ready=True, detail="The process answers.")


@router.get("/readyz", responses={503: {"model": Ready, "description": "Queries cannot be answered now."}})
async def readyz(opened: Opened, response: Response) -> Ready:
    """Whether queries can be answered; a load balancer sends none if not."""
    try:
        found = await opened.run(_ready, opened)
    except ScrubjayError as error:
        found = Ready(ready=False, detail=str(error).replace(str(opened.folder), opened.folder.name))
    if opened.stopping.is_set():
        found = Ready(ready=False, detail="The service is ending.")
    response.status_code = 200 if found.ready else 503
    return found


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
)
async def metrics(opened: Opened) -> Response:
    """Figures for Prometheus."""
    return Response(await opened.run(opened.metrics.text), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/status", dependencies=Reader, responses=problems(409))
async def status(opened: Opened, scopes: CallerScopes, request: Request) -> CatalogueRecord:
    """The catalogue in figures, and what the caller may do."""
    return await opened.run(_status, opened, scopes, request.state.keys_required)


def _ready(opened: OpenCatalogue) -> Ready:
    serving = opened.catalogue.serving.read()
    if serving.generation is None:
        return Ready(ready=False, detail="Nothing was learned yet.")
    count = opened.catalogue.gallery.count()
    if not count:
        return Ready(ready=False, detail="The gallery is empty.")
    return Ready(ready=True, detail=f"{serving.generation} answers queries over {count} items.")


def _status(opened: OpenCatalogue, scopes: CallerScopes, keys_required: bool) -> CatalogueRecord:
    catalogue, workspace = opened.catalogue, opened.catalogue.workspace
    serving = catalogue.serving.read()
    classes, unembedded, can_teach, explains = 0, catalogue.gallery.count(), False, False
    if serving.generation is not None:
        generation = workspace.serving_generation(serving)
        classes = len(set(generation.classes))
        can_teach = teaches(generation)
        network = generation.info.network
        explains = network.pooling == "avg" and network.transform == "none"
        unembedded = catalogue.gallery.unembedded(workspace.searched_spaces(generation))
    return CatalogueRecord(
        name=opened.folder.absolute().name,
        items=catalogue.gallery.count(),
        unembedded=unembedded,
        classes=classes,
        serving=serving.generation,
        revision=serving.revision,
        scopes=list(scopes),
        keys_required=keys_required,
        teaches=can_teach,
        explains=explains,
        false_match_rate=catalogue.options.false_match_rate,
        version=VERSION,
    )
