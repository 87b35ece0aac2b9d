from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import models

import qdrant_engine
from scrubjay.errors import CatalogueError, ConfigError, DataError, ScrubjayError, StorageError
from scrubjay.stores import Item, Space, Store, open_store
from scrubjay.stores._qdrant_client import address
from scrubjay.stores._qdrant_points import facts, space, vector_name

G0 = Space("g0", 16, "fingerprint-of-g0", "g0")
G1 = Space("g-1_", 4, "f.i_n-G", "g1")


def unit(count: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def item(number: int, content: str = "") -> Item:
    content = content or f"hash of {number}"
    return Item(f"{number:05d}", f"file:///{number}.jpg", content, "abcdefghij"[number % 10], {"box": number // 10})


def filled(store: Store, count: int) -> np.ndarray:
    vectors = unit(count)
    store.create_space(G0)
    store.put_items(map(item, range(count)))
    store.put_embeddings(G0, [f"{number:05d}" for number in range(count)], vectors)
    return vectors


def ids(answer: list[tuple[Item, float]]) -> list[str]:
    return [found.id for found, _ in answer]


def local(folder: Path) -> str:
    return f"qdrant://{folder}/gallery"


@pytest.fixture(params=[local, qdrant_engine.url], ids=["local", "engine"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param(tmp_path))


# addresses


def test_addresses() -> None:
    found = address("qdrant://db.example/birds")
    assert (found.server, found.collection, found.folder) == ("http://db.example:6333", "birds", None)
    assert address("qdrant://[::1]:1234/birds?tls=true").server == "https://[::1]:1234"
    assert address("qdrant:///tmp/a b?c/").folder == Path("/tmp/a b?c")


@pytest.mark.parametrize(
    "url",
    [
        *("qdrant://", "qdrant:///", "qdrant://db.example", "qdrant://db.example/a/b", "qdrant://db.example/a b"),
        *("qdrant://db.example:port/birds", "qdrant://db.example/birds?tsl=true", "qdrant://:6333/birds"),
    ],
)
def test_addresses_that_cannot_be(url: str) -> None:
    with pytest.raises(ConfigError, match=r"names no collection; write qdrant://host:6333/collection"):
        open_store(url)


def test_without_the_package_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['qdrant_client'] = None\n"
        "from scrubjay.stores import open_store\n"
        "from scrubjay.errors import ConfigError\n"
        "try: open_store('qdrant://localhost/birds')\n"
        "except ConfigError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "qdrant:// requires the package qdrant-client: pip install 'scrubjay[qdrant]'.\n"


# the local mode


def test_opening_a_store_writes_nothing(tmp_path: Path) -> None:
    open_store(local(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_keeps_what_was_stored_and_its_stores_are_one(tmp_path: Path) -> None:
    vectors = filled(open_store(local(tmp_path)), 20)
    first, second = open_store(local(tmp_path)), open_store(local(tmp_path))
    first.delete(["00003"])
    assert second.coverage(G0) == (19, 0)
    del first, second
    gc.collect()  # closes the folder
    store = open_store(local(tmp_path))
    np.testing.assert_array_equal(store.vectors("g0", ["00004"])[1], vectors[4:5])
    assert store.missing("g0") == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the client leaves the lock file open
def test_a_folder_that_another_process_has_open(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from scrubjay.stores import open_store\n"
        "store = open_store(sys.argv[1])\n"
        "print(store.count(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, local(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        with pytest.raises(CatalogueError, match=r"gallery: another process has it open; .*use a Qdrant server"):
            open_store(local(tmp_path)).count()
        process.communicate("")
    assert open_store(local(tmp_path)).count() == 0


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "gallery").write_text("a file")
    with pytest.raises(StorageError, match=r"gallery: (File exists|Not a directory); make the folder writable"):
        open_store(local(tmp_path)).count()


# how spaces and items are written


@pytest.mark.parametrize("one", [G0, G1, Space("a", 3, "x", "g12")])
def test_the_name_of_a_vector_is_its_space(one: Space) -> None:
    assert space(vector_name(one), one.dim) == one


@pytest.mark.parametrize("fingerprint", ["a/b", "ü", "x" * 200, 'a"b'])
def test_a_fingerprint_that_cannot_be_a_name(tmp_path: Path, fingerprint: str) -> None:
    with pytest.raises(ConfigError, match=r"for Qdrant use letters, digits"):
        open_store(local(tmp_path)).create_space(Space("g0", 3, fingerprint, "g0"))


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=3)
)


def same(one: Any, other: Any) -> bool:
    """Equal, and both true/false or neither."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


@given(st.dictionaries(st.text(max_size=2), VALUES), st.dictionaries(st.text(max_size=2), VALUES, max_size=2))
def test_facts_hold_what_metadata_hold(metadata: dict[str, Any], where: dict[str, Any]) -> None:
    for wanted in (where, dict(list(metadata.items())[:2])):
        holds = all(key in metadata and same(metadata[key], value) for key, value in wanted.items())
        assert ({*facts(wanted)} <= {*facts(metadata)}) == holds


def test_any_metadata_can_be_asked_for(url: str) -> None:
    pairs = list(product(['a."b"[0]', "ü", "", "price", "a b\n"], [None, True, 1, 1.5, "x", 10**30, ""]))
    store = open_store(url)
    store.create_space(G0)
    names = [f"{number:02d}" for number in range(len(pairs))]
    store.put_items(Item(name, "u", "h", None, dict([pair])) for name, pair in zip(names, pairs, strict=True))
    store.put_embeddings(G0, names, unit(len(pairs)))
    for name, pair in zip(names, pairs, strict=True):
        assert ids(store.search(G0, unit(1), 5, where=dict([pair]))[0]) == [name]


def test_filters_that_nothing_can_meet(url: str) -> None:
    store = open_store(url)
    vectors = filled(store, 3)
    for kwargs in ({"labels": []}, {"labels": ["\ud800"]}, {"where": {"box": "\0"}}, {"where": {"\ud800": 1}}):
        assert store.search(G0, vectors[:1], 3, **kwargs) == [[]]  # type: ignore[arg-type]
    assert len(store.search(G0, vectors[:1], 3, where={})[0]) == 3
    with pytest.raises(DataError, match=r"where 'box' is \[1\]; give text, a number, true/false or null"):
        store.search(G0, vectors[:1], 3, where={"box": [1]})


# what the engine does that the store relies on


def test_vectors_keep_every_bit(url: str) -> None:
    store = open_store(url)
    vectors = (filled(store, 50) * np.linspace(0.9995, 1.0005, 50, dtype=np.float32)[:, None]).astype(np.float32)
    store.put_embeddings(G0, [f"{number:05d}" for number in range(50)], vectors)
    names, found = store.vectors("g0")
    assert names == sorted(names)
    np.testing.assert_array_equal(found.view(np.uint32), vectors.view(np.uint32))
    for block, hashes, rows in store.stored("g0"):
        np.testing.assert_array_equal(rows, vectors[[int(name) for name in block]])
        assert hashes == [f"hash of {int(name)}" for name in block]


def test_a_space_is_created_and_dropped_while_others_are_searched(url: str) -> None:
    store = open_store(url)
    vectors = filled(store, 30)
    answer = store.search(G0, vectors[:1], 30)
    store.create_space(G1)
    store.put_embeddings(G1, ["00001"], unit(1, 4))
    assert store.search(G0, vectors[:1], 30) == answer
    assert ids(store.search(G0, vectors[:1], 30, without=["g-1_"])[0]) == [
        name for name in ids(answer[0]) if name != "00001"
    ]
    store.drop_space("g-1_")
    store.create_space(G1)
    assert store.coverage(G1) == (0, 30)
    assert store.search(G0, vectors[:1], 30) == answer


def test_an_index_answers_nearly_as_a_scan_and_filters_find_k(tmp_path: Path) -> None:
    store = open_store(qdrant_engine.url(tmp_path))
    vectors = filled(store, 2000)
    assert store._client.optimize() > 1000  # type: ignore[attr-defined]
    queries = unit(20, seed=1)
    exact, found = store.search(G0, queries, 10, exact=True), store.search(G0, queries, 10)
    cosines = np.float64(vectors) @ np.float64(queries[0])
    assert ids(exact[0]) == [f"{number:05d}" for number in np.argsort(-cosines)[:10]]
    recall = np.mean([len({*ids(one)} & {*ids(other)}) / 10 for one, other in zip(found, exact, strict=True)])
    assert recall > 0.97
    for labels, where, count in ((["c"], None, 8), (None, {"box": 7}, 8), (["a", "b"], {"box": 3}, 2)):
        for answer in store.search(G0, queries, 8, labels, where=where):
            assert len(answer) == count
            assert all(not labels or hit.label in labels for hit, _ in answer)
            assert all(not where or hit.metadata["box"] == where["box"] for hit, _ in answer)


class Meddled:
    """A client before whose writes something else happens, or of whose writes only the first operations arrive."""

    def __init__(self, client: Any, before: Callable[[], None] = lambda: None, arriving: int | None = None) -> None:
        self._real, self._before, self._arriving = client, before, arriving

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def batch_update_points(self, collection: str, operations: Sequence[Any], wait: bool) -> None:
        before, self._before = self._before, lambda: None
        before()
        self._real.batch_update_points(collection, operations[: self._arriving], wait=wait)
        if self._arriving is not None and self._arriving < len(operations):
            raise ConnectionError("lost")


def meddle(monkeypatch: pytest.MonkeyPatch, store: Store, **how: Any) -> None:
    monkeypatch.setattr(store._opened, "client", Meddled(store._client, **how))  # type: ignore[attr-defined]


def test_an_image_that_changes_while_its_vector_is_written_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = qdrant_engine.url(tmp_path)
    store, other = open_store(url), open_store(url)
    vectors = filled(store, 5)
    meddle(monkeypatch, store, before=lambda: other.put_items([item(2, "changed")]))
    store.put_embeddings(G0, [f"{number:05d}" for number in range(5)], vectors[::-1])
    assert other.missing("g0") == ["00002"]
    other.put_items([item(2)])  # its first content comes back, whose vector was never touched
    assert other.missing("g0") == []
    np.testing.assert_array_equal(other.vectors("g0", ["00001", "00002", "00003"])[1], vectors[[3, 2, 1]])


@pytest.mark.parametrize("arriving", [0, 1, 2, 3])
def test_an_interrupted_write_never_makes_a_wrong_vector_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arriving: int
) -> None:
    url = qdrant_engine.url(tmp_path)
    store, other = open_store(url), open_store(url)
    vectors = filled(store, 2)
    store.put_items([item(0, "changed")])
    with monkeypatch.context() as patch:
        meddle(patch, store, arriving=arriving)
        new = unit(2, seed=9)
        with pytest.raises(StorageError):  # it sends: a stale hash away, vectors, two payloads
            store.put_embeddings(G0, ["00000", "00001"], new)
    assert other.missing("g0") == (["00000"] if arriving < 3 else [])
    other.put_items([item(0)])  # back to what its old vector was of
    found, rows = other.vectors("g0", ["00000"])
    assert not found or rows.tolist() == vectors[:1].tolist()
    other.put_items([item(0, "changed")])
    other.put_embeddings(G0, ["00000", "00001"], new)
    np.testing.assert_array_equal(other.vectors("g0")[1], new)


# what a server says


def serve(answers: dict[str, tuple[int, Any]]) -> HTTPServer:
    """A server that says this, by the path that is asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = answers.get(self.path, (500, {"status": {"error": "unexpected"}}))
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments: Any) -> None:
            pass

    return HTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def answers() -> Iterator[tuple[dict[str, tuple[int, Any]], str]]:
    said: dict[str, tuple[int, Any]] = {"/": (200, {"title": "qdrant", "version": "1.18.2"})}
    with serve(said) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield said, f"qdrant://127.0.0.1:{server.server_port}/birds"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("code", "body", "kind", "words"),
    [
        (401, b"Must provide an API key", ConfigError, "an API key.*; set QDRANT_API_KEY to a key"),
        (403, {"status": {"error": "Forbidden: read only"}}, ConfigError, "read only; set QDRANT_API_KEY"),
        (500, {"status": {"error": "No space left on device: WAL"}}, StorageError, "free some space on the server"),
        (503, {"status": {"error": "loading"}}, CatalogueError, "loading; the server is busy, run the command again"),
        (500, {"status": {"error": "panicked"}}, StorageError, "500, panicked; see the server's log"),
        (502, b"<html>", StorageError, "502, <html>; see"),
    ],
)
def test_an_error_of_the_server_gives_a_one_line_message(
    answers: tuple[dict[str, tuple[int, Any]], str],
    code: int,
    body: Any,
    kind: type[ScrubjayError],
    words: str,
) -> None:
    said, url = answers
    said["/collections/birds/exists"] = code, body
    with pytest.raises(kind, match=words) as caught:
        open_store(url).count()
    assert str(caught.value).startswith(url)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_too_old(answers: tuple[dict[str, tuple[int, Any]], str]) -> None:
    said, url = answers
    said["/"] = 200, {"title": "qdrant", "version": "1.17.1"}
    with pytest.raises(ConfigError, match=r"is Qdrant 1\.17\.1; update the server to 1\.18 or newer"):
        open_store(url).count()


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(StorageError, match=r"qdrant://127.0.0.1:1/birds: no answer \(.*refused.*start the server"):
        open_store("qdrant://127.0.0.1:1/birds").count()


def test_the_engine_is_asked_what_a_server_would_be(url: str) -> None:
    """Every request of the suite is made of these; an engine's adapter that ignored one would prove nothing."""
    with pytest.raises(NotImplementedError):
        qdrant_engine._condition(models.IsEmptyCondition(is_empty=models.PayloadField(key="a")))
    with pytest.raises(NotImplementedError):
        qdrant_engine._operation(models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=[1])))
