from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.stores import _exact
from scrubjay.stores._exact import nearest


@given(
    count=st.integers(0, 60),
    dim=st.integers(1, 70),
    k=st.integers(1, 70),
    distinct=st.integers(1, 60),
    seed=st.integers(0, 10**6),
)
def test_equals_sorting_float64_products(count: int, dim: int, k: int, distinct: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    pool = generator.standard_normal((distinct, dim))
    pool = (pool / np.linalg.norm(pool, axis=1, keepdims=True)).astype(np.float32)
    vectors = pool[generator.integers(distinct, size=count)]
    for query, (rows, scores) in zip(pool[:3], nearest(vectors, pool[:3], k), strict=True):
        products = [float(np.vecdot(vector.astype(float), query.astype(float))) for vector in vectors]
        expected = sorted(range(count), key=lambda row: (-products[row], row))[:k]
        assert rows.tolist() == expected
        np.testing.assert_allclose(scores, [products[row] for row in expected], atol=1e-6)


def test_order_below_the_resolution_of_float32() -> None:
    generator = np.random.default_rng(2)
    query = generator.standard_normal(128)
    vectors = query / np.linalg.norm(query) + 1e-5 * generator.standard_normal((500, 128))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    products = np.vecdot(vectors.astype(float), vectors[0].astype(float))
    ((rows, _),) = nearest(vectors, vectors[:1], 20)
    assert rows.tolist() == sorted(range(500), key=lambda row: (-products[row], row))[:20]


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 9)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = [rows.tolist() for rows, _ in nearest(vectors, vectors, 5)]
    monkeypatch.setattr(_exact, "_SCORES_AT_ONCE", 350)
    assert [rows.tolist() for rows, _ in nearest(vectors, vectors, 5)] == whole
    assert len(whole) == 50
