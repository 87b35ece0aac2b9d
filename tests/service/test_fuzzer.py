"""Thousands of requests that nobody would send by accident: each is answered, and the service is as it was."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from fuzzing import Sent, requests
from hypothesis import HealthCheck, Phase, given, settings
from running import Fuzzed

GROWTH = 48.0
"""MiB that the memory of the service may grow by after the first fifth of all requests: caches fill up to their
limits, and allocators keep what they were once given."""
HANG = 120.0
"""Seconds after which a request is taken to hang; the service gives up on an image after ten."""


def memory(pid: int) -> float:
    """Resident memory of the service and of the processes that decode for it, in MiB; jobs come and go."""
    children = [child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
    total = 0.0
    for each in (str(pid), *children):
        with suppress(FileNotFoundError, ProcessLookupError):  # a process may end in the meantime
            process = Path("/proc") / each
            if each == str(pid) or b"decode_worker" in (process / "cmdline").read_bytes():
                found = re.search(r"VmRSS:\s+(\d+) kB", (process / "status").read_text())
                total += int(found[1]) / 1024 if found else 0.0
    return total


def answer(client: httpx.Client, sent: Sent) -> int:
    """The status of the answer, which is as every answer must be."""
    response = client.request(sent.method, sent.path, **sent.arguments)
    assert response.status_code < 500, (sent, response.text)
    if response.status_code >= 400:
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code
        assert str(Path("/tmp")) not in response.text, "no path of the machine"
    return response.status_code


@pytest.mark.parametrize("inputs", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_whatever_is_sent_is_answered(fuzzed: Fuzzed, inputs: int) -> None:
    running = fuzzed.running
    statuses: Counter[int] = Counter()
    sizes: list[float] = []

    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(sent=requests())
    def ask(sent: Sent) -> None:
        statuses[answer(client, sent)] += 1
        if statuses.total() % (inputs // 10) == 0:
            sizes.append(memory(running.process.pid))

    with httpx.Client(base_url=running.url, headers=fuzzed.headers, timeout=HANG) as client:
        ask()
        assert client.get("/readyz").status_code == 200
    assert statuses.total() >= inputs
    assert statuses[200] + statuses[201] > inputs // 50, "sound images are among them"
    log = running.log.read_text()
    assert "Traceback" not in log
    assert '"status": 5' not in log
    assert running.process.poll() is None
    if inputs >= 10_000:
        assert sizes[-1] - sizes[1] < GROWTH, sizes
