"""Processes that forget or merge are killed at random moments; the same command finishes what they began."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

import killing
from scrubjay import _compat as compat
from scrubjay.catalogue import Catalogue
from scrubjay.workspace.removal_request import RemovalRequest
from shops import metric_shop


def forget(root: Path) -> None:
    shop = Catalogue(root / "shop")
    if "fig" in shop.workspace.serving_generation().classes or RemovalRequest.pending(shop.folder) is not None:
        shop.upkeep.forget(["fig", "apple"])


def merge(root: Path) -> None:
    if not (root / "both").exists():
        Catalogue(root / "shop").upkeep.merge(Catalogue(root / "shop").workspace, root / "both")
    Catalogue(root / "both").backfill()


WORK = {"forget": forget, "merge": merge}


def work(kind: str, root: Path) -> None:
    """In the process that is killed."""
    import lancedb  # noqa: F401  # what takes seconds and writes nothing is over before the clock runs

    compat.load("timm")
    (root / "started").touch()
    WORK[kind](root)


def run(kind: str, root: Path, seconds: float | None = None) -> float:
    """Work in a process, killed after some seconds; returns how long it was let live."""
    process = killing.SPAWN.Process(target=work, args=(kind, root))
    process.start()
    while process.is_alive() and not (root / "started").exists():
        time.sleep(0.01)
    began = time.monotonic()
    process.join(seconds)
    if process.is_alive():
        process.kill()
    process.join()
    return time.monotonic() - began


def check(kind: str, root: Path) -> None:
    """What must be true after the kill, and after the same work again."""
    shop = Catalogue(root / "shop")
    for generation in shop.lineage.generations():
        shop.lineage.network(generation)
        shop.lineage.statistics.total(generation)
    hits = shop.search(root / "spring/train/pear/0.png", 50)
    assert {"pear", "plum", "kiwi"} <= {hit.label for hit in hits}
    assert kind == "forget" or len(hits) == 28, "the merged catalogues stay as they are"
    WORK[kind](root)
    done = Catalogue(root / ("shop" if kind == "forget" else "both"))
    labels = {hit.label for hit in done.search(root / "summer/train/fig/0.png", 50)}
    assert labels == ({"pear", "plum", "kiwi"} if kind == "forget" else {"apple", "pear", "plum", "fig", "kiwi"})
    done.upkeep.repair()
    assert not [finding for finding in done.upkeep.examine() if finding.kind == "error"]
    assert not list(root.glob(".both*"))


@pytest.mark.parametrize("kind", sorted(WORK))
@pytest.mark.parametrize("number", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_a_kill_is_made_good_by_the_same_command(tmp_path: Path, kind: str, number: int) -> None:
    chance = random.Random(number)
    metric_shop(tmp_path / "whole")
    whole = run(kind, tmp_path / "whole")
    for turn in range(number):
        root = tmp_path / str(turn)
        metric_shop(root)
        run(kind, root, chance.uniform(0, 1) * whole)
        check(kind, root)
        shutil.rmtree(root)
