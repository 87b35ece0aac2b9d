from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# Networks of these sizes gain nothing from threads, and two that spin for each other's cores lose seconds.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when a library that can ask the Hub is imported

import pytest
import torch
from hypothesis import settings

from scrubjay.cli import main
from tiny import Call

settings.register_profile("scrubjay", deadline=None, derandomize=True)  # the same examples on every machine
settings.register_profile("explore", deadline=None)  # others in every run: `make check-all`
settings.load_profile("scrubjay")


def pytest_configure() -> None:
    """Undo an ignored SIGINT, which a run in the background inherits: processes under test would ignore it too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup() -> None:
    """Let a test draw the same numbers whichever others ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def grocery() -> Path:
    """The Grocery Store images: `SCRUBJAY_GROCERY`, else beside the repository; skipped where neither is."""
    beside = Path(__file__).parents[2] / "shared" / "data" / "grocery"
    root = Path(os.environ.get("SCRUBJAY_GROCERY", beside))
    if not (root / "train.txt").is_file():
        pytest.skip(f"no Grocery Store images in {root}: set SCRUBJAY_GROCERY")
    return root


@pytest.fixture(scope="session")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and the catalogue `shop` of two generations; work on copies: `killing.fresh`."""
    import killing

    return killing.template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Computes with one thread, here and in processes that a test starts: results to the bit depend on their number."""
    threads = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Runs the console script's entry point in `tmp_path`; returns exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scrubjay", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
