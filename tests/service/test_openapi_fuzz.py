"""schemathesis over the whole OpenAPI document: no answer of a failed service, and every answer as documented."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import checks as general
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

import shops
from scrubjay import Client
from scrubjay.service.keys import KeyFile
from service.running import Running, served
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
WITH_KEYS = [checks.negative_data_rejection, checks.ignored_auth]
"""Without keys a request without one is answered, which the document cannot say."""
LASTING = ("DELETE /v1/classes/{name}", "GET /v1/jobs/{id}/events", "GET /v1/generations/{name}/gate")
"""Operations that take seconds for what there is; they are asked for what there is not."""
Modes = tuple[tuple[GenerationMode, bool], ...]
MODES: Modes = ((GenerationMode.POSITIVE, False), (GenerationMode.NEGATIVE, False), (GenerationMode.POSITIVE, True))
"""Requests that fit the document and that do not, and those that fit it for things which there are."""


@dataclass
class Target:
    """A service that is asked, with the key of an administrator, and the names of what it holds."""

    running: Running
    key: str | None
    known: dict[str, dict[str, str]]

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}


@pytest.fixture(scope="module", params=["without keys", "with keys"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    root = tmp_path_factory.mktemp("fuzzed")
    shop = shops.metric_shop(root)
    key = KeyFile(shop.folder).make("fuzzer", "admin")[0] if request.param == "with keys" else None
    with served(shop.folder) as running, Client(running.url, key or "") as client:
        paint(root / "sent" / "lime" / "1.png", 7, 900)
        upload = client.upload(root / "sent").upload
        item = client.search(root / "spring/train/apple/0.png").answers[0].hits[0].id
        job = client.start_job("backfill").id
        client.wait_for_job(job)
        names = {"items": {"id": item}, "jobs": {"id": job}, "uploads": {"upload": upload, "name": "lime/1.png"}}
        yield Target(running, key, {**names, "generations": {"name": "g0", "index": "0"}, "classes": {"name": "fig"}})


def asked(target: Target, examples: int) -> dict[str, str]:
    """What was found, by operation; it is empty."""
    schema = schemathesis.openapi.from_url(f"{target.running.url}/openapi.json")
    chosen = [*CHECKS, *(WITH_KEYS if target.key else ())]
    found: dict[str, str] = {}
    with requests.Session() as session:
        for result in schema.get_all_operations():
            operation = result.ok()
            for mode, known in MODES:
                names = target.known.get(resource(operation.path), {}) if known else {}
                fixed = {name: value for name, value in names.items() if f"{{{name}}}" in operation.path}
                if known and (not fixed or operation.label in LASTING):
                    continue
                check = checked(operation.as_strategy(mode, path_parameters=fixed or None), session, target, chosen)
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


def checked(cases: Any, session: requests.Session, target: Target, chosen: list[Any]) -> Callable[[], None]:
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


def log_of(target: Target) -> str:
    return Path(target.running.log).read_text()


@pytest.mark.parametrize("examples", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_every_answer_is_as_documented(target: Target, examples: int) -> None:
    found = asked(target, examples)
    assert not found, "\n\n".join(f"{name}:\n{text}" for name, text in found.items())
    assert target.running.process.poll() is None
    assert "Traceback" not in log_of(target)
