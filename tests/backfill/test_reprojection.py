"""Items whose trunk features are stored move to a generation of the same trunk without their images."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from backfill_shop import BATCH, Shop, alike, killed, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from scrubjay import backfill
from scrubjay.backfill import Limits
from scrubjay.backfill import limits as limiting
from scrubjay.backfill.state import read_journal
from scrubjay.errors import SpaceError
from scrubjay.stores import Encoding
from tiny import IMAGES

HALF = 1e-3
"""Tolerance of vectors of features that were rounded to half precision."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "BATCH", BATCH)
    monkeypatch.setattr(limiting, "FEATURE_BATCH", BATCH)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """80 items, all with features."""
    shop = opened(tmp_path_factory.mktemp("made") / "shop", 80)
    shop.keep_features()
    return shop


@pytest.fixture(scope="module")
def shared(made: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A copy that a property test changes."""
    return replace(made, folder=shutil.copytree(made.folder, tmp_path_factory.mktemp("shared") / "shop"))


@pytest.fixture
def shop(made: Shop, tmp_path: Path) -> Shop:
    """A copy, whose images lie where they lay."""
    return replace(made, folder=shutil.copytree(made.folder, tmp_path / "shop"))


@pytest.fixture
def no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Iterator[object]:
        raise AssertionError("images are read")

    monkeypatch.setattr(backfill, "embed_chunks", refuse)


def sources(shop: Shop) -> list[tuple[str, int]]:
    """Source and number of items of each batch in the journal."""
    lines = [json.loads(line) for line in shop.journal.read_text().splitlines()]
    return [(line["source"], line["items"]) for line in lines if line["event"] == "batch"]


def test_a_gallery_moves_without_its_images(shop: Shop, no_images: None) -> None:
    expected = shop.expected()
    done = shop.run()
    assert (done.done, done.from_features, done.missing, done.complete) == (80, 80, 0, True)
    assert sources(shop) == [("features", BATCH)] * 5
    alike(shop.vectors(), expected, HALF)
    assert (shop.run().done, len(shop.rows())) == (0, 80)


def test_items_whose_images_are_gone_move_as_well(shop: Shop, no_images: None) -> None:
    items = [replace(item, uri=str(shop.folder / "gone" / Path(item.uri).name)) for item in shop.items]
    shop.store.put_items(items)
    done = shop.run()
    assert (done.done, done.skipped, done.complete) == (80, (), True)


@pytest.mark.parametrize("encoding", ["float16", "int8"])
def test_features_give_the_vectors_of_the_images(made: Shop, tmp_path: Path, encoding: Encoding) -> None:
    shop = replace(made, folder=shutil.copytree(made.folder, tmp_path / "shop"))
    shop.store.features.drop(shop.encoder("g0").era)
    shop.keep_features(encoding=encoding)
    shop.run()
    found, expected = shop.vectors(), shop.expected()
    cosines = [float(found[name] @ expected[name]) for name in shop.order]
    assert min(cosines) > (1 - 1e-6 if encoding == "float16" else 0.999)


def test_images_are_read_only_where_features_are_missing(shop: Shop) -> None:
    era = shop.encoder("g0").era
    shop.store.features.remove(era, shop.order[:3])
    Path(shop.items[0].uri).rename(shop.folder / "kept.png")
    try:
        done = shop.run()
    finally:
        (shop.folder / "kept.png").rename(shop.items[0].uri)
    assert (done.done, done.from_features, done.missing) == (79, 77, 1)
    assert [reason for _, _, reason in done.skipped] == ["the file is missing or cannot be read"]
    assert done.complete
    assert sources(shop) == [*[("features", 16)] * 4, ("features", 13), ("images", 2)]
    done = shop.run()
    assert (done.done, done.from_features) == (1, 0)
    alike(shop.vectors(), shop.expected(), HALF)


def test_features_of_another_trunk_are_not_used(shop: Shop) -> None:
    features = shop.store.features
    era = shop.encoder("g0").era
    names, rows = features.read(era, shop.order)
    features.create("0" * 32, features.codec(era))
    features.put("0" * 32, names, rows)
    features.drop(era)
    done = shop.run()
    assert (done.done, done.from_features, done.complete) == (80, 0, True)
    alike(shop.vectors(), shop.expected(), HALF)


def test_features_are_stored_with_vectors_where_they_are_kept(shop: Shop, one_thread: None) -> None:
    era = shop.encoder("g0").era
    kept = dict(zip(*shop.store.features.read(era, shop.order), strict=True))
    for jobs in (1, 2):
        shop.store.features.drop(era)
        shop.store.drop_space("g1")
        done = shop.work("float16").run(shop.order, Limits(jobs=jobs))
        assert (done.done, done.from_features, done.complete) == (80, 0, True)
        alike(shop.vectors(), shop.expected(), HALF)
        found = dict(zip(*shop.store.features.read(era, shop.order), strict=True))
        assert found.keys() == kept.keys()
        for name, row in kept.items():
            np.testing.assert_allclose(found[name], row, rtol=2e-3, atol=1e-4)
    shop.store.drop_space("g1")
    assert shop.run().from_features == 80


def test_limits_and_order_hold(shop: Shop, no_images: None) -> None:
    order = shop.order[::-1]
    done = shop.run(order, items=20)
    assert (done.done, done.from_features, done.limit) == (20, 20, "items")
    assert set(shop.vectors()) == set(order[:20])
    assert shop.run(order, seconds=0).done == 0
    assert shop.run(order, until=lambda: True).done == BATCH
    assert shop.run(order, rate=1e6).complete
    alike(shop.vectors(), shop.expected(), HALF)


def test_a_limit_of_items_counts_both_kinds(shop: Shop) -> None:
    shop.store.features.remove(shop.encoder("g0").era, shop.order[10:])
    done = shop.run(items=15)
    assert (done.done, done.from_features, done.limit) == (15, 10, "items")


@settings(max_examples=8)
@given(st.lists(st.integers(1, 40), max_size=3), st.sets(st.integers(0, 79)), st.randoms())
def test_any_cut_into_calls_ends_with_the_same_vectors(
    shared: Shop, cuts: list[int], lacking: set[int], shuffle: random.Random
) -> None:
    era = shared.encoder("g0").era
    shared.store.drop_space("g1")
    shared.keep_features()
    shared.store.features.remove(era, [shared.order[row] for row in lacking])
    order = list(shared.order)
    shuffle.shuffle(order)
    left = [80 - len(lacking), len(lacking)]
    for cut in cuts:
        done = shared.run(order, items=cut)
        assert done.from_features == min(cut, left[0])
        left = [left[0] - done.from_features, left[1] - done.done + done.from_features]
        assert done.missing == sum(left)
    assert shared.run(order).complete
    alike(shared.vectors(), shared.expected(), HALF)
    assert len(shared.rows()) == 80


def test_items_that_change_or_go_meanwhile_are_left_alone(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    changed, removed = shop.items[5], shop.items[6]
    work = shop.work()
    project = work.encoder.project

    def meanwhile(features: np.ndarray) -> np.ndarray:
        shop.store.put_items([replace(changed, content_hash="another")])
        shop.store.delete([removed.id])
        return project(features)

    monkeypatch.setattr(work.encoder, "project", meanwhile)
    done = work.run(shop.order, Limits())
    assert {name for name, _, _ in done.skipped} == {changed.id}
    assert set(shop.vectors()) == set(shop.order) - {changed.id, removed.id}


def test_the_audit_finds_vectors_of_another_projection(shop: Shop, no_images: None) -> None:
    assert shop.run().complete
    names, vectors = shop.store.vectors("g1")
    shop.store.put_embeddings(shop.new, names, np.roll(vectors, 1, axis=1))
    done = shop.run()
    assert not done.complete
    assert "32 of 32 vectors in a sample differ" in done.problems[0]


def test_features_of_a_projection_that_is_not_finite_leave_the_work_to_images(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = shop.work()
    monkeypatch.setattr(work.encoder, "project", lambda features: np.full((len(features), 16), np.nan, np.float32))
    assert work.run(shop.order, Limits(items=80)).from_features == 0
    with torch.no_grad():
        done = shop.run()
    assert (done.done, done.complete) == (80, True)


def test_other_options_for_images_are_another_era(shop: Shop, no_images: None) -> None:
    work = replace(shop.work(), images=IMAGES.model_copy(update={"resize": 40}))
    with pytest.raises(SpaceError, match=r"not be those of g1: images.size or images.resize"):
        work.run(shop.order, Limits())
    assert shop.rows() == []


def test_a_killed_re_projection_continues_where_it_was(shop: Shop, no_images: None) -> None:
    assert killed(shop, 1, 2, halt=2)
    progress = read_journal(shop.journal)
    assert (progress.state, progress.items, progress.done) == ("interrupted", 80, 32)
    assert len(shop.vectors()) == 32
    done = shop.run()
    assert (done.done, done.from_features, done.complete) == (48, 48, True)
    alike(shop.vectors(), shop.expected(), HALF)
    assert sorted(shop.rows()) == sorted(shop.order), "no vector is lost, none is stored twice"


@pytest.mark.slow
def test_killed_again_and_again_nothing_is_lost_or_doubled(tmp_path: Path, no_images: None) -> None:
    shop = opened(tmp_path / "shop", 600)
    shop.keep_features()
    drawn = random.Random(0)
    kills = sum(killed(shop, 1, drawn.randrange(6), drawn.uniform(0, 0.1)) for _ in range(6))
    assert kills >= 3
    held = len(shop.vectors())
    done = shop.run()
    assert (done.done, done.from_features, done.complete) == (600 - held, 600 - held, True)
    alike(shop.vectors(), shop.expected(), HALF)
    assert sorted(shop.rows()) == sorted(shop.order)
