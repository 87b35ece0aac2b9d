"""The OpenAPI document, and a page that shows it without scripts or other servers."""

from __future__ import annotations

import ast
import functools
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from jinja2 import Environment

from scrubjay.service import schemas
from scrubjay.service.examples import EXAMPLES
from scrubjay.service.keys import KeyFile
from scrubjay.service.problems import COMMON, MEANINGS
from scrubjay.service.schemas.problems import FieldError, Problem
from scrubjay.service.schemas.search import SearchSettings

_DESCRIPTION = """Search a catalogue by images, add to it, teach it classes, and choose which generation answers.

All errors have one shape (RFC 9457). Where the service requires API keys, send one as `Authorization: Bearer KEY`."""
_TAGS = ("search", "items", "classes", "generations", "jobs", "unknown queries", "operations")


def install(app: FastAPI, keys: KeyFile) -> None:
    """Serve the OpenAPI document at `/openapi.json` and the page at `/docs`.

    Args:
        app: the application.
        keys: where there are no keys, the document asks for none.
    """
    complete = functools.cache(lambda: document(app))

    def openapi() -> dict[str, Any]:
        return complete() if keys.required else without_keys(complete())

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
    for model in (Problem, FieldError, SearchSettings):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        schemas[model.__name__] = schema
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for name, described in descriptions().items():
        for field, text in described.items():
            schemas.get(name, {}).get("properties", {}).get(field, {}).setdefault("description", text)
    for operations in built["paths"].values():
        for operation in operations.values():
            for answer in operation["responses"].values():
                if answer["description"] == "Successful Response":  # what FastAPI writes where a route says nothing
                    answer["description"] = "The answer."
    for name, example in EXAMPLES.items():
        if name in schemas:
            schemas[name]["examples"] = [example]
    return built


def without_keys(built: dict[str, Any]) -> dict[str, Any]:
    """The document of a service that requires no keys."""
    paths = {
        path: {method: {name: part for name, part in each.items() if name != "security"} for method, each in of.items()}
        for path, of in built["paths"].items()
    }
    components = {name: part for name, part in built["components"].items() if name != "securitySchemes"}
    return {**built, "paths": paths, "components": components}


@functools.cache
def descriptions() -> dict[str, dict[str, str]]:
    """The texts below the fields of all bodies, by class and field.

    pydantic could read them as well, but would do so whenever the bodies are imported.

    >>> descriptions()["SearchSettings"]["k"]
    'Number of hits for each answer.'
    """
    found: dict[str, dict[str, str]] = {}
    for path in sorted(Path(schemas.__path__[0]).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                own = found[node.name] = {}
                for base in node.bases:
                    own |= found.get(base.id, {}) if isinstance(base, ast.Name) else {}
                for field, text in pairwise(node.body):
                    if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                        own |= _text(field.target.id, text)
    return found


def _text(name: str, node: ast.stmt) -> dict[str, str]:
    """The text of a statement that is a string, by the name that it describes."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return {name: " ".join(node.value.value.split())}
    return {}


def page(app: FastAPI) -> str:
    """The OpenAPI document as a page, in HTML."""
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_file("reference.html"))
    built = app.openapi()
    operations: dict[str, list[dict[str, Any]]] = {name: [] for name in _TAGS}
    for path, methods in built["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["operations"])[0]
            operations.setdefault(tag, []).append({"path": path, "method": method.upper(), **operation})
    return template.render(
        document=built,
        operations=operations,
        schemas=built["components"]["schemas"],
        common={str(status): MEANINGS[status] for status in COMMON},
        kind=kind,
    )


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
