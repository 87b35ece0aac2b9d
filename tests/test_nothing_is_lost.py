"""SIGKILL at random moments, a full disk, two writers, damaged files: what was acknowledged stays, and is explained."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import killing
from scrubjay.catalogue import Catalogue
from scrubjay.errors import CatalogueError, ScrubjayError, StorageError
from scrubjay.io.locking import locked
from tiny import photos


def rounds(small_shop: Path, root: Path, kind: str, number: int, seed: int) -> int:
    """Kill work of a kind at random moments; returns how often it was cut short."""
    chance = random.Random(seed)
    whole = killing.run(kind, killing.fresh(small_shop, root))
    cut = 0
    for _ in range(number):
        killing.fresh(small_shop, root)
        lived = killing.run(kind, root, chance.uniform(0, 1.1) * whole)
        cut += lived < whole
        killing.check(kind, root)
        killing.finish(kind, root)
    return cut


@pytest.mark.parametrize("kind", sorted(killing.KINDS))
def test_a_kill_loses_nothing(small_shop: Path, tmp_path: Path, kind: str) -> None:
    rounds(small_shop, tmp_path / "work", kind, 1, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "number"), [(kind, 17) for kind in sorted(killing.KINDS)])
def test_a_hundred_kills_lose_nothing(small_shop: Path, tmp_path: Path, kind: str, number: int) -> None:
    cut = rounds(small_shop, tmp_path / "work", kind, number, seed=2)
    print(f"{kind}: {number} runs, {cut} killed before their end, nothing lost")  # noqa: T201
    assert cut > number / 3, "most kills came too late to tell anything"


def refused(attempt: Callable[[], object]) -> ScrubjayError | None:
    """The error of an attempt that may go well or not."""
    try:
        attempt()
    except ScrubjayError as error:
        return error
    return None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_nothing(small_shop: Path, small_disk: Path, tmp_path: Path) -> None:
    root = killing.fresh(small_shop, small_disk / "work")
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk)
    ballast.write_bytes(b"\0" * max(0, free.f_bavail * free.f_frsize - 40_000))
    summer = photos(tmp_path / "summer", "fig", each=40)
    shop = Catalogue(root / "shop")
    for attempt in (
        lambda: shop.add([summer]),
        lambda: shop.learn(root / "autumn"),
        lambda: shop.promote("g1", force=True),
    ):
        refusal = refused(attempt)
        assert refusal is None or isinstance(refusal, StorageError), refusal
    again = Catalogue(root / "shop")
    before = [item.uri for item in again.gallery.store.items() if "/spring/" in item.uri]
    assert len(before) == 16
    assert len(again.search(Path(before[0]), 16)) == 16
    ballast.unlink()
    again.upkeep.repair()
    assert again.add([summer]).items == 40
    assert again.gallery.unembedded() == 0
    assert not [finding for finding in again.upkeep.examine() if finding.kind == "error"]


def test_two_writers_at_once_are_one_and_a_refusal(small_shop: Path, tmp_path: Path) -> None:
    root = killing.fresh(small_shop, tmp_path / "work")
    shop, other = Catalogue(root / "shop"), Catalogue(root / "shop")
    seen = other.serving.read().revision
    shop.promote("g1", force=True)
    with pytest.raises(CatalogueError, match="in the meantime"):
        other.serving.change("promote", "g0", seen)
    with locked(shop.folder):
        with pytest.raises(CatalogueError, match="another process"):
            other.add([root / "summer"])
        assert other.rollback().generation == "g0", "what answers changes while another process is at work"
    assert other.add([root / "summer"]).items == 8


FILES = (
    "generations/g1/network.safetensors",
    "generations/trunks/{trunk}.safetensors",
    "generations/g1/bridges.safetensors",
    "generations/g1/generation.json",
    "serving.json",
    "probe/g0/index.json",
    "calibration/g0.json",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["torn", "gone", "noise"])
def test_the_doctor_names_a_damaged_file(small_shop: Path, tmp_path: Path, name: str, damage: str) -> None:
    root = killing.fresh(small_shop, tmp_path / "work")
    lineage = Catalogue(root / "shop").lineage
    trunk = str(lineage.get("g1").info.trunk)
    path = root / "shop" / name.format(trunk=trunk)
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "torn" else b"\x00\xff" * 40)
    shop = Catalogue(root / "shop")
    spring = root / "spring" / "apple" / "0.png"
    findings = shop.upkeep.examine()
    gone_without_harm = damage == "gone" and name.partition("/")[0] in ("probe", "calibration")
    if not gone_without_harm:
        assert any(path.name in finding.what or "no generation answers" in finding.what for finding in findings)
    if name.startswith(("generations/g1/n", "generations/g1/b", "generations/t", "probe")) or gone_without_harm:
        assert len(shop.search(spring, 20)) == 16, "what is whole goes on answering"
    else:
        refusal = refused(lambda: shop.search(spring, 20))
        assert refusal is None or path.name in str(refusal) or "nothing was learned" in str(refusal)
