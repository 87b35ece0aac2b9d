"""The OpenAPI document is complete and true, and the page that shows it needs nothing from elsewhere."""

from __future__ import annotations

import importlib
import pkgutil
import re
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from fastapi.testclient import TestClient
from running import OPTIONS

from scrubjay.service import schemas
from scrubjay.service.app import create_app
from scrubjay.service.documentation import document
from scrubjay.service.examples import EXAMPLES
from scrubjay.service.keys import KeyFile
from scrubjay.service.problems import COMMON


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return document(create_app(tmp_path_factory.mktemp("shop"), OPTIONS))


def operations(built: dict) -> list[tuple[str, str, dict]]:
    return [(path, method, each) for path, of in built["paths"].items() for method, each in of.items()]


def modules() -> list[ModuleType]:
    names = [each.name for each in pkgutil.iter_modules(schemas.__path__)]
    return [importlib.import_module(f"{schemas.__name__}.{name}") for name in names]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_fit(name: str) -> None:
    (model,) = {getattr(module, name) for module in modules() if hasattr(module, name)}
    model.model_validate(EXAMPLES[name])


def test_every_body_has_an_example(built: dict) -> None:
    for path, method, each in operations(built):
        for media in each.get("requestBody", {}).get("content", {}).items():
            if media[0] == "application/json":
                assert media[1]["schema"]["$ref"].rpartition("/")[2] in EXAMPLES, (method, path)


def test_every_operation_is_described_and_has_one_shape_of_errors(built: dict) -> None:
    names = [each["operationId"] for _, _, each in operations(built)]
    assert len(names) == len(set(names))
    for path, method, each in operations(built):
        assert each["description"].endswith("."), (method, path)
        for status in COMMON:
            content = each["responses"][str(status)]["content"]
            if path != "/readyz":
                assert set(content) == {"application/problem+json"}, (method, path)
        assert ("security" in each) == path.startswith("/v1/"), (method, path)
        for parameter in each.get("parameters", []):
            assert parameter["in"] == "header" or "description" in parameter, (method, path, parameter["name"])


def test_references_lead_somewhere(built: dict) -> None:
    for name in re.findall(r"#/components/schemas/(\w+)", str(built)):
        assert name in built["components"]["schemas"]


def test_fields_are_described(built: dict) -> None:
    assert built["components"]["schemas"]["SearchSettings"]["properties"]["k"]["description"].startswith("Number of")
    assert built["components"]["schemas"]["SearchRequest"]["properties"]["k"]["description"].startswith("Number of")


def test_keys_are_asked_for_where_there_are_some(tmp_path: Path) -> None:
    app = create_app(tmp_path, OPTIONS)
    assert "security" not in str(app.openapi())
    KeyFile(tmp_path).make("till", "read")
    assert app.openapi()["components"]["securitySchemes"]


class References(HTMLParser):
    """All that a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value or "" for name, value in attrs if name in ("href", "src")]
        self.ids |= {value or "" for name, value in attrs if name == "id"}
        assert not [name for name, _ in attrs if name == "style" or name.startswith("on")]


def test_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    found = client.get("/docs")
    page = References()
    page.feed(found.text)
    assert page.tags.isdisjoint({"script", "style", "iframe", "img"})
    for reference in set(page.found):
        if reference.startswith("#"):
            assert reference[1:] in page.ids
        else:
            assert client.get(reference).status_code == 200
    assert "POST /v1/search" in found.text
