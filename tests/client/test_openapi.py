"""The client against the OpenAPI document of the service: every operation has a method, and what is sent agrees."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrubjay.client import calls
from scrubjay.client.call import Call
from scrubjay.client.endpoints import Endpoint, Endpoints
from scrubjay.service.app import create_app
from scrubjay.service.schemas.search import QueryImage

IMAGE = b"content"
BOX = (0, 0, 5, 5)
EXAMPLES: dict[Callable[..., Call[Any]], list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    calls.search.search: [
        ((IMAGE,), {"k": 3, "labels": ["a"], "where": {"a": 1}, "combine": True, "generation": "g", "crop": BOX}),
        ((QueryImage(item="1", crop=BOX),), {}),
    ],
    calls.search.compare: [((IMAGE, "g0", "g1"), {"k": 3})],
    calls.search.explain: [((IMAGE, "1"), {})],
    calls.items.items: [(("c",), {"limit": 3, "labels": ["a"], "where": {"a": 1}})],
    calls.items.item: [(("1",), {})],
    calls.items.item_image: [(("1",), {"side": 256})],
    calls.items.add_items: [(([IMAGE],), {"label": "a", "metadata": {"a": 1}})],
    calls.items.change_item: [(("1",), {"label": "a", "metadata": {}})],
    calls.items.remove_item: [(("1",), {})],
    calls.items.remove_items: [((["1"],), {})],
    calls.classes.classes: [((), {})],
    calls.classes.confusions: [((), {"limit": 3})],
    calls.classes.rename_class: [(("a", "b"), {})],
    calls.classes.merge_class: [(("a", "b"), {})],
    calls.classes.forget_class: [(("a",), {})],
    calls.classes.teach: [(("a", [IMAGE]), {"queries": ["h"]})],
    calls.generations.generations: [((), {})],
    calls.generations.gate: [(("g1",), {})],
    calls.generations.gate_image: [(("g1", 3), {})],
    calls.generations.promote: [(("g1",), {"revision": 1, "force": True})],
    calls.generations.rollback: [((), {"revision": 1, "generation": "g0"})],
    calls.jobs.upload: [(("FOLDER",), {}), (("ARCHIVE",), {})],
    calls.jobs.check: [(("u",), {})],
    calls.jobs.remove_upload: [(("u",), {})],
    calls.jobs.upload_image: [(("u", "a/1.jpg"), {})],
    calls.jobs.start_job: [(("learn",), {"upload": "u"})],
    calls.jobs.jobs: [((), {})],
    calls.jobs.job: [(("j",), {})],
    calls.jobs.cancel_job: [(("j",), {})],
    calls.jobs.job_events: [(("j",), {})],
    calls.operations.unknown: [((), {})],
    calls.operations.unknown_image: [(("h",), {"side": 256})],
    calls.operations.remove_unknown: [(("h",), {})],
    calls.operations.status: [((), {})],
    calls.operations.alive: [((), {})],
    calls.operations.ready: [((), {})],
    calls.operations.metrics: [((), {})],
    calls.operations.openapi: [((), {})],
}
UNLISTED = {("GET", "/openapi.json")}
"""The document does not list itself."""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(tmp_path_factory.mktemp("none")).openapi()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Callable[..., Call[Any]], Call[Any]]]:
    """Every request that the client makes, with all of its arguments."""
    root = tmp_path_factory.mktemp("photos")
    (root / "folder" / "a").mkdir(parents=True)
    (root / "folder" / "a" / "1.jpg").write_bytes(IMAGE)
    (root / "shop.zip").write_bytes(b"PK")
    paths = {"FOLDER": root / "folder", "ARCHIVE": root / "shop.zip"}

    def placed(value: Any) -> Any:
        return paths.get(value, value) if isinstance(value, str) else value

    return [
        (make, make(*map(placed, arguments), **keywords))
        for make, examples in EXAMPLES.items()
        for arguments, keywords in examples
    ]


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def body_fields(document: dict[str, Any], operation: dict[str, Any], media: str) -> set[str]:
    """Names of the fields of a body; empty where the operation takes none of this type."""
    schema = operation.get("requestBody", {}).get("content", {}).get(media, {}).get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return set(schema.get("properties", {}))


def test_every_function_has_examples_with_all_of_its_arguments() -> None:
    declared = {value.make for value in vars(Endpoints).values() if isinstance(value, Endpoint)}
    assert declared | {calls.jobs.job_events} == set(EXAMPLES)
    for make, examples in EXAMPLES.items():
        if make is not calls.jobs.start_job:
            positional, keywords = max(examples, key=lambda example: len(example[1]))
            assert len(inspect.signature(make).parameters) == len(positional) + len(keywords), make


def test_every_operation_has_a_method(
    document: dict[str, Any], made: list[tuple[Callable[..., Call[Any]], Call[Any]]]
) -> None:
    assert {(call.method, call.template) for _, call in made} - UNLISTED == set(operations(document))


def test_what_is_sent_is_what_is_taken(
    document: dict[str, Any], made: list[tuple[Callable[..., Call[Any]], Call[Any]]]
) -> None:
    known = operations(document)
    for _, call in made:
        if (call.method, call.template) in UNLISTED:
            continue
        operation = known[call.method, call.template]
        parameters = operation.get("parameters", [])
        assert set(call.path) == {each["name"] for each in parameters if each["in"] == "path"}, call
        assert set(call.path) == set(re.findall(r"{(\w+)}", call.template))
        assert set(call.query) == {each["name"] for each in parameters if each["in"] == "query"}, call
        form = body_fields(document, operation, "multipart/form-data")
        assert {part.field for part in call.parts} <= form, call
        if call.body is not None:
            assert set(type(call.body).model_fields) == body_fields(document, operation, "application/json"), call
        if not call.parts and call.body is None:
            assert "requestBody" not in operation, call


def test_all_fields_of_forms_are_sent(
    document: dict[str, Any], made: list[tuple[Callable[..., Call[Any]], Call[Any]]]
) -> None:
    sent: dict[tuple[str, str], set[str]] = {}
    for _, call in made:
        if call.parts:
            sent.setdefault((call.method, call.template), set()).update(part.field for part in call.parts)
    for key, fields in sent.items():
        assert fields == body_fields(document, operations(document)[key], "multipart/form-data"), key


def test_answers_are_read_as_what_the_document_says(
    document: dict[str, Any], made: list[tuple[Callable[..., Call[Any]], Call[Any]]]
) -> None:
    for make, call in made:
        if (call.method, call.template) in UNLISTED:
            continue
        responses = operations(document)[call.method, call.template]["responses"]
        (status,) = [code for code in responses if code.startswith("2")]
        schema = responses[status].get("content", {}).get("application/json", {}).get("schema", {})
        stated = schema.get("$ref", "").rpartition("/")[2]
        answer = re.fullmatch(r"Call\[(\w+)\]", str(inspect.signature(make).return_annotation))
        assert answer is not None
        if stated:
            assert answer[1] == stated
        elif make is not calls.jobs.job_events:
            assert answer[1] in ("bytes", "str", "None")


def test_the_two_clients_have_the_same_methods() -> None:
    from scrubjay import AsyncClient, Client

    def public(kind: type[Path] | type[Any]) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)
    for name in public(Client):
        one, other = (inspect.signature(getattr(kind, name)) for kind in (Client, AsyncClient))
        assert one.parameters == other.parameters


def test_the_methods_tell_what_they_take_and_answer() -> None:
    from scrubjay import Client

    with Client("http://shop") as client:
        signature = inspect.signature(client.promote)
        assert list(signature.parameters) == ["name", "revision", "force"]
        assert signature.return_annotation == "ServingRecord"
        assert client.promote.__doc__
        assert client.promote.__doc__.startswith("Let a generation answer queries.")
