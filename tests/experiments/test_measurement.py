from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from scrubjay.bridges import Bridge
from scrubjay.data.stream import Stream
from scrubjay.errors import CheckpointError
from scrubjay.experiments import cross_generation, measurement
from scrubjay.experiments.cross_generation import matrices, reindexed_gallery, search_pairs
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
    a, C = measurement.accuracy(scores), matrices(search_pairs(measured, stream), 2)
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
    figures = cross_generation.figures(measured, stream, {})
    R, C = figures["reindex"], figures["compatibility"]
    assert R.keys() == set(METRICS)
    for t in range(2):
        for k in range(2):
            known = range(CLASSES[k][-1] + 1)
            queries = items(measured[t].test, known, ids=1000)
            reindexed = tiny.retrieval_by_loops(queries, items(measured[t].gallery, known))
            for metric in METRICS:
                found = R[metric][t][k]
                assert found is None if k > t else math.isclose(found or 0, reindexed[metric])
    for metric in METRICS:
        assert [R[metric][t][t] for t in range(2)] == [C[metric][t][t] for t in range(2)]
    assert R["map_at_r"][1][0] != C["map_at_r"][1][0]


def turned(degrees: float) -> Bridge:
    """Turns the first two axes."""
    a = math.radians(degrees)
    weight = np.eye(4, dtype=np.float32)
    weight[:2, :2] = [[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]
    return Bridge("procrustes", {"weight": weight})


def test_queries_over_bridges_are_those_of_loops(measured: list[Measured], stream: Stream) -> None:
    third = replace(stream, sessions=(*stream.sessions, stream.sessions[1]))
    line = [measured[0], measured[1], measured[1]]
    bridges = {1: turned(40), 2: turned(25)}
    found = cross_generation.figures(line, third, bridges)
    assert found["bridged"]["map_at_r"][2][2] == found["compatibility"]["map_at_r"][2][2]
    for t, k, degrees in ((1, 0, 40), (2, 1, 25), (2, 0, 65)):
        moved = replace(line[t].test, vectors=turned(degrees)(line[t].test.vectors))
        queries = items(moved, range(third.sessions[k].labels.stop), ids=1000)
        expected = tiny.retrieval_by_loops(queries, items(line[k].gallery))
        for metric in METRICS:
            assert found["bridged"][metric][t][k] == pytest.approx(expected[metric], abs=1e-6)
    assert found["bridged"]["map_at_r"] != found["compatibility"]["map_at_r"]
    partly = cross_generation.figures(line, third, {2: turned(25)})["bridged"]["map_at_r"]
    assert partly[2][1] == found["bridged"]["map_at_r"][2][1]
    assert partly[1][0] is partly[2][0] is None


def first_hits(queries: Embeddings, gallery: Embeddings, labels: Any) -> dict[int, bool]:
    """Whether the nearest gallery item of each query is of its class, by loops over the queries."""
    hits = {}
    for vector, label, index in items(queries, labels):
        cosines = gallery.vectors.astype(np.float64) @ vector
        hits[index] = bool(gallery.labels[int(cosines.argmax())] == label)
    return hits


def test_negative_flips_are_those_of_loops(measured: list[Measured], stream: Stream) -> None:
    bridges = {1: turned(70)}
    rates = cross_generation.figures(measured, stream, bridges)["negative_flips"]
    old, new = measured
    before = first_hits(old.test, old.gallery, CLASSES[0])
    moved = replace(new.test, vectors=bridges[1](new.test.vectors))
    after = {
        "old_gallery": first_hits(new.test, old.gallery, CLASSES[0]),
        "bridged": first_hits(moved, old.gallery, CLASSES[0]),
        "reindexed": first_hits(new.test, reindexed_gallery(new, old), CLASSES[0]),
    }
    for kind, hits in after.items():
        lost = sum(before[index] and not hits[index] for index in before)
        assert rates[kind] == [[None, None], [lost / len(before), None]], kind
    assert any(rates[kind][1][0] > 0 for kind in rates)


def test_queries_that_only_one_generation_could_decode_are_no_flips(measured: list[Measured], stream: Stream) -> None:
    lost = replace(
        measured[1].test,
        **{name: getattr(measured[1].test, name)[2:] for name in ("vectors", "labels", "indices")},
    )
    rates = cross_generation.figures([measured[0], replace(measured[1], test=lost)], stream, {})["negative_flips"]
    before = first_hits(measured[0].test, measured[0].gallery, CLASSES[0])
    after = first_hits(lost, measured[0].gallery, CLASSES[0])
    shared = range(2, 9)
    hits = [
        before[index] and not first_hits(measured[1].test, measured[0].gallery, CLASSES[0])[index] for index in shared
    ]
    assert len(after) == 7
    assert rates["old_gallery"][1][0] == sum(hits) / 7


def test_a_bridge_is_fitted_to_the_images_that_both_networks_embedded(
    measured: list[Measured], stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(cross_generation, "choose", lambda *parts: given.append(parts))
    view = embeddings(list(stream.sessions[1].train), seed=5)
    view = replace(view, **{name: getattr(view, name)[1:] for name in ("vectors", "labels", "indices")})
    cross_generation.fit_bridge(measured[1], view, stream, 1)
    ((pairs, held_out),) = given
    np.testing.assert_array_equal(pairs.source, measured[1].gallery.vectors[13:])
    np.testing.assert_array_equal(pairs.target, view.vectors)
    assert set(pairs.labels.tolist()) == set(CLASSES[1])
    assert len(held_out.labels) == 0


def test_what_a_generation_could_not_decode_is_not_in_its_gallery(measured: list[Measured], stream: Stream) -> None:
    later = measured[1].gallery
    lost = replace(later, **{name: getattr(later, name)[2:] for name in ("vectors", "labels", "indices")})
    R = cross_generation.figures([measured[0], replace(measured[1], gallery=lost)], stream, {})["reindex"]
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
    found = matrices(search_pairs(measured, flagged), 2)
    for metric in METRICS:
        assert found[metric][1][0] == pytest.approx(expected[metric], abs=1e-6)
    assert found != matrices(search_pairs(measured, stream), 2)
    assert measurement.groups(newest, flagged, 0).new.queries == len(asking)
