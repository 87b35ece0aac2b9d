from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

import tiny
from scrubjay.backfill import pool
from scrubjay.backfill.pool.chunk import embed_chunk, from_bytes, to_bytes
from scrubjay.errors import CatalogueError, ConfigError, StorageError
from scrubjay.gallery.features import projected
from scrubjay.generations.lineage import Lineage
from scrubjay.models.embedding import Encoder
from scrubjay.types import Embeddings, Sample, TrunkFeatures
from tiny import IMAGES, NETWORK, learner, paint
from waiting import GUARD, until

Chunks = list[list[Sample]]
pytestmark = pytest.mark.usefixtures("one_thread")  # which the processes of a pool compute with


@pytest.fixture(scope="module")
def generation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generations")
    return Lineage(folder).add(learner(), tiny.record()).folder


@pytest.fixture(scope="module")
def chunks(tmp_path_factory: pytest.TempPathFactory) -> Chunks:
    """Five chunks, the last one smaller; one image is cropped, one is broken, and one chunk has only broken images."""
    root = tmp_path_factory.mktemp("images")
    samples = [Sample(paint(root / f"{number}.png", number % 7, number), 0) for number in range(76)]
    samples[5] = Sample(samples[5].path, 0, box=(4, 4, 30, 30))
    for number in (21, *range(36, 54)):
        samples[number].path.write_bytes(b"no image")
    return [samples[start : start + 18] for start in range(0, 76, 18)]


def by_hand(generation: Path, chunks: Chunks) -> list[Embeddings]:
    network = Lineage(generation.parent).network(Lineage(generation.parent).get(generation.name))
    good = [[sample for sample in chunk if sample.path.read_bytes() != b"no image"] for chunk in chunks]
    return [Encoder(network.embedder, IMAGES).embed(chunk) for chunk in good if chunk]


def same(found: Sequence[tuple[int, Embeddings]], expected: list[Embeddings], chunks: Chunks) -> None:
    assert [number for number, _ in found] == list(range(len(chunks)))
    vectors = [each.vectors for _, each in found if len(each.vectors)]
    assert len(vectors) == len(expected)
    for mine, theirs in zip(vectors, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs.vectors)
    for (_, each), chunk in zip(found, chunks, strict=True):
        broken = {str(sample.path) for sample in chunk if sample.path.read_bytes() == b"no image"}
        assert {path for path, _ in each.failures} == broken
        assert each.vectors.shape == (len(each.indices), NETWORK.dim)
        assert {str(chunk[index].path) for index in each.indices} == {str(one.path) for one in chunk} - broken


def test_a_chunk_gives_the_same_bits_here_and_in_processes(generation: Path, chunks: Chunks) -> None:
    expected = by_hand(generation, chunks)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    same(list(pool.embed_chunks(generation, IMAGES, chunks)), expected, chunks)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before, "the priority of the caller was lowered"
    same(list(pool.embed_chunks(generation, IMAGES, chunks, 2)), expected, chunks)
    assert not active_children()


def same_features(found: Sequence[tuple[int, object]], generation: Path, chunks: Chunks) -> None:
    """Trunk features of every chunk, from which the same embeddings follow."""
    network = Lineage(generation.parent).network(Lineage(generation.parent).get(generation.name))
    encoder = Encoder(network.embedder, IMAGES)
    assert [number for number, _ in found] == list(range(len(chunks)))
    features = [each for _, each in found if isinstance(each, TrunkFeatures)]
    assert len(features) == len(chunks)
    assert {each.era for each in features} == {encoder.era}
    vectors = [projected(encoder, each).vectors for each in features if len(each.features)]
    for mine, theirs in zip(vectors, by_hand(generation, chunks), strict=True):
        np.testing.assert_allclose(mine, theirs.vectors, atol=1e-6)
    for each, chunk in zip(features, chunks, strict=True):
        assert len(each.indices) == len(each.features) == len(chunk) - len(each.failures)


def test_a_chunk_gives_features_here_and_in_processes(generation: Path, chunks: Chunks) -> None:
    for jobs in (1, 2):
        found = list(pool.embed_chunks(generation, IMAGES, chunks, jobs, features=True))
        same_features(found, generation, chunks)


def test_embeddings_and_features_survive_the_way_between_machines(generation: Path, chunks: Chunks) -> None:
    encoder = pool.load_encoder(generation, IMAGES)
    for features in (False, True):
        for chunk in (chunks[1], chunks[2]):  # one image is broken, and all of them
            sent = embed_chunk(encoder, chunk, features)
            arrived = from_bytes(to_bytes(sent))
            assert type(arrived) is type(sent)
            for name in type(sent).__slots__:
                np.testing.assert_array_equal(getattr(arrived, name), getattr(sent, name))
            if isinstance(arrived, TrunkFeatures):
                assert projected(encoder, arrived).fingerprint == encoder.fingerprint


def test_the_chunk_of_a_killed_process_is_embedded_by_another(generation: Path, chunks: Chunks) -> None:
    killed = []

    def coming() -> Iterator[list[Sample]]:
        yield from chunks[:4]
        killed.extend(active_children()[:1])  # it embeds one of the first chunks
        killed[0].kill()
        yield chunks[4]

    same(list(pool.embed_chunks(generation, IMAGES, coming(), 2)), by_hand(generation, chunks), chunks)
    assert killed[0].exitcode == -signal.SIGKILL


def test_a_chunk_that_kills_every_process_is_named(generation: Path, chunks: Chunks) -> None:
    over = threading.Event()

    def reap() -> None:
        while not over.wait(0.05):
            for child in active_children():
                child.kill()

    reaper = threading.Thread(target=reap)
    reaper.start()
    try:
        with pytest.raises(StorageError, match=r"0\.png: the process that embeds it and 17 others died 3 times"):
            list(pool.embed_chunks(generation, IMAGES, chunks, 2))
    finally:
        over.set()
        reaper.join()


MASTER = """
import sys
from multiprocessing import active_children
from pathlib import Path
from scrubjay.backfill import pool
from scrubjay.data.images import ImageOptions
from scrubjay.types import Sample

def chunks():
    yield [Sample(Path(sys.argv[2]), 0)]
    while True:
        print(*(child.pid for child in active_children()), flush=True)
        yield [Sample(Path(sys.argv[2]), 0)] * 64

if __name__ == "__main__":
    for _ in pool.embed_chunks(Path(sys.argv[1]), ImageOptions(size=32, resize=36), chunks(), 2):
        pass
"""


@pytest.mark.parametrize("kind", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_processes_end_with_what_started_them(
    kind: signal.Signals, generation: Path, chunks: Chunks, tmp_path: Path
) -> None:
    script = tmp_path / "master.py"
    script.write_text(MASTER)
    command = [sys.executable, str(script), str(generation), str(chunks[0][0].path)]
    master = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert master.stdout is not None
    lines = [master.stdout.readline() for _ in range(6)]  # after the first results all processes have started
    pids = {int(pid) for line in lines for pid in line.split()}
    assert len(pids) == 2, master.stderr.read() if master.stderr and master.poll() else lines
    if kind == signal.SIGINT:
        os.killpg(master.pid, kind)  # as a terminal does, including the workers
    else:
        master.kill()
    _, err = master.communicate(timeout=GUARD)
    assert err.count("Traceback") <= 1, "workers must ignore Ctrl-C"
    until(lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_mistakes_are_reported_before_anything_is_started(generation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="processes = 0"):
        next(pool.embed_chunks(generation, IMAGES, [], 0))
    with pytest.raises(CatalogueError, match="no generation 'g7'"):
        next(pool.embed_chunks(generation.with_name("g7"), IMAGES, [], 2))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'scrubjay\[ray\]'"):
        next(pool.embed_chunks(generation, IMAGES, [[]], ray="local"))


@pytest.fixture
def quiet() -> Iterator[None]:
    """Ignore warnings of Ray: sockets and files that it leaves to the garbage collector, and deprecations."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ResourceWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="ray")
        warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
        yield


@pytest.mark.slow  # Ray takes half a minute to start and to load torch
def test_a_chunk_gives_the_same_bits_on_ray(generation: Path, chunks: Chunks, quiet: None) -> None:
    ray = pytest.importorskip("ray", reason="needs ray")
    found = sorted(pool.embed_chunks(generation, IMAGES, chunks, 2, "local"), key=lambda each: each[0])
    same(found, by_hand(generation, chunks), chunks)
    found = sorted(pool.embed_chunks(generation, IMAGES, chunks, 2, "local", True), key=lambda each: each[0])
    same_features(found, generation, chunks)
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_machine_that_dies_costs_no_chunk(generation: Path, chunks: Chunks, quiet: None) -> None:
    pytest.importorskip("ray", reason="needs ray")
    from ray.cluster_utils import Cluster

    many = [*chunks, *chunks, *chunks]
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = machines.add_node(num_cpus=1)
        found = []
        for each in pool.embed_chunks(generation, IMAGES, many, 2, machines.address):
            found.append(each)
            if len(found) == 1:
                machines.remove_node(second, allow_graceful=False)
        same(sorted(found, key=lambda each: each[0]), by_hand(generation, many), many)
    finally:
        machines.shutdown()


def test_an_address_without_a_cluster_is_a_clear_error(generation: Path, chunks: Chunks, quiet: None) -> None:
    pytest.importorskip("ray", reason="needs ray")
    with pytest.raises(ConfigError, match=r"--ray 127.0.0.1:9: no cluster answers there"):
        next(pool.embed_chunks(generation, IMAGES, chunks, 2, "127.0.0.1:9"))
