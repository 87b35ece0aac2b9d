"""The OpenAPI document, and a page that shows it without scripts or other servers."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from jinja2 import Environment

from scrubjay.service.schemas import FieldError, Problem

_DESCRIPTION = """Search a catalogue by images, add to it, teach it classes, and choose which generation answers.

All errors have one shape (RFC 9457). Where the service requires API keys, send one as `Authorization: Bearer KEY`."""
_TAGS = ("search", "items", "classes", "teaching", "generations", "jobs", "unknown", "operations")


def install(app: FastAPI) -> None:
    """Serve the OpenAPI document at `/openapi.json` and the page at `/docs`."""

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(page(app), media_type="text/html; charset=utf-8")

    @app.get("/docs/reference.css", include_in_schema=False)
    async def style() -> Response:
        return Response(_file("reference.css"), media_type="text/css; charset=utf-8")


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an application."""
    built = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name} for name in _TAGS],
    )
    schemas = built.setdefault("components", {}).setdefault("schemas", {})
    for model in (Problem, FieldError):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        schemas[model.__name__] = schema
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return built


@functools.cache
def page(app: FastAPI) -> str:
    """The OpenAPI document as a page, in HTML."""
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_file("reference.html"))
    built = app.openapi()
    operations: dict[str, list[dict[str, Any]]] = {name: [] for name in _TAGS}
    for path, methods in built["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["operations"])[0]
            operations.setdefault(tag, []).append({"path": path, "method": method.upper(), **operation})
    return template.render(document=built, operations=operations, schemas=built["components"]["schemas"], kind=kind)


def kind(schema: dict[str, Any]) -> str:
    """The type of a value in words, from its schema.

    >>> kind({"type": "array", "items": {"$ref": "#/components/schemas/Move"}})
    'list of Move'
    >>> kind({"anyOf": [{"type": "string"}, {"type": "null"}]})
    'string or null'
    """
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " or ".join(repr(value) for value in schema["enum"])
    if "const" in schema:
        return repr(schema["const"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind(each) for each in schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}" if "items" in schema else "list"
    return str(schema.get("format") or schema.get("type") or "any value")


def _file(name: str) -> str:
    return (files("scrubjay.service") / "templates" / name).read_text(encoding="utf-8")
