"""Processes that work on a catalogue and are killed at a random moment; what must be true afterwards."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from scrubjay import _compat as compat
from scrubjay.catalogue import Catalogue
from scrubjay.gallery.transfer import copy
from scrubjay.stores import open_store
from scrubjay.workspace.options import CatalogueOptions
from tiny import IMAGES, NETWORK, TRAINING, photos

SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["scrubjay.catalogue", "scrubjay.methods.l2"])

OPTIONS = CatalogueOptions(images=IMAGES, network=NETWORK, training=TRAINING)


def template(root: Path) -> Path:
    """A catalogue with two generations, of which the first answers, and 16 items."""
    photos(root / "spring", "apple", "pear", each=8)
    photos(root / "summer", "fig", each=8)
    photos(root / "autumn", "plum", each=6)
    shop = Catalogue.init(root / "shop", OPTIONS)
    shop.learn(root / "spring")
    shop.add([root / "spring"])
    shop.learn(root / "summer", "l2")
    return root


def learn(root: Path, acknowledge: Callable[[str], None]) -> None:
    shop = Catalogue(root / "shop")
    if [generation.name for generation in shop.lineage.generations()] != ["g0", "g1", "g2"]:
        shop.learn(root / "autumn", "l2")
    acknowledge("g2")


def add(root: Path, acknowledge: Callable[[str], None]) -> None:
    shop = Catalogue(root / "shop")
    for path in sorted((root / "summer" / "fig").iterdir()):
        assert shop.add([path]).items == 1
        acknowledge(str(path))


def promote(root: Path, acknowledge: Callable[[str], None]) -> None:
    shop = Catalogue(root / "shop")
    if shop.serving.read().generation != "g1":
        shop.promote("g1", force=True)
    acknowledge("g1")


def backfill(root: Path, acknowledge: Callable[[str], None]) -> None:
    promote(root, lambda _: None)
    shop = Catalogue(root / "shop")
    assert shop.backfill().complete
    acknowledge("complete")


def rollback(root: Path, acknowledge: Callable[[str], None]) -> None:
    promote(root, lambda _: None)
    shop = Catalogue(root / "shop")
    if shop.serving.read().generation != "g0":
        shop.rollback()
    acknowledge("g0")


def moved(root: Path, acknowledge: Callable[[str], None]) -> None:
    done = copy(Catalogue(root / "shop").gallery.store, open_store(f"lancedb://{root}/elsewhere"))
    assert done.equal
    acknowledge("equal")


KINDS: dict[str, Callable[[Path, Callable[[str], None]], None]] = {
    "learn": learn,
    "add": add,
    "promote": promote,
    "backfill": backfill,
    "rollback": rollback,
    "copy": moved,
}


def work(kind: str, root: Path) -> None:
    """In the process that is killed: what is acknowledged is on the disk before the work goes on."""

    def acknowledge(what: str) -> None:
        with (root / "acknowledged").open("a") as file:
            file.write(what + "\n")
            file.flush()
            os.fsync(file.fileno())

    import lancedb  # noqa: F401  # it is not to be forked

    compat.load("timm")  # what takes seconds and writes nothing is over before the clock runs
    (root / "started").touch()
    KINDS[kind](root, acknowledge)


def fresh(source: Path, root: Path) -> Path:
    """A copy of the template, whose items lie where the template's lie."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(source, root)
    return root


def run(kind: str, root: Path, seconds: float | None = None) -> float:
    """Work in a process, killed after some seconds; returns how long it was let live."""
    process = SPAWN.Process(target=work, args=(kind, root))
    process.start()
    while process.is_alive() and not (root / "started").exists():
        time.sleep(0.01)
    began = time.monotonic()
    process.join(seconds)
    if process.is_alive():
        process.kill()
    process.join()
    if seconds is None:
        assert process.exitcode == 0, f"{kind} failed"
    return time.monotonic() - began


def acknowledged(root: Path) -> list[str]:
    path = root / "acknowledged"
    return path.read_text().splitlines() if path.exists() else []


def check(kind: str, root: Path) -> None:
    """What must be true of a catalogue in which work of a kind was killed."""
    told = acknowledged(root)
    shop = Catalogue(root / "shop")
    serving = shop.serving.read()
    store = shop.gallery.store
    items = {item.uri: item for item in store.items()}

    names = [generation.name for generation in shop.lineage.generations()]
    assert names[:2] == ["g0", "g1"]
    for name in names:
        shop.lineage.network(shop.lineage.get(name))
    assert serving.generation in ("g0", "g1")
    if kind == "learn":
        assert ("g2" in names) or not told
        assert serving.generation == "g0"
    if kind in ("promote", "rollback") and told:
        assert serving.generation == told[-1]

    template_items = [uri for uri in items if "/spring/" in uri]
    assert len(template_items) == 16
    assert kind != "add" or set(told) <= items.keys(), "what was acknowledged is gone"
    held = {name for space in store.spaces() for name in store.vectors(space.id)[0]}
    for uri, item in items.items():
        if uri in told or "/spring/" in uri:
            assert item.id in held, f"{uri} was acknowledged and has no vector"
    for space in store.spaces():
        ids, vectors = store.vectors(space.id)
        assert len(set(ids)) == len(ids)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)

    query = Path(next(iter(template_items)))
    hits = shop.search(query, 50)
    assert len(hits) == len(held)
    errors = [finding for finding in shop.upkeep.examine() if finding.kind == "error"]
    assert all("no vector" in finding.what for finding in errors), errors
    assert len(errors) <= len(items) - len(held)


def finish(kind: str, root: Path) -> None:
    """The same work again ends what was begun."""
    KINDS[kind](root, lambda _: None)
    shop = Catalogue(root / "shop")
    counts = shop.gallery.counts()
    if kind == "add":
        assert (shop.gallery.count(), counts["g0"]) == (24, 24)
    if kind == "backfill":
        assert counts == {"g0": 16, "g1": 16}
    if kind == "learn":
        assert shop.lineage.get("g2").classes == ("apple", "pear", "fig", "plum")
    done = shop.upkeep.repair()
    assert not any("vectors" in line for line in done), done
    assert not [finding for finding in shop.upkeep.examine() if finding.kind == "error"]
