"""One suite for the features in every store; the stores themselves are in test_stores.py."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores_under_test import ADDRESS, EACH

from scrubjay.errors import ConfigError, DataError, SpaceError
from scrubjay.stores import FeatureCodec, Item, Space, Store, open_store

ERA, OTHER = "0123456789abcdef" * 2, "f" * 32
DIM = 6
HALF = FeatureCodec.float16(DIM)


@pytest.fixture(params=EACH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return ADDRESS[request.param](tmp_path)


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url)


def values(count: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float16).astype(np.float32)


def item(name: str, content: str = "") -> Item:
    return Item(name, f"file:///{name}.jpg", content or f"hash of {name}")


def filled(store: Store, count: int = 20) -> np.ndarray:
    """`count` items "00", "01", …, all with features of `ERA`."""
    names = [f"{number:02d}" for number in range(count)]
    store.put_items(map(item, names))
    store.features.create(ERA, HALF)
    assert store.features.put(ERA, names, values(count)) == 0
    return values(count)


def test_features_come_back_in_the_order_asked_for(store: Store, url: str) -> None:
    stored = filled(store)
    names, found = open_store(url).features.read(ERA, ["07", "nobody", "03", "\ud800"])
    assert names == ["07", "03"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, stored[[7, 3]])
    names, found = store.features.read(ERA, [])
    assert (names, found.shape) == ([], (0, DIM))
    assert store.features.put(ERA, [], np.empty((0, DIM), np.float32)) == 0


def test_eras_keep_the_codec_they_were_created_with(store: Store, url: str) -> None:
    sample = np.random.default_rng(1).standard_normal((64, 3)).astype(np.float32)
    assert store.features.codecs() == {}
    filled(store)
    store.features.create(OTHER, FeatureCodec.int8(sample))
    store.features.create(OTHER, FeatureCodec.float16(9))
    store.features.create(ERA, FeatureCodec.float16(9))
    assert open_store(url).features.codecs() == {ERA: HALF, OTHER: FeatureCodec.int8(sample)}
    assert store.features.put(OTHER, ["00", "01"], 1e9 * np.ones((2, 3))) == 6
    codec = FeatureCodec.int8(sample)
    store.features.put(OTHER, ["02", "00"], sample[:2])
    names, found = store.features.read(OTHER, ["00", "02"])
    assert names == ["00", "02"]
    np.testing.assert_array_equal(found, codec.decode(codec.encode(sample[[1, 0]])[0]))
    store.features.drop(OTHER)
    store.features.drop(OTHER)
    assert store.features.codecs() == {ERA: HALF}
    assert store.count() == 20
    with pytest.raises(SpaceError, match=f"no features of era '{OTHER}' in this gallery; it has: {ERA}"):
        store.features.missing(OTHER)
    store.features.create(OTHER, FeatureCodec.float16(2))
    assert store.features.missing(OTHER, 3) == ["00", "01", "02"]


def test_features_of_many_channels(store: Store) -> None:
    wide = values(40, 8192)
    store.put_items(item(f"{number:02d}") for number in range(40))
    for era, codec in ((ERA, FeatureCodec.float16(8192)), (OTHER, FeatureCodec.int8(wide))):
        store.features.create(era, codec)
        store.features.put(era, [f"{number:02d}" for number in range(40)], wide)
        names, found = store.features.read(era, [f"{number:02d}" for number in range(39, -1, -1)])
        assert names[0] == "39"
        np.testing.assert_array_equal(found, codec.decode(codec.encode(wide[::-1])[0]))


@pytest.mark.parametrize("era", ["", "G" * 32, "0" * 33, "../x"])
def test_eras_that_cannot_be(store: Store, era: str) -> None:
    with pytest.raises(ConfigError, match="hexadecimal"):
        store.features.create(era, HALF)
    with pytest.raises(ConfigError, match="8193 channels; a gallery stores 1 to 8192"):
        store.features.create(ERA, FeatureCodec.float16(8193))
    assert store.features.codecs() == {}


def test_refused_features_write_nothing(store: Store) -> None:
    filled(store)
    store.put_items([item("x")])
    with pytest.raises(SpaceError, match="no features of era"):
        store.features.put(OTHER, ["x"], values(1))
    with pytest.raises(SpaceError, match=r"shape \(1, 4\)"):
        store.features.put(ERA, ["x"], values(1, 4))
    with pytest.raises(DataError, match="no item 'y' \\(1 such ids\\)"):
        store.features.put(ERA, ["x", "y"], values(2))
    with pytest.raises(DataError, match="2 ids for the features of 1 images"):
        store.features.put(ERA, ["x", "00"], values(1))
    with pytest.raises(DataError, match="the features of image 1 are not finite"):
        store.features.put(ERA, ["x", "00"], [[1.0] * DIM, [np.nan] * DIM])
    assert store.features.missing(ERA) == ["x"]


def test_features_are_current_while_their_item_keeps_its_content(store: Store) -> None:
    stored = filled(store)
    store.put_items([item("04", content="retouched"), item("05")])
    assert store.features.missing(ERA) == ["04"]
    assert store.features.read(ERA, ["04", "05"])[0] == ["05"]
    rows = {
        name: (content, row) for block in store.features.stored(ERA) for name, content, row in zip(*block, strict=True)
    }
    assert sorted(rows) == [f"{number:02d}" for number in range(20)]
    assert rows["04"][0] == "hash of 04"
    np.testing.assert_array_equal(HALF.decode(np.stack([rows[name][1] for name in sorted(rows)])), stored)
    store.features.put(ERA, ["04", "04"], stored[:2])
    assert store.features.missing(ERA) == []
    np.testing.assert_array_equal(store.features.read(ERA, ["04"])[1], stored[1:2])


def test_a_deleted_item_loses_its_features_of_every_era(store: Store) -> None:
    filled(store)
    store.features.create(OTHER, FeatureCodec.float16(2))
    store.features.put(OTHER, ["00", "01"], values(2, 2))
    assert store.delete(["00", "nobody"]) == 1
    for era in (ERA, OTHER):
        assert "00" not in {name for names, _, _ in store.features.stored(era) for name in names}
    store.put_items([item("00")])
    assert store.features.missing(ERA) == ["00"]
    assert store.features.read(OTHER, ["00", "01"])[0] == ["01"]


def test_features_can_be_removed_and_written_again(store: Store) -> None:
    stored = filled(store)
    assert store.features.remove(ERA, ["03", "04", "03", "nobody"]) == 2
    assert store.features.remove(ERA, []) == 0
    assert (store.count(), store.features.missing(ERA)) == (20, ["03", "04"])
    store.features.put(ERA, ["04"], stored[4:5])
    assert store.features.missing(ERA, 5) == ["03"]


def test_maintenance_keeps_what_is_current(store: Store) -> None:
    stored = filled(store)
    store.put_items([item("04", content="retouched")])
    store.delete(["07"])
    for _ in range(2):
        store.maintain()
        names, found = store.features.read(ERA, [f"{number:02d}" for number in range(20)])
        assert names == [f"{number:02d}" for number in range(20) if number not in (4, 7)]
        np.testing.assert_array_equal(found, stored[[int(name) for name in names]])


def test_spaces_and_features_know_nothing_of_each_other(store: Store) -> None:
    space = Space("g0", 8, "fingerprint", "g0")
    store.create_space(space)
    filled(store)
    assert store.coverage(space) == (0, 20)
    store.put_embeddings(space, ["00"], np.eye(1, 8))
    assert store.spaces() == [space]
    store.drop_space("g0")
    assert store.features.missing(ERA) == []
    assert list(store.features.codecs()) == [ERA]


NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("item"), NAMES, st.integers(0, 1)),
    st.tuples(st.just("features"), NAMES, st.integers(0, 9)),
    st.tuples(st.just("remove"), NAMES, st.just(0)),
    st.tuples(st.just("delete"), NAMES, st.just(0)),
)


@pytest.mark.parametrize("name", EACH)
@given(steps=st.lists(STEPS, max_size=10))
@settings(max_examples=12)
def test_any_history_ends_like_its_model(name: str, steps: list[tuple[str, str, int]]) -> None:
    items: dict[str, Item] = {}
    features: dict[str, tuple[str, np.ndarray]] = {}
    pool = values(10, seed=5)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(ADDRESS[name](Path(folder)))
        store.features.create(ERA, HALF)
        for verb, key, value in steps:
            if verb == "item":
                items[key] = item(key, content=f"content {value}")
                store.put_items([items[key]])
            elif verb == "delete":
                items.pop(key, None)
                features.pop(key, None)
                store.delete([key])
            elif verb == "remove":
                assert store.features.remove(ERA, [key]) == (features.pop(key, None) is not None)
            elif key in items:
                features[key] = items[key].content_hash, pool[value]
                store.features.put(ERA, [key], pool[value : value + 1])
            held = {k: v for k, (content, v) in features.items() if items[k].content_hash == content}
            assert store.features.missing(ERA) == sorted(items.keys() - held.keys())
            names, found = store.features.read(ERA, ["c", "b", "a"])
            assert names == sorted(held, reverse=True)
            np.testing.assert_array_equal(found, np.array([held[k] for k in names]).reshape(-1, DIM))
