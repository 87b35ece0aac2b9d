"""One suite for every store there is; a new one joins by its file and its line in stores_under_test.py."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores_under_test import ADDRESS, EACH

from scrubjay import plugins
from scrubjay.errors import ConfigError, DataError, SpaceError
from scrubjay.stores import Item, Space, Store, open_store

G0 = Space("g0", 8, "fingerprint-of-g0", "g0")
G1 = Space("g1", 4, "fingerprint-of-g1", "g1")


@pytest.fixture(params=EACH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return ADDRESS[request.param](tmp_path)


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url)


def unit(count: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def item(name: str, label: str | None = None, content: str = "") -> Item:
    return Item(name, f"file:///{name}.jpg", content or f"hash of {name}", label, {"price": 1.5, "sold": False})


def filled(store: Store, count: int = 20) -> np.ndarray:
    """`count` items "00", "01", … with labels a, b, c in turn, all in G0."""
    names = [f"{number:02d}" for number in range(count)]
    vectors = unit(count)
    store.create_space(G0)
    store.put_items(item(name, "abc"[number % 3]) for number, name in enumerate(names))
    store.put_embeddings(G0, names, vectors)
    return vectors


def ids(answer: list[tuple[Item, float]]) -> list[str]:
    return [found.id for found, _ in answer]


def test_every_store_has_an_address() -> None:
    assert sorted({name.partition("-")[0] for name in ADDRESS}) == plugins.names("stores")


def test_items_come_back_as_they_were_put(store: Store, url: str) -> None:
    items = [item("b", "bird"), item("a"), Item("c", "x", "h", "ü", {"n": None, "t": "tail", "i": 2**53, "f": 0.1})]
    store.put_items(items)
    assert list(store.items()) == sorted(items, key=lambda one: one.id)
    assert list(open_store(url).items(["c", "nobody", "a"])) == [items[2], items[1]]
    assert list(store.items([])) == []
    assert store.count() == 3


def test_putting_an_item_again_replaces_it(store: Store) -> None:
    store.put_items([item("a", "old"), item("b", "first"), item("b", "last")])
    store.put_items([item("a", "new")])
    assert [found.label for found in store.items()] == ["new", "last"]


@pytest.mark.parametrize(
    "name", ["a'b", "a\\", "a''", "%", "a\nb", "a\u0301", "--", "\\'", '"q"', "?$1{x}", "' OR '1'='1"]
)
def test_odd_ids(store: Store, name: str) -> None:
    store.create_space(G0)
    store.put_items([item(name), item("other")])
    store.put_embeddings(G0, [name], unit(1))
    assert [found.id for found in store.items([name])] == [name]
    assert ids(store.search(G0, unit(1), 5)[0]) == [name]
    assert store.delete([name]) == 1
    assert [found.id for found in store.items()] == ["other"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Item("", "u", "h"), "empty id"),
        (lambda: Item("a", "bad\udcff", "h"), "not valid Unicode"),
        (lambda: Item("a", "u", "h", None, {"box": [1, 2]}), "'box' is a list"),
        (lambda: Item("a", "u", "h", None, {"x": float("nan")}), "not finite"),
    ],
)
def test_items_that_cannot_be_stored(make: Callable[[], Item], words: str) -> None:
    with pytest.raises(DataError, match=words):
        make()


@pytest.mark.parametrize(
    "fields",
    [("G0", 8, "f", "g0"), ("../x", 8, "f", "g0"), ("g0", 0, "f", "g0"), ("g0", 8, "", "g0"), ("g0", 8, "f", "0")],
)
def test_spaces_that_cannot_be(fields: tuple[str, int, str, str]) -> None:
    with pytest.raises(ConfigError):
        Space(*fields)


def test_spaces_are_kept_in_order_of_generation(store: Store, url: str) -> None:
    tenth = Space("g10", 4, "f10", "g10")
    for space in (tenth, G1, G0, G0):
        store.create_space(space)
    assert store.spaces() == open_store(url).spaces() == [G0, G1, tenth]
    store.drop_space("g1")
    store.drop_space("g1")
    assert store.spaces() == [G0, tenth]


def test_dropping_a_space_leaves_items_and_nothing_behind(store: Store) -> None:
    filled(store)
    store.drop_space("g0")
    assert store.count() == 20
    with pytest.raises(SpaceError, match="no space 'g0'"):
        store.missing("g0")
    store.create_space(G0)
    assert store.coverage(G0) == (0, 20)


def test_another_space_of_the_same_id_is_refused(store: Store) -> None:
    filled(store)
    other = Space("g0", 8, "another-model", "g3")
    with pytest.raises(SpaceError, match=r"g3 .*g0"):
        store.create_space(other)
    with pytest.raises(SpaceError, match=r"g3 .*g0"):
        store.put_embeddings(other, ["00"], unit(1))
    with pytest.raises(SpaceError, match=r"g3 .*g0"):
        store.search(other, unit(1), 1)
    with pytest.raises(SpaceError, match=r"g3 .*g0"):
        store.coverage(other)
    assert store.coverage(G1) == (0, 20)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 2.0])
def test_vectors_that_are_not_finite_or_not_unit_are_refused(store: Store, bad: float) -> None:
    vectors = filled(store)
    damaged = vectors[:3].copy()
    damaged[1] *= bad
    with pytest.raises(DataError, match="vector 1 has norm"):
        store.put_embeddings(G0, ["00", "01", "02"], damaged)
    with pytest.raises(DataError, match="vector 1 has norm"):
        store.search(G0, damaged, 1)
    np.testing.assert_array_equal(store.vectors("g0")[1], vectors)


def test_refused_embeddings_write_nothing(store: Store) -> None:
    filled(store)
    store.put_items([item("x")])
    with pytest.raises(SpaceError, match="shape"):
        store.put_embeddings(G0, ["x"], unit(1, dim=4))
    with pytest.raises(DataError, match="no item 'y' \\(1 such ids\\)"):
        store.put_embeddings(G0, ["x", "y"], unit(2))
    with pytest.raises(DataError, match="2 ids for 1 vectors"):
        store.put_embeddings(G0, ["x", "00"], unit(1))
    assert store.missing("g0") == ["x"]


def test_missing_is_a_cursor_of_the_work_left(store: Store) -> None:
    vectors = filled(store)[:, :4]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    store.create_space(G1)
    steps = []
    while todo := store.missing("g1", limit=7):
        steps.append(len(todo))
        store.put_embeddings(G1, todo, vectors[[int(name) for name in todo]])
    assert steps == [7, 7, 6]
    assert store.coverage(G1) == (20, 0)
    np.testing.assert_array_equal(store.vectors("g1")[1], vectors)


def test_writing_a_vector_again_replaces_it(store: Store) -> None:
    vectors = filled(store)
    store.put_embeddings(G0, ["03", "05", "03"], vectors[[0, 1, 2]])
    found, stored = store.vectors("g0", ["05", "nobody", "03"])
    assert found == ["05", "03"]
    np.testing.assert_array_equal(stored, vectors[[1, 2]])
    assert store.coverage(G0) == (20, 0)


def test_a_changed_image_needs_a_new_vector(store: Store) -> None:
    vectors = filled(store)
    store.put_items([item("04", "a", content="retouched"), item("05", "renamed")])
    assert store.missing("g0") == ["04"]
    assert "04" not in ids(store.search(G0, vectors[4:5], 20)[0])
    store.put_embeddings(G0, ["04"], vectors[:1])
    assert store.missing("g0") == []


def test_a_deleted_item_is_gone_from_every_space_and_does_not_return_with_its_id(store: Store) -> None:
    vectors = filled(store)
    assert store.delete(["00", "00", "nobody"]) == 1
    assert store.delete([]) == 0
    answer = store.search(G0, vectors[:1], 19)[0]
    assert len(answer) == 19
    assert "00" not in ids(answer)
    for content in ("another image", ""):
        store.put_items([item("00", content=content)])
        assert store.missing("g0") == ["00"]


def test_search_equals_written_out_loops(store: Store) -> None:
    vectors, queries = filled(store), unit(5, seed=1)
    for query, answer in zip(queries, store.search(G0, queries, 7), strict=True):
        cosines = [float(sum(float(a) * float(b) for a, b in zip(query, vector, strict=True))) for vector in vectors]
        best = sorted(range(20), key=lambda row: -cosines[row])[:7]
        assert ids(answer) == [f"{row:02d}" for row in best]
        assert [score for _, score in answer] == pytest.approx([cosines[row] for row in best], abs=1e-7)


def test_a_label_filter_finds_all_there_are_to_find(store: Store) -> None:
    vectors = filled(store)
    for k in (1, 3, 7, 50):
        answer = store.search(G0, vectors[:1], k, labels=["c", "nothing"])[0]
        everything = [hit for hit in store.search(G0, vectors[:1], 20)[0] if hit[0].label == "c"]
        assert answer == everything[:k]
    assert store.search(G0, vectors[:2], 3, labels=["nothing"]) == [[], []]
    store.put_items([item("00", "c")])
    assert ids(store.search(G0, vectors[:1], 1, labels=["c"])[0]) == ["00"]


def facts(name: str, number: int) -> Item:
    values = {"shop": ["Köln", "Rom"][number % 2], "sold": number % 3 == 0, "size": number % 4, "note": None}
    return Item(name, name, f"hash of {name}", "abc"[number % 3], values if number < 18 else {})


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"shop": "Rom"}, range(1, 18, 2)),
        ({"shop": "Rom", "size": 1}, range(1, 18, 4)),
        ({"size": 1.0}, range(1, 18, 4)),
        ({"sold": True}, range(0, 18, 3)),
        ({"sold": 1}, ()),  # a number is not true
        ({"note": None}, range(18)),
        ({"shop": 'R"om'}, ()),
        ({"Rom": "shop"}, ()),
        ({}, range(20)),
    ],
)
def test_a_filter_by_metadata_finds_all_that_have_them(store: Store, where: dict[str, object], found: range) -> None:
    vectors = filled(store)
    store.put_items(facts(f"{number:02d}", number) for number in range(20))
    everything = ids(store.search(G0, vectors[:1], 20)[0])
    expected = [name for name in everything if int(name) in found]
    for k in (3, 20):
        assert ids(store.search(G0, vectors[:1], k, where=where)[0]) == expected[:k]
    among = [name for name in expected if int(name) % 3 == 1]
    assert ids(store.search(G0, vectors[:1], 20, ["b"], where=where)[0]) == among


def test_a_value_that_no_item_can_have_is_refused(store: Store) -> None:
    vectors = filled(store)
    with pytest.raises(DataError, match="where 'box' is"):
        store.search(G0, vectors[:1], 1, where={"box": [1, 2]})


def test_items_of_other_spaces_can_be_left_out(store: Store) -> None:
    vectors = filled(store)
    third = Space("g2", 8, "fingerprint-of-g2", "g2")
    for space, names in ((G1, ["00", "01", "02", "03"]), (third, ["03", "04"])):
        store.create_space(space)
        store.put_embeddings(space, names, unit(len(names), space.dim))
    store.put_items([item("01", content="retouched"), item("02", content="retouched")])
    store.put_embeddings(G0, ["01"], vectors[1:2])  # counts here again, and no longer in g1
    answer = ids(store.search(G0, vectors[:1], 20)[0])
    assert sorted(answer) == [f"{number:02d}" for number in range(20) if number != 2]
    for without, left in ((["g1"], {"00", "03"}), (["g2"], {"03", "04"}), (["g1", "g2"], {"00", "03", "04"})):
        for k in (4, 20):
            found = ids(store.search(G0, vectors[:1], k, without=without)[0])
            assert found == [name for name in answer if name not in left][:k]
    assert ids(store.search(G0, vectors[:1], 20, ["a"], without=["g1"])[0]) == [
        name for name in answer if int(name) % 3 == 0 and name not in ("00", "03")
    ]
    with pytest.raises(SpaceError, match="no space 'g7'"):
        store.search(G0, vectors[:1], 1, without=["g7"])


def test_an_item_has_a_vector_in_each_of_its_spaces(store: Store) -> None:
    filled(store)
    store.create_space(G1)
    store.put_embeddings(G1, ["05", "06"], unit(2, 4))
    assert [store.coverage(space) for space in (G0, G1)] == [(20, 0), (2, 18)]
    assert sorted(ids(store.search(G1, unit(1, 4), 20)[0])) == ["05", "06"]
    assert store.delete(["05"]) == 1
    assert [store.coverage(space) for space in (G0, G1)] == [(19, 0), (1, 18)]


def test_what_lies_stored_is_shown_whether_it_counts_or_not(store: Store) -> None:
    vectors = filled(store)
    store.put_items([item("04", content="retouched")])
    lying = {}
    for names, hashes, block in store.stored("g0"):
        assert len(names) == len(hashes) == len(block)
        assert block.dtype == np.float32
        lying |= dict(zip(names, zip(hashes, block, strict=True), strict=True))
    assert sorted(lying) == [f"{number:02d}" for number in range(20)]
    assert lying["04"][0] == "hash of 04"
    for number in range(20):
        np.testing.assert_array_equal(lying[f"{number:02d}"][1], vectors[number])
    with pytest.raises(SpaceError, match="no space 'g9'"):
        next(iter(store.stored("g9")))


def test_vectors_can_be_dropped_and_written_again(store: Store) -> None:
    vectors = filled(store)
    assert store.drop_embeddings("g0", ["03", "04", "03", "nobody"]) == 2
    assert store.drop_embeddings("g0", []) == 0
    assert (store.count(), store.missing("g0")) == (20, ["03", "04"])
    assert not {"03", "04"} & set(ids(store.search(G0, vectors[:1], 20)[0]))
    store.put_embeddings(G0, ["04"], vectors[4:5])
    assert store.missing("g0") == ["03"]
    with pytest.raises(SpaceError, match="no space 'g9'"):
        store.drop_embeddings("g9", ["03"])


def test_upkeep_changes_no_answer(store: Store, url: str) -> None:
    vectors = filled(store)
    store.put_items([item("04", content="retouched")])
    store.delete(["07"])
    before = store.search(G0, vectors, 20)
    for _ in range(2):
        store.maintain()
        assert store.search(G0, vectors, 20) == open_store(url).search(G0, vectors, 20) == before
        assert store.search(G0, vectors, 20, exact=True) == before
        assert (store.missing("g0"), store.coverage(G0)) == (["04"], (18, 1))


def test_upkeep_of_nothing_is_no_error(store: Store) -> None:
    store.maintain()
    store.create_space(G0)
    store.maintain()
    assert store.spaces() == [G0]


def test_ties_are_in_id_order_in_any_batch(store: Store) -> None:
    names = [f"{number:03d}" for number in np.random.default_rng(3).permutation(200)]
    store.create_space(G0)
    store.put_items(map(item, names))
    store.put_embeddings(G0, names, np.repeat(unit(2), 100, axis=0))
    halves = sorted(names[:100]), sorted(names[100:])
    for batch in (1, 2, 37):
        for answer in store.search(G0, np.repeat(unit(1), batch, axis=0), 120):
            assert ids(answer) == [*halves[0], *halves[1][:20]]


def test_scores_do_not_leave_the_interval(store: Store) -> None:
    vectors = filled(store)
    scores = [score for answer in store.search(G0, np.concatenate([vectors, -vectors]), 20) for _, score in answer]
    assert max(scores) <= 1
    assert min(scores) >= -1


def test_nothing_to_do_is_no_error(store: Store) -> None:
    store.create_space(G0)
    store.put_items([])
    store.put_embeddings(G0, [], np.empty((0, 8), np.float32))
    assert store.search(G0, unit(2), 3) == [[], []]
    assert store.vectors("g0")[1].shape == (0, 8)
    assert (store.count(), store.coverage(G0), store.missing("g0"), list(store.items())) == (0, (0, 0), [], [])


NAMES = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.one_of(
    st.tuples(st.just("item"), NAMES, st.integers(0, 1)),
    st.tuples(st.just("vector"), NAMES, st.integers(0, 9)),
    st.tuples(st.just("delete"), NAMES, st.just(0)),
)


@pytest.mark.parametrize("name", EACH)
@given(steps=st.lists(STEPS, max_size=12))
@settings(max_examples=15)
def test_any_history_ends_like_its_model(name: str, steps: list[tuple[str, str, int]]) -> None:
    items: dict[str, Item] = {}
    vectors: dict[str, tuple[str, np.ndarray]] = {}
    pool = unit(10, seed=5)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(ADDRESS[name](Path(folder)))
        store.create_space(G0)
        for verb, key, value in steps:
            if verb == "item":
                items[key] = item(key, content=f"content {value}")
                store.put_items([items[key]])
            elif verb == "delete":
                assert store.delete([key]) == (items.pop(key, None) is not None)
                vectors.pop(key, None)
            elif key in items:
                vectors[key] = items[key].content_hash, pool[value]
                store.put_embeddings(G0, [key], pool[value : value + 1])
            held = {k: v for k, (content, v) in vectors.items() if items[k].content_hash == content}
            assert store.missing("g0") == sorted(items.keys() - held.keys())
            found = store.search(G0, pool[:1], 9)[0]
            assert ids(found) == sorted(held, key=lambda k: (-np.float64(pool[0]) @ np.float64(held[k]), k))


def test_addresses(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the address of a store"):
        open_store(str(tmp_path))
    with pytest.raises(ConfigError, match=r"'mongodb'.*Known: .*lancedb"):
        open_store("mongodb://here")


def test_pages_are_all_items_in_id_order(store: Store) -> None:
    assert store.page(3) == []
    items = [item(name, "abc"[number % 3]) for number, name in enumerate(["é", "a", "Z", "10", "9", "a'b", "ab", "ä"])]
    items[3] = Item("10", "u", "h", "a", {"price": 2, "sold": False, "name": "b'c"})
    store.put_items(items)
    expected = sorted(items, key=lambda one: one.id.encode())
    for limit in (1, 3, 8, 100):
        found: list[Item] = []
        while page := store.page(limit, found[-1].id if found else None):
            assert len(page) == min(limit, len(items) - len(found))
            found += page
        assert found == expected
    assert store.labels() == ([one.id for one in expected], [one.label for one in expected])
    store.delete(["a"])
    assert [one.id for one in store.page(2, "a")] == ["a'b", "ab"], "the id of a page's end may be gone by then"


@pytest.mark.parametrize("limit", [1, 2, 50])
def test_pages_with_filters(store: Store, limit: int) -> None:
    filled(store)
    store.put_items(
        [Item("x", "u", "h", None, {"price": 2, "name": "b'c"}), Item("y", "u", "h", "a", {"price": "1.5"})]
    )

    def pages(**filters: object) -> list[str]:
        found: list[str] = []
        while page := store.page(limit, found[-1] if found else None, **filters):  # type: ignore[arg-type]
            assert len(page) <= limit
            found += [one.id for one in page]
        return found

    assert pages(labels=["c"]) == [f"{number:02d}" for number in range(2, 20, 3)]
    assert pages(labels=["a", "c"], where={"price": 1.5}) == [f"{n:02d}" for n in range(20) if n % 3 != 1]
    assert pages(where={"price": 2.0, "name": "b'c"}) == ["x"]
    assert pages(where={"price": "1.5"}) == ["y"]
    assert pages(labels=["nobody"]) == pages(labels=[]) == []
    with pytest.raises(DataError, match="where 'size'"):
        store.page(limit, where={"size": [1]})
