from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from scrubjay.errors import StorageError
from scrubjay.search import query_database
from scrubjay.search import query_log as queries
from scrubjay.search.query_log import Query, QueryLog, brief
from scrubjay.types import Hit
from waiting import GUARD

WRITER = """
import sys
from pathlib import Path
import numpy as np
from scrubjay.search import query_log as queries
from scrubjay.search.query_log import Query, QueryLog

queries._SEARCH_TIMEOUT = 600.0  # a busy machine is not what is tested
log, name = QueryLog(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    hits = ((f"item-{name}", "uri", "label", 0.5),)
    log.append([Query(f"{name}/{number}", f"{number:032x}", "g1", np.full(64, number, np.float32), hits, True, 1.0)])
    print(number, flush=True)
"""


def query(number: int = 0, **changes) -> Query:
    values = {
        "image": f"/images/{number}.jpg",
        "content": f"{number:032x}",
        "generation": "g1",
        "vector": np.arange(4, dtype=np.float32) + number,
        "hits": ((f"i{number % 3}", "file:///a", "jay", 0.75), ("x", "file:///b", None, None)),
        "matched": True,
        "milliseconds": 12.5,
    }
    return Query(**(values | changes))


def writer(path: Path, name: str, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def log(tmp_path):
    return QueryLog(tmp_path / "queries.sqlite")


@pytest.mark.parametrize("matched", [True, False, None])
@pytest.mark.parametrize("image", ["/a b/ü.jpg", None, os.fsdecode(b"/caf\xe9.jpg")])
def test_what_is_written_is_read(log, matched, image):
    written = query(3, matched=matched, image=image, shadow="g2")
    log.append([written])
    (found,) = log.recent()
    assert (found.id, found.image, found.matched, found.shadow) == (1, image, matched, "g2")
    assert found.hits == written.hits
    assert found.shadow_hits is None
    assert (found.content, found.generation, found.milliseconds) == (written.content, "g1", 12.5)
    assert found.vector.dtype == np.float32
    assert np.array_equal(found.vector, written.vector)
    assert found.at.endswith("+00:00")


def test_empty_log_answers_without_a_file(log):
    assert log.recent() == []
    assert log.counts() == Counter()
    assert log.pending() == []
    assert log.answered("g2") == []
    assert not log.path.exists()


def test_brief_converts_numbers_to_plain_floats():
    hits = [Hit("a", "u", "jay", 0.9, "g1", match=np.float32(0.5)), Hit("b", "v", None, 0.1, "g1")]
    assert brief(hits) == (("a", "u", "jay", 0.5), ("b", "v", None, None))
    assert type(brief(hits)[0][3]) is float


def test_newest_are_kept_and_read_oldest_first(log, monkeypatch):
    monkeypatch.setattr(queries, "KEPT", 5)
    for number in range(12):
        log.append([query(number)])
    assert [each.image for each in log.recent()] == [f"/images/{number}.jpg" for number in range(7, 12)]
    assert [each.image for each in log.recent(2)] == ["/images/10.jpg", "/images/11.jpg"]


def test_counts_are_of_all_places_of_all_queries(log):
    for number in range(7):
        log.append([query(number)])
    assert log.counts() == Counter({"x": 7, "i0": 3, "i1": 2, "i2": 2})


def test_shadow_answers(log):
    for number in range(4):
        log.append([query(number, shadow=[None, "g2", "g3", "g2"][number])])
    assert [each.id for each in log.pending()] == [2, 3, 4]
    assert [each.id for each in log.pending(2)] == [2, 3]
    log.add_shadow_hits(log.pending()[0], [Hit("n", "u", "owl", 0.5, "g2", match=0.25)])
    log.add_shadow_hits(log.pending()[0], [])
    assert [each.id for each in log.pending()] == [4]
    assert [each.shadow_hits for each in log.answered("g2")] == [(("n", "u", "owl", 0.25),)]
    assert [each.shadow_hits for each in log.answered("g3")] == [()]


def broken(log):
    log.path.write_bytes(b"no database " * 1000)


def nowhere(log):
    log.path = log.path.parent / "none" / "queries.sqlite"


def newer(log):
    log.append([query()])
    with sqlite3.connect(log.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize("spoil", [broken, nowhere, newer])
def test_log_that_cannot_be_written_is_a_warning(log, spoil, caplog):
    spoil(log)
    log.append([query()])
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(log.path) in record.getMessage()


def test_full_disk_loses_the_row_only(log, caplog, monkeypatch):
    log.append([query(0)])
    connect = sqlite3.connect

    def connected(*arguments, **options):
        connection = connect(*arguments, **options)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connected)
    log = QueryLog(log.path)
    log.append([query(1, vector=np.zeros(100_000, np.float32))])
    assert "full" in caplog.text
    assert [each.image for each in log.recent()] == ["/images/0.jpg"]


def test_locked_log_loses_the_row_only(log, caplog, monkeypatch):
    monkeypatch.setattr(queries, "_SEARCH_TIMEOUT", 0.01)
    log.append([query(0)])
    other = sqlite3.connect(log.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    log.append([query(1)])
    assert "locked" in caplog.text
    assert len(log.recent()) == 1, "readers do not wait for a writer"
    other.execute("ROLLBACK")
    other.close()
    log.append([query(2)])
    assert [each.image for each in log.recent()] == ["/images/0.jpg", "/images/2.jpg"]


@pytest.mark.parametrize(("spoil", "cure"), [(broken, "delete it"), (newer, "upgrade")])
def test_reader_gets_an_error_with_a_cure(log, spoil, cure):
    spoil(log)
    for read in (log.recent, log.counts, log.pending, lambda: log.answered("g2")):
        with pytest.raises(StorageError, match=cure) as caught:
            read()
        assert str(log.path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_damaged_row_is_reported(log):
    log.append([query()])
    with sqlite3.connect(log.path) as connection:
        connection.execute("UPDATE queries SET hits = '[not JSON'")
    connection.close()
    with pytest.raises(StorageError, match="damaged"):
        log.recent()
    with pytest.raises(StorageError, match="damaged"):
        log.counts()


def test_older_tables_are_migrated(log, monkeypatch):
    log.append([query(0)])
    later = (
        *query_database.MIGRATIONS,
        ("ALTER TABLE queries ADD COLUMN place TEXT", "UPDATE queries SET place = 'shop'"),
    )
    monkeypatch.setattr(query_database, "MIGRATIONS", later)
    log.append([query(1)])
    with sqlite3.connect(log.path) as connection:
        rows = connection.execute("SELECT place FROM queries ORDER BY id").fetchall()
        assert rows == [("shop",), (None,)]
        assert connection.execute("PRAGMA user_version").fetchone() == (len(later),)
    connection.close()
    assert len(log.recent()) == 2


def test_migration_that_fails_leaves_the_tables_as_they_were(log, monkeypatch):
    log.append([query(0)])
    good = query_database.MIGRATIONS
    monkeypatch.setattr(
        query_database, "MIGRATIONS", (*good, ("ALTER TABLE queries ADD COLUMN place TEXT", "NONSENSE"))
    )
    with pytest.raises(StorageError):
        log.recent()
    monkeypatch.setattr(query_database, "MIGRATIONS", good)
    assert len(log.recent()) == 1


def test_processes_that_begin_a_log_together_lose_nothing(log):
    names, each = ("a", "b", "c", "d"), 40
    processes = [writer(log.path, name, each) for name in names]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, said = process.communicate(timeout=GUARD)
        assert process.returncode == 0
        assert said == ""
    found = log.recent()
    assert Counter(row.image for row in found) == Counter(f"{name}/{i}" for name in names for i in range(each))
    for name in names:  # each in its own order
        own = [row for row in found if row.image.startswith(name)]
        assert [row.image for row in own] == [f"{name}/{i}" for i in range(each)]
        assert all(np.array_equal(row.vector, np.full(64, i)) for i, row in enumerate(own))
    assert log.counts() == Counter({f"item-{name}": each for name in names})


@pytest.mark.parametrize("after", [0, 7, 23])
def test_killed_writer_loses_the_row_in_flight_at_most(log, after):
    process = writer(log.path, "a", 100_000)
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ready\n"
    for _ in range(after + 1):
        told = int(process.stdout.readline())
    time.sleep(0.003 * (after % 4))
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read()  # with what readline has buffered, which communicate loses
    process.communicate(timeout=GUARD)
    told = max([told, *(int(line) for line in rest.split("\n")[:-1])])
    found = [row.image for row in log.recent()]
    assert found in ([f"a/{i}" for i in range(told + n)] for n in (1, 2))
    log.append([query(1)])
    assert len(log.recent()) == len(found) + 1
    with sqlite3.connect(log.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_removed_images_are_in_no_query_and_nowhere_in_the_file(tmp_path: Path) -> None:
    log = QueryLog(tmp_path / "queries.sqlite")
    log.remove(["f" * 32], ["jay"])  # no file, nothing to remove
    removed = f"{7:032x}"
    hits = (("i0", "file:///secret-uri", "jay", 0.75), (removed, "file:///b", None, None), ("kept", "uri", "crow", 0.5))
    for number in (6, 7, 8):
        log.append([query(number, image=f"/secret/{number}.jpg" if number == 7 else None, hits=hits)])
    log.add_shadow_hits(log.recent()[0], [Hit("i0", "file:///secret-uri", "jay", 0.5, "g1")])
    for _ in range(2):
        log.remove([removed], ["jay"])
        left = log.recent()
        assert [each.content for each in left] == [f"{6:032x}", f"{8:032x}"]
        assert [each.hits for each in left] == [hits[2:], hits[2:]]
        assert left[0].shadow_hits == ()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"secret" not in content
    assert b"crow" in content


def test_a_log_that_was_deleted_is_begun_again(log):
    log.append([query(0)])
    for path in log.path.parent.iterdir():
        path.unlink()
    log.append([query(1)])
    assert [each.image for each in log.recent()] == ["/images/1.jpg"]


def test_threads_have_connections_of_their_own(log):
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: log.append([query(number)]), range(40)))
    assert sorted(each.content for each in log.recent()) == [f"{number:032x}" for number in range(40)]


def test_a_batch_is_written_completely_or_not_at_all(log, caplog):
    log.append([query(0), query(1)])
    log.append([query(2), query(3, content=object())])
    assert "2 queries were not logged" in caplog.text
    assert [each.id for each in log.recent()] == [1, 2]
