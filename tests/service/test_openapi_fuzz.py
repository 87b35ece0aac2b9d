"""schemathesis over the whole OpenAPI document: no answer of a failed service, and every answer as documented."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from running import Fuzzed, served
from schemathesis import checks as general
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

import shops
from scrubjay import Client
from tiny import paint

CHECKS = [
    general.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.missing_required_header,
    checks.unsupported_method,
    checks.ensure_resource_availability,
    checks.use_after_free,
]
WITH_KEYS = [checks.ignored_auth]
"""Without keys a request without one is answered, which the document cannot say."""
LASTING = ("DELETE /v1/classes/{name}", "GET /v1/jobs/{id}/events", "GET /v1/generations/{name}/gate")
"""Operations that take seconds for what there is; they are asked for what there is not."""
Modes = tuple[tuple[GenerationMode, bool], ...]
MODES: Modes = ((GenerationMode.POSITIVE, False), (GenerationMode.NEGATIVE, False), (GenerationMode.POSITIVE, True))
"""Requests that fit the document and that do not, and those that fit it for things which there are."""


@pytest.fixture(scope="module")
def without_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    root = tmp_path_factory.mktemp("without-keys")
    shops.metric_shop(root)
    with served(root / "shop") as running:
        yield Fuzzed(running, root, None)


def known_names(target: Fuzzed) -> dict[str, dict[str, str]]:
    """Path parameters of what the catalogue holds, by kind of resource."""
    root = target.root
    with Client(target.running.url, target.key or "") as client:
        paint(root / "sent" / "lime" / "1.png", 7, 900)
        upload = client.upload(root / "sent").upload
        item = client.search(root / "spring/train/apple/0.png").answers[0].hits[0].id
        job = client.start_job("backfill").id
        client.wait_for_job(job)
    names = {"items": {"id": item}, "jobs": {"id": job}, "uploads": {"upload": upload, "name": "lime/1.png"}}
    return {**names, "generations": {"name": "g0", "index": "0"}, "classes": {"name": "fig"}}


def asked(target: Fuzzed, examples: int) -> dict[str, str]:
    """What was found, by operation; it is empty."""
    schema = schemathesis.openapi.from_url(f"{target.running.url}/openapi.json")
    chosen = [*CHECKS, *(WITH_KEYS if target.key else ())]
    known_by_kind = known_names(target)
    found: dict[str, str] = {}
    with requests.Session() as session:
        for result in schema.get_all_operations():
            operation = result.ok()
            # What is wrong as JSON may be right as text: a form or a query string cannot say null, and unknown
            # parameters of a query string are passed over.
            strict = target.key and "application/json" in str(operation.definition.raw.get("requestBody"))
            applied = [*chosen, *([checks.negative_data_rejection] if strict else ())]
            for mode, known in MODES:
                names = known_by_kind.get(resource(operation.path), {}) if known else {}
                fixed = {name: value for name, value in names.items() if f"{{{name}}}" in operation.path}
                if known and (not fixed or operation.label in LASTING):
                    continue
                check = checked(operation.as_strategy(mode, path_parameters=fixed or None), session, target, applied)
                try:
                    bounded(examples)(check)()
                except Unsatisfiable:
                    assert mode is GenerationMode.NEGATIVE, operation.label  # nothing in it can be wrong
                except FailureGroup as failure:
                    found[f"{operation.label}, {mode.value}"] = str(failure)
    return found


def resource(path: str) -> str:
    """The kind of resource that a path names, such as `items`; empty for another path."""
    return path.split("/")[2] if path.startswith("/v1/") else ""


def checked(cases: Any, session: requests.Session, target: Fuzzed, chosen: list[Any]) -> Callable[[], None]:
    @given(case=cases)
    def check(case: Any) -> None:
        response = case.call(session=session, headers=target.headers)
        case.validate_response(response, checks=chosen, headers=target.headers)

    return check  # type: ignore[no-any-return]


def bounded(examples: int) -> settings:
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def check(target: Fuzzed, examples: int) -> None:
    found = asked(target, examples)
    assert not found, "\n\n".join(f"{name}:\n{text}" for name, text in found.items())
    assert target.running.process.poll() is None
    assert "Traceback" not in target.running.log.read_text()


@pytest.mark.parametrize("examples", [1, pytest.param(60, marks=pytest.mark.slow)])
def test_every_answer_is_as_documented(fuzzed: Fuzzed, examples: int) -> None:
    check(fuzzed, examples)


@pytest.mark.slow
@pytest.mark.parametrize("examples", [3, 60])
def test_every_answer_is_as_documented_without_keys(without_keys: Fuzzed, examples: int) -> None:
    check(without_keys, examples)
