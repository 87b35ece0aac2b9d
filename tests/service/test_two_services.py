"""Two services over one gallery: what one does is effective in the other, without a restart."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from running import served

import postgres_server
import shops
from scrubjay import Client
from scrubjay.catalogue import Catalogue
from scrubjay.service.schemas.search import AnswerRecord
from tiny import paint
from waiting import until


def within(folder: Path) -> str | None:
    """A gallery of LanceDB in the folder of the catalogue."""
    return None


def postgresql(folder: Path) -> str | None:
    return postgres_server.url()


STORES: dict[str, Callable[[Path], str | None]] = {"lancedb": within, "postgresql": postgresql}


def catalogue(root: Path, store: str | None) -> Catalogue:
    """Two generations in closed form, of which the first answers, and the items of both sessions."""
    for name in ("apple", "pear"):
        shops.images(root / "spring", name)
    shops.images(root / "summer", "fig")
    shop = Catalogue.init(root / "shop", shops.METRIC.model_copy(update={"store": store}))
    shop.learn(root / "spring", settings=shops.SETTINGS)
    shop.add([root / "spring/train"])
    shop.learn(root / "summer", settings=shops.SETTINGS)
    return shop


def answer(client: Client, image: Path) -> AnswerRecord:
    return client.search(image).answers[0]


@pytest.mark.parametrize(
    "store", [pytest.param(name, marks=[pytest.mark.slow] * (name != "lancedb")) for name in STORES]
)
def test_two_services_over_one_folder_are_one(tmp_path: Path, store: str) -> None:
    shop = catalogue(tmp_path, STORES[store](tmp_path))
    new = paint(tmp_path / "new" / "1.png", 5, 700)
    with ExitStack() as stack:
        one, other = (stack.enter_context(Client(stack.enter_context(served(shop.folder)).url)) for _ in range(2))
        assert one.status().serving == other.status().serving == "g0"

        (added,) = one.add_items([new], label="fig", metadata={"shelf": 3}).added
        found = answer(other, new).hits[0]
        assert (found.id, found.label, found.metadata) == (added.id, "fig", {"shelf": 3})
        assert other.item(added.id).label == "fig"
        assert other.item_image(added.id), "its file is in the folder of both"
        assert added.id in {item.id for item in other.all_items(labels=["fig"])}

        other.change_item(added.id, label="plum")
        assert answer(one, new).hits[0].label == "plum"

        assert one.promote("g1", revision=one.status().revision, force=True).serving == "g1"
        assert other.status().serving == "g1"
        assert answer(other, new).generation == answer(one, new).generation == "g1"
        assert other.rollback(revision=other.status().revision).serving == "g0"
        assert answer(one, new).generation == "g0"

        other.remove_item(added.id)
        assert added.id not in {hit.id for hit in answer(one, new).hits}


@pytest.mark.slow
def test_a_replica_of_the_folder_answers_from_the_same_gallery(tmp_path: Path) -> None:
    """As docs/deployment.md says: the gallery is in PostgreSQL, and the folder is copied, the serving file last."""
    shop = catalogue(tmp_path, postgres_server.url())
    replica = tmp_path / "replica" / "shop"

    def copy() -> None:
        without = shutil.ignore_patterns("serving.json", "queries.sqlite*", "*lock*", "jobs", "uploads", "unknown")
        shutil.copytree(shop.folder, replica, ignore=without, dirs_exist_ok=True)
        shutil.copy2(shop.folder / "serving.json", replica / "serving.part")
        (replica / "serving.part").replace(replica / "serving.json")

    copy()
    new = paint(tmp_path / "new" / "1.png", 5, 700)
    with ExitStack() as stack:
        primary, reader = (
            stack.enter_context(Client(stack.enter_context(served(folder)).url)) for folder in (shop.folder, replica)
        )
        (added,) = primary.add_items([new], label="fig").added
        assert answer(reader, new).hits[0].id == added.id
        primary.promote("g1", revision=primary.status().revision, force=True)
        assert answer(reader, new).generation == "g0", "a replica is as old as its last copy"
        copy()
        until(lambda: answer(reader, new).generation == "g1")
        assert answer(reader, new).hits[0].id == added.id
