"""What is LanceDB's own in a large gallery: when its index is built, and what a search reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from stores_under_test import few_rows_are_many

from scrubjay.stores import Item, Space, Store, open_store
from scrubjay.stores import _lance_index as index
from scrubjay.stores._lance_rows import having
from scrubjay.stores._lance_search import scan
from scrubjay.stores._lance_table import Table
from scrubjay.stores.lancedb import LanceStore

G0 = Space("g0", 8, "fingerprint", "g0")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LanceStore:
    few_rows_are_many(monkeypatch)
    store = open_store(f"lancedb://{tmp_path}/gallery")
    assert isinstance(store, LanceStore)
    store.create_space(G0)
    return store


def unit(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def put(store: Store, first: int, vectors: np.ndarray, label: str = "a") -> list[str]:
    names = [f"{row:05d}" for row in range(first, first + len(vectors))]
    store.put_items(Item(name, name, name, label) for name in names)
    store.put_embeddings(G0, names, vectors)
    return names


def table(store: LanceStore) -> Table:
    return store._embeddings("g0")


def ids(answers: list[list[tuple[Item, float]]]) -> list[list[str]]:
    return [[item.id for item, _ in answer] for answer in answers]


def test_a_small_space_gets_no_index(store: LanceStore) -> None:
    put(store, 0, unit(1000))
    store.maintain()
    assert index.read_index(table(store)) is None
    assert not table(store).indexed()


def test_an_index_is_measured_when_it_is_built(store: LanceStore) -> None:
    put(store, 0, unit(1500))
    assert index.read_index(table(store)) is None
    store.maintain()
    known = index.read_index(table(store))
    assert known is not None
    assert (known.rows, known.measured) == (1500, 1500)
    assert 1 <= known.probes <= 1500 // 128
    assert known.recall >= index.RECALL or known.probes == 1500 // 128
    assert known.probes_for(10) == known.probes
    assert known.probes_for(1000) == 10 * known.probes


def test_an_index_is_built_again_when_the_space_has_doubled(store: LanceStore) -> None:
    put(store, 0, unit(1200))
    store.maintain()
    for first, count, rows, measured in ((1200, 60, 1200, 1200), (1260, 240, 1200, 1500), (1500, 1000, 2500, 2500)):
        put(store, first, unit(count, seed=first))
        store.maintain()
        known = index.read_index(table(store))
        assert known is not None
        assert (known.rows, known.measured) == (rows, measured)


def test_nothing_large_is_kept_with_an_index_or_without(store: LanceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(1500)
    put(store, 0, vectors)

    def refuse(*_: Any) -> None:
        raise AssertionError("all vectors were read into memory")

    monkeypatch.setattr(LanceStore, "_snapshot", refuse)
    before = store.search(G0, vectors[:3], 5)
    store.maintain()
    monkeypatch.setattr(Table, "blocks", refuse)
    assert ids(store.search(G0, vectors[:3], 1)) == [[name] for name in ("00000", "00001", "00002")]
    assert store.search(G0, vectors[:3], 1) == [answer[:1] for answer in before]


def test_rows_that_are_not_in_the_index_yet_are_found(store: LanceStore) -> None:
    put(store, 0, unit(1500))
    store.maintain()
    late = unit(3, seed=8)
    names = put(store, 2000, late)
    assert [found[0] for found in ids(store.search(G0, late, 1))] == names
    assert ids(open_store(f"lancedb://{store.place}").search(G0, late[:1], 1)) == [names[:1]]


def test_more_ties_than_are_asked_for_are_in_id_order(store: LanceStore) -> None:
    vectors = unit(1500)
    vectors[::10] = vectors[0]  # 150 images that are the same
    names = put(store, 0, vectors)
    store.maintain()
    for batch in (1, 3):
        assert ids(store.search(G0, np.repeat(vectors[:1], batch, axis=0), 20)) == [names[:200:10]] * batch


def test_maintenance_removes_vectors_that_are_not_current(store: LanceStore) -> None:
    names = put(store, 0, unit(1500))
    store.put_items(Item(name, name, "another content") for name in names[:7])
    store._items.delete(names[10:20])  # as a kill between the two commits of a deletion leaves it
    assert sum(len(block) for block, _, _ in store.stored("g0")) == 1500
    store.maintain()
    assert sorted(name for block, _, _ in store.stored("g0") for name in block) == [*names[7:10], *names[20:]]
    assert store.missing("g0") == names[:7]


WRITER = """
import sys
import numpy as np
from scrubjay.stores import Item, Space, open_store

store, vectors = open_store(sys.argv[1]), np.eye(8, dtype=np.float32)
for batch in range(15):
    names = [f"w{batch:02d}-{row}" for row in range(8)]
    store.put_items(Item(name, name, name, "w") for name in names)
    store.put_embeddings(Space("g0", 8, "fingerprint", "g0"), names, vectors)
"""


def test_maintenance_beside_a_writing_process_loses_nothing(store: LanceStore) -> None:
    names = put(store, 0, unit(1500))
    with subprocess.Popen([sys.executable, "-c", WRITER, f"lancedb://{store.place}"]) as process:
        while process.poll() is None:
            store.maintain()
            assert len(store.search(G0, unit(1), 10)[0]) == 10
    assert process.returncode == 0
    store.maintain()
    assert store.coverage(G0) == (1620, 0)
    assert len(store.search(G0, unit(1), 200, ["w"])[0]) == 120
    assert store.vectors("g0")[0] == [*names, *(f"w{batch:02d}-{row}" for batch in range(15) for row in range(8))]


def test_blocks_change_nothing_in_a_scan(store: LanceStore) -> None:
    vectors, queries = unit(300), unit(4, seed=1)
    vectors[::7] = vectors[0]
    put(store, 0, vectors)
    rows = table(store).read(["id", "content_hash", "vector"])
    whole = scan([rows], queries, 60, lambda block: np.ones(len(block), dtype=bool))
    parts = scan([rows.slice(start, 37) for start in range(0, 300, 37)], queries, 60, lambda b: np.ones(len(b), bool))
    assert parts == whole
    for query, found in zip(queries, whole, strict=True):
        cosines = vectors.astype(float) @ query.astype(float)
        assert [int(name) for name, _ in found] == np.lexsort((np.arange(300), -cosines.round(12)))[:60].tolist()


def test_metadata_is_compared_as_values() -> None:
    texts = pa.chunked_array([['{"a": 1, "b": "x"}', '{"a": 1.0}'], ['{"a": true}', '{"b": "a\\"b"}', "{}"]])
    assert having(texts, {"a": 1}).tolist() == [True, True, False, False, False]
    assert having(texts, {"a": True}).tolist() == [False, False, True, False, False]
    assert having(texts, {"b": 'a"b'}).tolist() == [False, False, False, True, False]
    assert having(texts, {"a": 1, "b": "x"}).tolist() == [True, False, False, False, False]
    assert having(texts, {}).all()
