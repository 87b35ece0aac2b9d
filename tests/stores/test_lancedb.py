"""What is LanceDB's own: its folder, its failures, other processes."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import object_storage
from scrubjay.errors import CatalogueError, ConfigError, StorageError
from scrubjay.stores import FeatureCodec, Item, Space, _lance_features, open_store
from scrubjay.stores._lance_features import LanceFeatures
from scrubjay.stores._lance_table import Table, translated

G0 = Space("g0", 64, "fingerprint", "g0")

WRITER = """
import sys
import numpy as np
from scrubjay.gallery.gallery import Gallery
from scrubjay.stores import Item, Space, open_store

gallery = Gallery(open_store(sys.argv[1]))
space = Space("g0", 64, "fingerprint", "g0")
vectors = np.eye(64, dtype=np.float32)
for batch in range(int(sys.argv[2]), int(sys.argv[3])):
    names = [f"{batch:05d}-{row:02d}" for row in range(64)]
    gallery.add([Item(name, name, name, str(batch)) for name in names], vectors, space)
    print(batch, flush=True)
"""


def writer(url: str, first: int, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, url, str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def put(url: str, batch: int, count: int = 64) -> None:
    store = open_store(url)
    names = [f"{batch:05d}-{row:05d}" for row in range(count)]
    store.create_space(G0)
    store.put_items(Item(name, name, name) for name in names)
    store.put_embeddings(G0, names, np.eye(64, dtype=np.float32)[np.arange(count) % 64])


@pytest.mark.parametrize("name", ["a b", "ä", "a%20b", "a#b", "a?b", "a'b"])
def test_any_folder_name(tmp_path: Path, name: str) -> None:
    url = f"lancedb://{tmp_path / name / 'gallery'}"
    put(url, 0, 1)
    assert open_store(url).count() == 1
    assert (tmp_path / name / "gallery" / "items.lance").is_dir()


def test_an_address_needs_a_folder() -> None:
    with pytest.raises(ConfigError, match="names no folder"):
        open_store("lancedb://")


def test_opening_a_store_writes_nothing(tmp_path: Path) -> None:
    open_store(f"lancedb://{tmp_path}/gallery")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="give the path of a folder"):
        open_store(f"lancedb://{tmp_path}/file").count()


def test_a_reader_sees_whole_batches_while_another_process_writes(tmp_path: Path) -> None:
    url = f"lancedb://{tmp_path}/gallery"
    put(url, 0)
    store, query, counts = open_store(url), np.eye(64, dtype=np.float32)[:1], [64]
    with writer(url, 1, 25) as process:
        running = True
        while running:
            running = process.poll() is None  # once more when it has ended
            found = [item.id for item, _ in store.search(G0, query, 10_000)[0]]
            held, missing = store.coverage(G0)
            assert len(set(found)) == len(found)
            assert len(found) % 64 == held % 64 == missing % 64 == 0
            assert counts[-1] <= len(found) <= held
            counts.append(len(found))
    assert process.returncode == 0
    assert counts[-1] == 25 * 64
    assert len(set(counts)) > 3  # it did read while the other wrote


def test_a_deletion_between_two_reads_leaves_nothing_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"lancedb://{tmp_path}/gallery"
    put(url, 0)
    names = [item.id for item in open_store(url).items()]
    read, left = Table.read, list(names[:10])

    def delete_first(table: Table, *arguments: Any) -> Any:
        if table.path.name.startswith("g0-") and left:
            open_store(url).delete([left.pop()])
        return read(table, *arguments)

    monkeypatch.setattr(Table, "read", delete_first)
    reader, query = open_store(url), np.eye(64, dtype=np.float32)[:1]
    assert reader.missing("g0") == []
    assert reader.coverage(G0) == (62, 0)
    assert {item.id for item, _ in reader.search(G0, query, 100)[0]} == set(names) - set(names[7:10])


def test_two_writers_of_the_same_items_leave_each_once(tmp_path: Path) -> None:
    url = f"lancedb://{tmp_path}/gallery"
    failures: list[Exception] = []

    def write() -> None:
        try:
            for batch in range(8):
                put(url, batch)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = open_store(url)
    assert failures == []
    assert store.spaces() == [G0]
    assert store.coverage(G0) == (512, 0)
    assert len(list(store.items())) == store.count() == 512
    assert len(list((tmp_path / "gallery").glob("g0-*.lance"))) == 1


def test_killed_while_adding_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    url, first = f"lancedb://{tmp_path}/gallery", 0
    for lines in (1, 6):
        with writer(url, first, 100_000) as process:
            assert process.stdout is not None
            acknowledged = [int(process.stdout.readline()) for _ in range(lines)]
            process.kill()
            acknowledged += [int(line) for line in process.stdout if line.strip()]
        first = acknowledged[-1] + 1
        store = open_store(url)
        stored = {item.id for item in store.items()}
        assert {f"{batch:05d}-{row:02d}" for batch in range(first) for row in range(64)} <= stored
        assert len(stored) - first * 64 in (0, 64)  # one batch may be there without an acknowledgement
        found = {item.id for item, _ in store.search(G0, np.eye(64, dtype=np.float32)[:1], 100_000)[0]}
        assert found == stored - set(store.missing("g0"))
        assert len(found) >= first * 64


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"cannot mount a small disk: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_keeps_what_was_stored(small_disk: Path) -> None:
    url, batches = f"lancedb://{small_disk}/gallery", 0

    def fill() -> None:
        nonlocal batches
        while batches < 50:
            put(url, batches, 1000)
            batches += 1

    with pytest.raises(StorageError, match=r"disk/gallery/.*No space left on device; free some space"):
        fill()
    store = open_store(url)
    held, missing = store.coverage(G0)
    assert 0 < batches < 50
    assert held == batches * 1000
    assert missing in (0, 1000)
    assert len(store.search(G0, np.eye(64, dtype=np.float32)[:1], 10**6)[0]) == held


def test_a_file_size_limit_keeps_what_was_stored(tmp_path: Path) -> None:
    url = f"lancedb://{tmp_path}/gallery"
    put(url, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="File too large; free some space"):
            put(url, 1, 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert open_store(url).coverage(G0)[0] == 64
    put(url, 1, 10_000)
    assert open_store(url).coverage(G0) == (10_064, 0)


@pytest.mark.parametrize("table", ["items", "g0-*", "spaces"])
@pytest.mark.parametrize("damage", ["data", "_versions"])
def test_a_damaged_table_is_named(tmp_path: Path, table: str, damage: str) -> None:
    url = f"lancedb://{tmp_path}/gallery"
    put(url, 0)
    (folder,) = (tmp_path / "gallery").glob(f"{table}.lance")
    for file in (folder / damage).iterdir():
        file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(StorageError, match=rf"{folder.name} is damaged .*; restore the gallery from a copy"):
        open_store(url).search(G0, np.eye(64, dtype=np.float32)[:1], 1)


def test_features_are_merged_only_when_their_fragments_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lance_features, "FRAGMENTS", 3)
    store = open_store(f"lancedb://{tmp_path}/gallery")
    assert isinstance(store.features, LanceFeatures)
    store.features.create("a" * 32, FeatureCodec.float16(4))
    numbers = []
    for number in range(6):
        name = f"{number}"
        store.put_items([Item(name, name, name)])
        store.features.put("a" * 32, [name], np.full((1, 4), number))
        store.maintain()
        numbers.append(store.features._table("a" * 32).fragments())
    assert numbers == [1, 2, 3, 1, 2, 3]
    names, values = store.features.read("a" * 32, ["5", "0"])
    assert (names, values[:, 0].tolist()) == (["5", "0"], [5.0, 0.0])


def test_the_remains_of_an_interrupted_creation_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "gallery" / "items.lance" / "_versions").mkdir(parents=True)
    (tmp_path / "gallery" / "g0-0123456789ab.lance").mkdir()
    url = f"lancedb://{tmp_path}/gallery"
    put(url, 0)
    assert open_store(url).coverage(G0) == (64, 0)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (PermissionError(13, "Permission denied"), StorageError, "make the folder writable"),
        (RuntimeError("lance error: LanceError(IO): Read-only file system (os error 30)"), StorageError, "writable"),
        (RuntimeError("lance error: Retryable commit conflict for version 17: …"), CatalogueError, "another process"),
    ],
)
def test_foreign_errors_are_translated(tmp_path: Path, error: Exception, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words), translated(tmp_path):
        raise error


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "The specified bucket does not exist"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Connection refused"),
    ],
)
def test_object_storage_that_cannot_be_used_is_one_line(
    change: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_storage.endpoint()
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError) as error:
        open_store("s3://no-such-bucket/gallery").count()
    start, end = "s3://no-such-bucket/gallery", "AWS_REGION and AWS_ENDPOINT_URL."
    assert re.fullmatch(rf"{start}.*: the object storage cannot be used \({reason}\); check .*{end}", str(error.value))
