from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from scrubjay.errors import ConfigError, DataError
from scrubjay.evaluation.ranks import top_k
from scrubjay.evaluation.retrieval import RetrievalScores, evaluate_groups, evaluate_query_gallery, evaluate_self

KS = (1, 2, 4, 8)


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def whole(vectors: NDArray[np.float32]) -> list[list[int]]:
    """The vectors in whole steps of 2^-26, so that Python's integers give exact products."""
    return [[round(float(x) * 2**26) for x in row] for row in vectors]


def ranking(query: list[int], gallery: list[list[int]], own: int | None = None) -> list[int]:
    dots = [sum(a * b for a, b in zip(query, item, strict=True)) for item in gallery]
    return sorted((i for i in range(len(gallery)) if i != own), key=lambda i: (-dots[i], i))


@dataclass
class Expected:
    recall: dict[int, float]
    map: float
    map_at_r: float
    r_precision: float
    map_at_k: dict[int, float]
    positions: list[int]
    found_first: list[bool]
    map_at_r_per_query: list[float]


def by_loops(rankings: list[list[int]], query_labels: list[int], gallery_labels: list[int]) -> Expected:
    """The definitions, as sums over ranks i of the relevance rel(i) and the precision P(i)."""
    rows = []
    for position, (ranked, label) in enumerate(zip(rankings, query_labels, strict=True)):
        rel = [int(gallery_labels[item] == label) for item in ranked]
        R = sum(rel)
        if R == 0:
            continue
        precision = [sum(rel[:i]) / i for i in range(1, len(rel) + 1)]
        rows.append(
            {
                "position": position,
                "recall": {k: float(any(rel[:k])) for k in KS},
                "map": sum(p * r for p, r in zip(precision, rel, strict=True)) / R,
                "map_at_r": sum(p * r for p, r in list(zip(precision, rel, strict=True))[:R]) / R,
                "r_precision": sum(rel[:R]) / R,
                "map_at_k": {
                    k: sum(p * r for p, r in list(zip(precision, rel, strict=True))[:k]) / min(R, k) for k in KS
                },
                "first": rel[0] == 1,
            }
        )

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else math.nan

    return Expected(
        recall={k: mean([row["recall"][k] for row in rows]) for k in KS},
        map=mean([row["map"] for row in rows]),
        map_at_r=mean([row["map_at_r"] for row in rows]),
        r_precision=mean([row["r_precision"] for row in rows]),
        map_at_k={k: mean([row["map_at_k"][k] for row in rows]) for k in KS},
        positions=[row["position"] for row in rows],
        found_first=[row["first"] for row in rows],
        map_at_r_per_query=[row["map_at_r"] for row in rows],
    )


def assert_same(scores: RetrievalScores, expected: Expected, queries: int) -> None:
    near = {"abs": 1e-12, "nan_ok": True}
    assert scores.recall == pytest.approx(expected.recall, **near)
    assert scores.map == pytest.approx(expected.map, **near)
    assert scores.map_at_r == pytest.approx(expected.map_at_r, **near)
    assert scores.r_precision == pytest.approx(expected.r_precision, **near)
    assert scores.map_at_k == pytest.approx(expected.map_at_k, **near)
    assert scores.positions.tolist() == expected.positions
    assert scores.found_first.tolist() == expected.found_first
    assert scores.map_at_r_per_query == pytest.approx(expected.map_at_r_per_query, **near)
    assert (scores.queries, scores.skipped) == (len(expected.positions), queries - len(expected.positions))


@st.composite
def collections(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors with many duplicates, exact ties and negative cosines, and labels that may be alone."""
    n = draw(st.integers(1, 14))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        vectors = random.integers(-1, 2, (n, 4)).astype(float)
        vectors[~vectors.any(axis=1)] = 1.0
    else:
        vectors = random.standard_normal((n, 4))[random.integers(0, n, n)]
    return unit(vectors), random.integers(0, draw(st.integers(1, 6)), n)


blocks = st.one_of(st.none(), st.integers(1, 15))


@given(collections(), blocks)
def test_self_is_the_loops(collection, block) -> None:
    vectors, labels = collection
    items = whole(vectors)
    expected = by_loops([ranking(q, items, own=i) for i, q in enumerate(items)], labels.tolist(), labels.tolist())
    assert_same(evaluate_self(vectors, labels, KS, map_ks=KS, block=block), expected, len(vectors))


@given(collections(), collections(), blocks)
def test_query_gallery_is_the_loops(asked, kept, block) -> None:
    queries, query_labels = asked
    gallery, gallery_labels = kept
    expected = by_loops(
        [ranking(q, whole(gallery)) for q in whole(queries)], query_labels.tolist(), gallery_labels.tolist()
    )
    scores = evaluate_query_gallery(queries, query_labels, gallery, gallery_labels, KS, map_ks=KS, block=block)
    assert_same(scores, expected, len(queries))


@given(collections(), st.integers(0, 2**32), blocks)
def test_masks_choose_queries_and_gallery(collection, seed, block) -> None:
    vectors, labels = collection
    random = np.random.default_rng(seed)
    asks, found = random.random(len(vectors)) < 0.6, random.random(len(vectors)) < 0.6
    items = whole(vectors)
    asked, kept = np.flatnonzero(asks), np.flatnonzero(found)
    rankings = []
    for q in asked:
        others = [g for g in kept if g != q]
        rankings.append([others[i] for i in ranking(items[q], [items[g] for g in others])])
    expected = by_loops(rankings, labels[asked].tolist(), labels.tolist())
    expected.positions = asked[expected.positions].tolist()
    scores = evaluate_self(vectors, labels, KS, map_ks=KS, query_mask=asks, gallery_mask=found, block=block)
    assert_same(scores, expected, len(asked))


@given(collections(), collections(), st.integers(1, 16), blocks)
def test_top_k_is_the_loops(asked, kept, k, block) -> None:
    (queries, _), (gallery, _) = asked, kept
    scores, indices = top_k(queries, gallery, k, block=block)
    assert indices.tolist() == [ranking(q, whole(gallery))[:k] for q in whole(queries)]
    cosines = np.take_along_axis(queries.astype(float) @ gallery.T.astype(float), indices, axis=1)
    np.testing.assert_allclose(scores, cosines, atol=1e-6)
    assert (scores.dtype, indices.dtype) == (np.float32, np.int64)


@given(collections(), st.integers(1, 16), blocks)
def test_top_k_without_the_query_itself(collection, k, block) -> None:
    vectors, _ = collection
    items = whole(vectors)
    scores, indices = top_k(vectors, vectors, k, exclude_self=True, block=block)
    assert indices.tolist() == [ranking(q, items, own=i)[:k] for i, q in enumerate(items)]
    assert scores.shape == (len(vectors), min(k, len(vectors) - 1))


def clusters(n: int, seed: int, dim: int = 48) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 30, n)
    centres = np.random.default_rng(7).standard_normal((30, dim))
    return unit(centres[labels] + 2.5 * random.standard_normal((n, dim))), labels


@pytest.mark.parametrize("own_gallery", [True, False])
def test_agrees_with_pytorch_metric_learning(own_gallery: bool) -> None:
    queries, query_labels = clusters(300, 1)
    gallery, gallery_labels = (queries, query_labels) if own_gallery else clusters(400, 2)
    peer = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_average_precision"),
        k=None,
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity()),
    )
    theirs = peer.get_accuracy(queries, query_labels, gallery, gallery_labels, ref_includes_query=own_gallery)
    ours = (
        evaluate_self(queries, query_labels)
        if own_gallery
        else evaluate_query_gallery(queries, query_labels, gallery, gallery_labels)
    )
    near = {"abs": 1e-5}  # its float32 cosines can exchange neighbours that ours tell apart
    assert ours.recall[1] == pytest.approx(theirs["precision_at_1"], **near)
    assert ours.r_precision == pytest.approx(theirs["r_precision"], **near)
    assert ours.map_at_r == pytest.approx(theirs["mean_average_precision_at_r"], **near)
    assert ours.map == pytest.approx(theirs["mean_average_precision"], **near)


def test_any_block_gives_the_same_bits_and_equal_vectors_tie() -> None:
    vectors, labels = clusters(501, 3, dim=131)
    vectors[250:] = vectors[:251]  # every image twice, at places that a matrix product treats differently
    whole_at_once = evaluate_self(vectors, labels, map_ks=(5,), block=501)
    best = top_k(vectors, vectors, 9, block=501)
    for block in (1, 2, 7, 64, 500):
        scores = evaluate_self(vectors, labels, map_ks=(5,), block=block)
        assert scores == whole_at_once
        assert np.array_equal(scores.map_at_r_per_query, whole_at_once.map_at_r_per_query)
        assert all(map(np.array_equal, top_k(vectors, vectors, 9, block=block), best))
    _, indices = best
    pairs = np.arange(1, 250)
    assert (indices[pairs, 0] == pairs).all()
    assert (indices[pairs, 1] == pairs + 250).all()
    assert (indices[pairs + 250, 0] == pairs).all()


def test_ranks_a_tile_of_the_gallery_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = clusters(200, 4)
    in_one = evaluate_self(vectors, labels)
    monkeypatch.setattr("scrubjay.evaluation.exact_scores._TILE_BYTES", 8 * 48 * 33)
    assert evaluate_self(vectors, labels) == in_one


def test_scores_closer_than_float32_can_tell_are_ranked() -> None:
    angles = 0.9 + 1e-5 * np.random.default_rng(0).standard_normal(40)
    gallery = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    query = unit(np.array([[math.cos(0.9), math.sin(0.9)]]))
    expected = ranking(whole(query)[0], whole(gallery))
    scores, indices = top_k(query, gallery, 40)
    assert len(np.unique(scores)) < 10
    assert indices[0].tolist() == expected
    for item in range(40):
        found = evaluate_query_gallery(query, np.array([item]), gallery, np.arange(40))
        assert found.map == pytest.approx(1 / (1 + expected.index(item)))


def test_a_collapsed_model_ranks_by_gallery_order() -> None:
    vectors = np.full((6, 4), 0.5, np.float32)
    scores = evaluate_query_gallery(vectors[:1], np.array([1]), vectors, np.array([0, 1, 0, 1, 0, 0]))
    assert scores.recall == {1: 0.0, 2: 1.0, 4: 1.0, 8: 1.0}
    assert scores.map == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert (scores.map_at_r, scores.r_precision) == (pytest.approx(0.25), pytest.approx(0.5))


def test_perfect_ranking_scores_one() -> None:
    vectors = np.repeat(np.eye(4, dtype=np.float32), 25, axis=0)
    scores = evaluate_self(vectors, np.repeat(np.arange(4), 25), map_ks=(10,))
    assert (scores.map, scores.map_at_r, scores.r_precision, scores.map_at_k[10]) == (1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("labels", [[3], [1, 2, 3]])
def test_no_query_to_count_gives_nan(labels: list[int]) -> None:
    scores = evaluate_self(np.eye(3, dtype=np.float32)[: len(labels)], np.array(labels))
    assert (scores.queries, scores.skipped) == (0, len(labels))
    assert np.isnan([*scores.recall.values(), scores.map, scores.map_at_r, scores.r_precision]).all()
    assert scores.found_first.tolist() == scores.positions.tolist() == []
    assert json.loads(json.dumps(scores.to_dict(), allow_nan=False))["map"] is None


def test_to_dict_is_json() -> None:
    scores = evaluate_self(*clusters(40, 5), ks=(1, 8), map_ks=(3,))
    figures = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert figures == {
        "recall": {"1": scores.recall[1], "8": scores.recall[8]},
        "map": scores.map,
        "map_at_r": scores.map_at_r,
        "r_precision": scores.r_precision,
        "map_at_k": {"3": scores.map_at_k[3]},
        "queries": scores.queries,
        "skipped": scores.skipped,
    }


def test_groups_are_searched_among_themselves() -> None:
    vectors, labels = clusters(240, 6)
    sessions = [range(10), range(10, 16), range(16, 24)]  # labels 24 … 29 are kept aside
    asks = np.random.default_rng(0).random(240) < 0.7
    groups = evaluate_groups(vectors, labels, sessions, 1, query_mask=asks)

    def among(*kept: range) -> RetrievalScores:
        rows = np.array([label in {x for r in kept for x in r} for label in labels])
        return evaluate_self(vectors[rows], labels[rows], query_mask=asks[rows])

    assert groups.old == among(range(10))
    assert groups.new == among(range(10, 16))
    assert groups.seen == among(range(16))
    assert groups.unseen == among(range(16, 30))
    assert groups.sessions == tuple(among(session) for session in sessions)


def test_first_step_has_no_old_classes() -> None:
    vectors, labels = clusters(60, 8)
    groups = evaluate_groups(vectors, labels, [range(30)], 0)
    assert (groups.old.queries, groups.unseen.queries) == (0, 0)
    assert math.isnan(groups.old.map)
    assert groups.new == groups.seen == groups.sessions[0] == evaluate_self(vectors, labels)


GOOD = np.eye(3, dtype=np.float32)
LABELS = np.array([0, 0, 1])


@pytest.mark.parametrize(
    ("vectors", "labels", "message"),
    [
        (GOOD[:0], LABELS[:0], r"queries: vectors of shape \(0, 3\)"),
        (GOOD[0], LABELS, r"vectors of shape \(3,\)"),
        (GOOD * 2, LABELS, r"vector 0 has length 2: normalise the rows \(3 of 3 vectors"),
        (GOOD * [[1], [0], [1]], LABELS, "vector 1 has length 0: normalise"),
        (GOOD * [[1], [1], [np.nan]], LABELS, "vector 2 is not finite"),
        (GOOD * [[1e30], [1], [1]], LABELS, "vector 0 is not finite"),
        (GOOD, LABELS[:2], r"labels of shape \(2,\) for 3 vectors"),
        (GOOD, LABELS[:, None], r"labels of shape \(3, 1\)"),
        (GOOD, LABELS / 2, "labels of type float64"),
    ],
)
def test_bad_vectors_and_labels_are_refused(vectors, labels, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        evaluate_query_gallery(vectors, labels, GOOD, LABELS)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=message.replace("queries: ", "")):
        evaluate_self(vectors, labels)


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(DataError, match="queries have 2 dimensions and the gallery 3"):
        evaluate_query_gallery(GOOD[:2, :2], LABELS[:2], GOOD, LABELS)
    with pytest.raises(DataError, match="gallery: vector 0 has length 2"):
        evaluate_query_gallery(GOOD, LABELS, GOOD * 2, LABELS)
    with pytest.raises(DataError, match=r"query_mask is bool \(2,\)"):
        evaluate_self(GOOD, LABELS, query_mask=np.array([True, False]))
    with pytest.raises(DataError, match=r"gallery_mask is int64 \(3,\)"):
        evaluate_groups(GOOD, LABELS, [range(2)], 0, gallery_mask=np.array([1, 0, 1]))
    with pytest.raises(DataError, match="step 1 of a stream of 1 sessions"):
        evaluate_groups(GOOD, LABELS, [range(2)], 1)
    with pytest.raises(DataError, match="2 queries, 3 items"):
        top_k(GOOD[:2], GOOD, 1, exclude_self=True)
    with pytest.raises(ConfigError, match="k = 0"):
        top_k(GOOD, GOOD, 0)
    with pytest.raises(ConfigError, match="every k"):
        evaluate_self(GOOD, LABELS, ks=(0, 1))
    with pytest.raises(ConfigError, match="block = 0"):
        evaluate_self(GOOD, LABELS, block=0)
