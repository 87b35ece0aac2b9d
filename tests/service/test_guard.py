"""What every request passes before a route sees it, and what every answer carries."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hostile import encoded, noise_image
from hypothesis import given
from hypothesis import strategies as st
from running import OPTIONS, application

from scrubjay.catalogue import Catalogue
from scrubjay.service import logs
from scrubjay.service.guard import HEADERS
from scrubjay.service.keys import KeyFile
from scrubjay.service.logs import JsonFormatter, PlainFormatter
from shops import metric_shop


def changed(**values: Any) -> Any:
    return OPTIONS.model_copy(update=values)


@pytest.mark.parametrize("path", ["/healthz", "/", "/docs", "/v1/status", "/v1/nothing", "/v1/items/none/image"])
def test_security_headers_and_identity_of_every_answer(client: TestClient, path: str) -> None:
    found = client.get(path, follow_redirects=False)
    assert {name: found.headers.get(name) for name in HEADERS} == HEADERS
    assert len(found.headers["x-request-id"]) == 16
    assert "unsafe" not in found.headers["content-security-policy"]


@pytest.mark.parametrize(
    "host", ["shop.example", "127.0.0.1.example", "192.168.0.9", "localhost.example", "", "[", "@"]
)
def test_other_names_are_refused_without_keys(client: TestClient, host: str) -> None:
    found = client.get("/v1/status", headers={"Host": host})
    assert (found.status_code, found.json()["type"]) == (421, "/problems/host-refused")


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_names_of_this_machine_are_taken(client: TestClient, host: str) -> None:
    assert client.get("/v1/status", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "http://127.0.0.1:9"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_pages_of_other_sites_change_nothing(client: TestClient, headers: dict[str, str]) -> None:
    found = client.post("/v1/search", json={"images": []}, headers=headers)
    assert (found.status_code, found.json()["type"]) == (403, "/problems/origin-refused")
    assert "access-control-allow-origin" not in found.headers


def test_own_page_is_taken(client: TestClient) -> None:
    found = client.post("/v1/search", json={"images": []}, headers={"Origin": "http://127.0.0.1"})
    assert found.status_code == 422


def test_allowed_site_may_ask_from_a_browser(shop: Catalogue) -> None:
    with application(shop.folder, changed(origins=("https://shop.example",))) as client:
        headers = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
        asked = client.options("/v1/search", headers={**headers, "Access-Control-Request-Headers": "authorization"})
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "https://shop.example")
        assert "access-control-allow-credentials" not in asked.headers
        found = client.post("/v1/search", json={"images": []}, headers={"Origin": "https://shop.example"})
        assert (found.status_code, found.headers["access-control-allow-origin"]) == (422, "https://shop.example")


def test_large_bodies_are_refused_while_they_are_read(shop: Catalogue) -> None:
    with application(shop.folder, changed(body_mb=1)) as client:

        def parts() -> Iterator[bytes]:
            for _ in range(40):
                yield bytes(2**16)

        for content in (bytes(2**20 + 1), parts()):
            found = client.post("/v1/search", content=content, headers={"Content-Type": "application/json"})
            assert (found.status_code, found.json()["type"]) == (413, "/problems/body-too-large")
        files = [("images", ("a.png", bytes(2**20 + 1), "image/png"))]
        assert client.post("/v1/search/upload", files=files).status_code == 413


def test_too_many_requests_of_one_caller(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    with application(shop.folder, changed(rate=0.001, rate_burst=2)) as client:
        codes = [client.get("/v1/status").status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        assert client.get("/healthz").status_code == 200
        secret, _ = KeyFile(shop.folder).make("till", "read")
        found = client.get("/v1/status", headers={"Authorization": f"Bearer {secret}"})
        assert found.status_code == 200


def test_bodies_that_cannot_be_parsed(client: TestClient) -> None:
    json_type = {"Content-Type": "application/json"}
    assert client.post("/v1/search", content=b"{", headers=json_type).status_code == 422
    assert client.post("/v1/search", content=b"\xff", headers=json_type).status_code in (400, 422)
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    for content in (b"--x\r\n", b"--x\r\nnonsense\r\n\r\n--x--", b""):
        found = client.post("/v1/search/upload", content=content, headers=broken)
        assert found.status_code in (400, 422)
        assert found.headers["content-type"] == "application/problem+json"


@given(st.text(max_size=30), st.text(max_size=10))
def test_any_path_and_query_is_answered_with_a_problem(client: TestClient, path: str, query: str) -> None:
    found = client.get(httpx_path(path), params={"side": query})
    assert found.status_code in (200, 404, 405, 410, 422)
    if found.status_code != 200:
        assert found.json()["status"] == found.status_code


def httpx_path(text: str) -> str:
    from urllib.parse import quote

    return f"/v1/items/{quote(text, safe='')}/image"


class FailingError(Exception):
    """What no route expects."""


def test_failure_of_the_service_tells_nothing_but_its_identity(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop = metric_shop(tmp_path)
    with application(shop.folder) as client:

        @client.app.get("/v1/fails")
        async def fails() -> None:
            raise FailingError("a secret")

        found = client.get("/v1/fails")
        assert (found.status_code, found.json()["type"]) == (500, "/problems/internal")
        assert "secret" not in found.text
        assert found.json()["request_id"] in caplog.text
        assert found.headers["content-security-policy"]


def test_log_holds_no_image_key_vector_or_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shop = metric_shop(tmp_path)
    secret, key = KeyFile(shop.folder).make("till", "read")
    item = next(iter(shop.gallery.store.items()))
    caplog.set_level(logging.DEBUG, "scrubjay")
    with application(shop.folder, key=secret) as client:
        files = [("images", ("private.png", encoded(noise_image()), "image/png"))]
        assert client.post("/v1/search/upload?token=private", files=files).status_code == 200
        assert client.get(f"/v1/items/{item.id}/image").status_code == 200
    records = [record for record in caplog.records if record.name == logs.REQUESTS.name]
    for formatter in (PlainFormatter(), JsonFormatter()):
        lines = [formatter.format(record) for record in records]
        assert all("\n" not in line for line in lines)
        text = "\n".join(lines)
        assert key.id in text
        assert "/v1/items/{id}/image" in text
        for private in (secret, "private", item.id, "base64"):
            assert private not in text
    logged = json.loads(JsonFormatter().format(records[0]))
    assert {"time", "level", "request_id", "method", "route", "status", "ms", "key"} <= set(logged)
    assert (logged["method"], logged["route"], logged["status"]) == ("POST", "/v1/search/upload", 200)


def test_log_lines_of_errors_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("scrubjay", logging.ERROR, "", 0, "two\nlines", (), None)
    assert "two lines" in PlainFormatter().format(record)
    assert json.loads(JsonFormatter().format(record))["message"] == "two\nlines"
    try:
        raise FailingError("here")
    except FailingError:
        import sys

        record.exc_info = sys.exc_info()
    assert "FailingError: here" in json.loads(JsonFormatter().format(record))["traceback"]
    assert "FailingError: here" in PlainFormatter().format(record)


def test_figures_for_prometheus(shop: Catalogue) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    with application(shop.folder) as client:
        file = io.BytesIO(encoded(noise_image()))
        assert client.post("/v1/search/upload", files=[("images", ("a.png", file, "image/png"))]).status_code == 200
        client.get("/no/such/page")
        text = client.get("/metrics").text
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    search = (("method", "POST"), ("route", "/v1/search/upload"), ("status", "200"))
    assert samples["scrubjay_requests_total", search] == 1
    assert samples["scrubjay_requests_total", (("method", "GET"), ("route", "none"), ("status", "404"))] == 1
    for part in ("decode", "queue", "embed", "search"):
        assert samples["scrubjay_part_seconds_count", (("part", part),)] == 1
    assert samples["scrubjay_items", ()] == shop.gallery.count()
    assert samples["scrubjay_serving_info", (("generation", "g1"),)] == 1
    assert samples["scrubjay_queue_images", ()] == 0
