from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from scrubjay.data.stream import Stream
from scrubjay.errors import CheckpointError
from scrubjay.experiments import measurement
from scrubjay.experiments.measurement import METRICS, Measured
from scrubjay.types import Embeddings, Sample, Session

CLASSES = ((0, 1, 2), (3, 4))
UNSEEN = (5, 6)


def samples(labels: tuple[int, ...], split: Any, each: int) -> tuple[Sample, ...]:
    return tuple(Sample(Path(f"{split}{label}/{n}.png"), label, split) for label in labels for n in range(each))


@pytest.fixture
def stream() -> Stream:
    sessions = tuple(
        Session(index, tuple(map(str, labels)), labels[0], samples(labels, "train", 4), samples(labels, "test", 3))
        for index, labels in enumerate(CLASSES)
    )
    return Stream("toy", tuple("0123456"), sessions, samples(UNSEEN, "test", 3))


def embeddings(of: list[Sample], seed: int, failures: tuple[tuple[str, str], ...] = ()) -> Embeddings:
    rng = np.random.default_rng(seed)
    labels = np.array([sample.label for sample in of], dtype=np.int64)
    centres = np.random.default_rng(9).normal(size=(7, 4))
    vectors = centres[labels] + rng.normal(size=(len(of), 4)) * 1.2
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return Embeddings(vectors, labels, f"space{seed}", np.arange(len(of), dtype=np.int64), failures)


@pytest.fixture
def measured(stream: Stream) -> list[Measured]:
    return [
        Measured(
            embeddings(measurement.test_samples(stream), step, (("a.png", "not an image"),)),
            embeddings(measurement.gallery_samples(stream, step), step + 10),
        )
        for step in range(2)
    ]


def items(of: Embeddings, labels: Any = range(7), ids: int = 0) -> list[tuple[Any, int, int]]:
    triples = zip(of.vectors.astype(np.float64), of.labels.tolist(), range(ids, ids + len(of.labels)), strict=True)
    return [item for item in triples if item[1] in labels]


def test_which_images_are_measured(stream: Stream) -> None:
    assert [sample.label for sample in measurement.test_samples(stream)] == [n for n in range(7) for _ in range(3)]
    assert [sample.label for sample in measurement.gallery_samples(stream, 0)] == [n for n in range(3) for _ in "1234"]
    assert [sample.label for sample in measurement.gallery_samples(stream, 1)] == [n for n in range(5) for _ in "1234"]


def test_what_was_measured_comes_back(measured: list[Measured], tmp_path: Path) -> None:
    measured[0].save(tmp_path / "g0.safetensors")
    found = Measured.load(tmp_path / "g0.safetensors")
    for part in ("test", "gallery"):
        one, other = getattr(found, part), getattr(measured[0], part)
        for name in ("vectors", "labels", "indices"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert getattr(one, name).dtype == getattr(other, name).dtype
        assert (one.fingerprint, one.failures) == (other.fingerprint, other.failures)


def test_a_damaged_file_is_refused(measured: list[Measured], tmp_path: Path) -> None:
    path = tmp_path / "g0.safetensors"
    measured[0].save(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"g0\.safetensors: damaged"):
        Measured.load(path)


def test_groups_are_searched_among_themselves(measured: list[Measured], stream: Stream) -> None:
    for step, (old, new) in enumerate([((), CLASSES[0]), CLASSES]):
        scores = measurement.groups(measured[step].test, stream, step)
        figures = measurement.group_figures(scores)
        wanted = {"new": new, "seen": (*old, *new), "unseen": tuple(n for n in range(7) if n not in (*old, *new))}
        if old:
            wanted["old"] = old
        else:
            assert figures["old"] is None
        for name, labels in wanted.items():
            group = items(measured[step].test, labels)
            expected = tiny.retrieval_by_loops(group, group)
            assert figures[name]["queries"] == len(group)
            assert math.isclose(figures[name]["map_at_r"], expected["map_at_r"])
            for k in measurement.KS:
                assert math.isclose(figures[name]["recall"][str(k)], expected[f"recall@{k}"])


def test_images_that_may_not_ask_do_not(stream: Stream, measured: list[Measured]) -> None:
    first = stream.sessions[0]
    shy = replace(first, test=tuple(replace(sample, query=sample.label != 0) for sample in first.test))
    scores = measurement.groups(measured[0].test, replace(stream, sessions=(shy, *stream.sessions[1:])), 0)
    assert scores.seen.queries == 6
    lost = replace(
        measured[0].test,
        **{name: getattr(measured[0].test, name)[1:] for name in ("vectors", "labels", "indices")},
    )
    assert measurement.groups(lost, replace(stream, sessions=(shy, *stream.sessions[1:])), 0).seen.queries == 6


def test_accuracy_and_compatibility_by_loops(measured: list[Measured], stream: Stream) -> None:
    scores = [measurement.groups(each.test, stream, step) for step, each in enumerate(measured)]
    a, C = measurement.accuracy(scores), measurement.compatibility(measured, stream)
    assert a.keys() == C.keys() == set(METRICS)
    for t in range(2):
        for j in range(2):
            group = items(measured[t].test, CLASSES[j])
            expected = tiny.retrieval_by_loops(group, group)
            queries = items(measured[t].test, range(CLASSES[j][-1] + 1), ids=1000)
            across = tiny.retrieval_by_loops(queries, items(measured[j].gallery))
            for metric in METRICS:
                assert math.isclose(a[metric][t][j] or 0, expected[metric])
                found = C[metric][t][j]
                assert found is None if j > t else math.isclose(found or 0, across[metric])


def test_reindexing_by_loops(measured: list[Measured], stream: Stream) -> None:
    R, C = measurement.reindex(measured, stream), measurement.compatibility(measured, stream)
    assert R.keys() == set(METRICS)
    for t in range(2):
        for k in range(2):
            known = range(CLASSES[k][-1] + 1)
            queries = items(measured[t].test, known, ids=1000)
            anew = tiny.retrieval_by_loops(queries, items(measured[t].gallery, known))
            for metric in METRICS:
                found = R[metric][t][k]
                assert found is None if k > t else math.isclose(found or 0, anew[metric])
    for metric in METRICS:
        assert [R[metric][t][t] for t in range(2)] == [C[metric][t][t] for t in range(2)]
    assert R["map_at_r"][1][0] != C["map_at_r"][1][0]
    assert (
        measurement.figures(
            [measurement.groups(each.test, stream, step) for step, each in enumerate(measured)],
            measured,
            stream,
            {metric: [None, None] for metric in METRICS},
        )["reindex"]
        == R
    )


def test_what_a_generation_could_not_decode_is_not_in_its_gallery(measured: list[Measured], stream: Stream) -> None:
    later = measured[1].gallery
    lost = replace(later, **{name: getattr(later, name)[2:] for name in ("vectors", "labels", "indices")})
    R = measurement.reindex([measured[0], replace(measured[1], gallery=lost)], stream)
    expected = tiny.retrieval_by_loops(items(measured[1].test, CLASSES[0], ids=1000), items(lost, CLASSES[0]))
    for metric in METRICS:
        assert math.isclose(R[metric][1][0] or 0, expected[metric])


def test_summaries_by_hand() -> None:
    a = {metric: [[0.9, 0.2, 0.1], [0.7, 0.8, 0.3], [0.6, 0.5, 0.8]] for metric in METRICS}
    found = measurement.summaries(a, {key: [0.1, 0.1, 0.2] for key in METRICS})["map_at_r"]
    assert found["average"] == pytest.approx((0.6 + 0.5 + 0.8) / 3)
    assert found["average_incremental"] == pytest.approx((0.9 + (0.7 + 0.8) / 2 + (0.6 + 0.5 + 0.8) / 3) / 3)
    assert found["forgetting"] == pytest.approx(((0.9 - 0.6) + (0.8 - 0.5)) / 2)
    assert found["backward_transfer"] == pytest.approx(((0.6 - 0.9) + (0.5 - 0.8)) / 2)
    assert found["forward_transfer"] == pytest.approx(((0.2 - 0.1) + (0.3 - 0.2)) / 2)


def test_what_was_not_measured_is_none() -> None:
    a: dict[str, list[list[float | None]]] = {metric: [[None]] for metric in METRICS}
    found = measurement.summaries(a, {key: [None] for key in METRICS})["recall@1"]
    assert set(found.values()) == {None}


def test_only_queries_ask(stream: Stream, measured: list[Measured]) -> None:
    first, later = stream.sessions
    kept = tuple(replace(sample, query=number % 2 == 0) for number, sample in enumerate(first.test))
    flagged = replace(stream, sessions=(replace(first, test=kept), later))
    newest, oldest = measured[1].test, measured[0].gallery
    asking = [item for item in items(newest, CLASSES[0]) if item[2] < len(kept) and kept[item[2]].query]
    expected = tiny.retrieval_by_loops([(v, label, -1) for v, label, _ in asking], items(oldest, ids=100))
    matrices = measurement.compatibility(measured, flagged)
    for metric in METRICS:
        assert matrices[metric][1][0] == pytest.approx(expected[metric], abs=1e-6)
    assert matrices != measurement.compatibility(measured, stream)
    assert measurement.groups(newest, flagged, 0).new.queries == len(asking)
