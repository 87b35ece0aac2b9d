from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.evaluation.coded_ranks import CodedGallery
from scrubjay.evaluation.exact_scores import check_vectors, exact_product
from scrubjay.evaluation.retrieval import evaluate_query_gallery


def gallery_of(items: int, dim: int, spread: float, seed: int) -> np.ndarray:
    """Vectors around one direction: the smaller the spread, the closer their cosines."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal(dim) + spread * random.standard_normal((items, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return check_vectors("gallery", vectors.astype(np.float32))


@given(
    st.integers(2, 300), st.integers(1, 200), st.sampled_from([0.0, 1e-6, 1e-4, 1e-2, 1.0, 10.0]), st.integers(0, 2**32)
)
def test_ranks_are_those_of_exact_cosines(items: int, dim: int, spread: float, seed: int) -> None:
    gallery = gallery_of(items, dim, spread, seed)
    random = np.random.default_rng(seed)
    relevant = np.flatnonzero(random.random(items) < 0.3)[:40]
    relevant = relevant if len(relevant) else np.array([0])
    query = gallery_of(1, dim, 1.0, seed + 1)
    coded, codes = CodedGallery(gallery), np.empty((1, items), np.int16)
    coded.codes(query, np.array([-1]), codes)
    scores = exact_product(query, gallery, np.empty((1, items)))[0]
    rank_of = np.empty(items, np.int64)
    rank_of[np.lexsort((np.arange(items), -scores))] = np.arange(1, items + 1)
    ranks = coded.ranks(query[0], codes[0], relevant)
    assert ranks is None or ranks.tolist() == sorted(rank_of[relevant].tolist())


def test_a_query_is_left_out_of_its_own_ranking() -> None:
    gallery = gallery_of(50, 8, 1.0, 0)
    coded, codes = CodedGallery(gallery), np.empty((50, 50), np.int16)
    coded.codes(gallery, np.arange(50), codes)
    assert (codes.argmin(axis=1) == np.arange(50)).all()


@pytest.mark.parametrize("dim", [2, 64, 2048])
def test_codes_of_the_longest_accepted_vectors_do_not_overflow(dim: int) -> None:
    longest = check_vectors("v", np.full((3, dim), 1.0099 / dim**0.5, np.float32))
    coded, codes = CodedGallery(longest), np.empty((3, 3), np.int16)
    coded.codes(-longest, np.full(3, -1), codes)
    assert (codes < -32_000).all()
    coded.codes(longest, np.full(3, -1), codes)
    assert (codes > 32_000).all()


def test_a_collapsed_model_is_ranked_exactly() -> None:
    gallery = np.repeat(gallery_of(1, 16, 1.0, 0), 400, axis=0)
    labels = np.arange(400) % 7
    coded, codes = CodedGallery(gallery), np.empty((1, 400), np.int16)
    coded.codes(gallery[:1], np.array([-1]), codes)
    assert coded.ranks(gallery[0], codes[0], np.flatnonzero(labels == 3)) is None
    scores = evaluate_query_gallery(gallery[:1], np.array([3]), gallery, labels)
    positions = np.flatnonzero(labels == 3) + 1
    assert scores.map == pytest.approx(np.mean(np.arange(1, len(positions) + 1) / positions))
