"""`scrubjay serve` as a process: where it listens, how it ends, and several workers."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from running import Running, served

from scrubjay.catalogue import Catalogue
from scrubjay.service.keys import KeyFile
from shops import METRIC, metric_shop
from tiny import Call
from waiting import GUARD, until


def body(path: Path) -> dict[str, object]:
    return {"images": [{"base64": base64.b64encode(path.read_bytes()).decode()}], "k": 3}


@pytest.fixture
def shop(tmp_path: Path) -> Catalogue:
    return metric_shop(tmp_path)


def test_serves_and_finishes_what_it_accepted_when_it_is_ended(shop: Catalogue, call: Call) -> None:
    apple = shop.folder.parent / "spring/test/apple/100.png"
    with served(shop.folder, settings=["log=json"]) as running, running.client() as client:
        assert "no API keys are required" in running.line
        found = client.post("/v1/search", json=body(apple)).json()["answers"][0]
        assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in shop.answer(apple, 3).hits]
        port_in_use_is_told(call, shop, running)
        with socket.create_connection(("127.0.0.1", int(running.port)), GUARD) as raw:
            raw.sendall(b"NONSENSE\r\n\r\n")
            assert b"400" in raw.recv(1000)
        accepted_requests_are_finished(shop, running)
        assert running.process.wait(GUARD) == 0
        logged = [json.loads(line) for line in running.log.read_text().splitlines()]
        assert "/v1/search" in {line.get("route") for line in logged}
        assert not [line for line in logged if line["level"] in ("error", "critical")]


def port_in_use_is_told(call: Call, shop: Catalogue, running: Running) -> None:
    code, _, said = call("serve", str(shop.folder), "--port", running.port)
    assert (code, said.count("\n")) == (2, 1)
    assert "--port" in said


def accepted_requests_are_finished(shop: Catalogue, running: Running) -> None:
    paths = sorted((shop.folder.parent / "spring/test").glob("*/*.png"))
    images = {"images": [*(body(path)["images"][0] for path in paths)] * 7}
    codes: list[int] = []

    def ask() -> None:
        with running.client() as client:
            codes.append(client.post("/v1/search", json=images).status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    with running.client() as client:
        until(lambda: in_flight(client) >= 4 or len(codes) == 4)
    running.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(GUARD)
    assert codes == [200] * 4


def in_flight(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("scrubjay_requests_in_flight ")) - 1


@pytest.mark.slow
def test_workers_share_figures_and_keys_and_see_what_other_processes_do(shop: Catalogue) -> None:
    with served(shop.folder, "--workers", "2") as running:
        promotion_and_rollback_drop_no_request(shop, running)
        figures_and_keys_are_shared(shop, running)


def promotion_and_rollback_drop_no_request(shop: Catalogue, running: Running) -> None:
    apple = body(shop.folder.parent / "spring/test/apple/100.png")
    end = threading.Event()
    seen: list[tuple[int, str]] = []

    def ask() -> None:
        with running.client() as client:
            while not end.is_set():
                found = client.post("/v1/search", json=apple)
                seen.append((found.status_code, found.json()["answers"][0]["generation"]))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for change, generation in (
            (shop.rollback, "g0"),
            (lambda: shop.promote("g1", force=True), "g1"),
        ):
            wait_until_all_answer_by(seen, change, generation)
    finally:
        end.set()
        for thread in threads:
            thread.join(GUARD)
    assert {code for code, _ in seen} == {200}


def figures_and_keys_are_shared(shop: Catalogue, running: Running) -> None:
    apple = body(shop.folder.parent / "spring/test/apple/100.png")
    secret, _ = KeyFile(shop.folder).make("till", "read")
    counts = []
    for _ in range(12):
        with running.client(secret) as client:  # each connection may reach another worker
            assert client.post("/v1/search", json=apple).status_code == 200
            counts.append(searches(client))
    assert counts == [counts[0] + number for number in range(12)]
    KeyFile(shop.folder).revoke("till")
    for _ in range(12):
        with running.client(secret) as client:
            assert client.get("/v1/status").status_code == 401


def searches(client: httpx.Client) -> float:
    """Number of searches that were answered, as the figures tell."""
    lines = client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("scrubjay_requests_total{") and '"/v1/search"' in line]
    return sum(float(line.split()[-1]) for line in found if '"200"' in line)


def wait_until_all_answer_by(seen: list[tuple[int, str]], change: Callable[[], object], generation: str) -> None:
    until(lambda: len(seen) > 8)
    change()
    mark = len(seen) + 4  # those that were on their way may have been answered before
    until(lambda: len(seen) > mark + 40)
    assert {name for _, name in seen[mark:]} == {generation}


def test_mistakes_are_told_in_one_line(call: Call, tmp_path: Path) -> None:
    Catalogue.init(tmp_path / "own", METRIC)
    for arguments, part in (
        (("serve", "own", "--host", "0.0.0.0"), "scrubjay keys make own"),
        (("serve", "nowhere"), "no catalogue here"),
        (("serve", "own", "--set", "prot=1"), "Did you mean 'port'?"),
        (("serve", "own", "--set", "origins=*"), "not an origin"),
        (("serve", "own", "--host", "203.0.113.7"), "keys"),
        (("serve", "own", "--config", "none.toml"), "none.toml"),
    ):
        code, _, said = call(*arguments)
        assert (code, said.count("\n")) == (2, 1), arguments
        assert part in said
    KeyFile(tmp_path / "own").make("till", "read")
    code, _, said = call("serve", "own", "--host", "203.0.113.7")
    assert (code, "203.0.113.7" in said) == (2, True)


@pytest.mark.slow
def test_start_line_says_that_keys_are_required(tmp_path: Path) -> None:
    shop = Catalogue.init(tmp_path / "own", METRIC)
    KeyFile(shop.folder).make("till", "read")
    with served(shop.folder) as running:
        assert "API keys are required" in running.line
        assert "no API keys" not in running.line


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "python_multipart", "prometheus_client"])
def test_missing_extra_is_told_with_the_command_that_installs_it(missing: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from scrubjay.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{missing} is not installed: pip install 'scrubjay[service]'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_catalogue_that_cannot_be_read(tmp_path: Path, workers: str) -> None:
    shop = Catalogue.init(tmp_path / "own", METRIC)
    shop.serving.path.write_text("{")
    command = [sys.executable, "-c", "from scrubjay.cli import main; main()", "serve", str(shop.folder)]
    done = subprocess.run([*command, "--port", "0", "--workers", workers], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "serving.json" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("scrubjay: ")
