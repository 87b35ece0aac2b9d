from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from scrubjay.estimator import ClosedFormEmbedding


@parametrize_with_checks([ClosedFormEmbedding(), ClosedFormEmbedding(2, target="identity", weighting="plda")])
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


def drawn(seed: int, classes: int = 6, images: int = 8, p: int = 10):
    random = np.random.default_rng(seed)
    means = random.normal(0, 3, (classes, p))
    labels = np.repeat([f"class {index}" for index in range(classes)], images)
    return np.repeat(means, images, axis=0) + random.normal(size=(classes * images, p)), labels


@given(seed=st.integers(0, 1000), cuts=st.sets(st.integers(2, 46), max_size=3))
@settings(max_examples=20, deadline=None)
def test_learning_in_any_order_and_split_gives_the_cosines_of_learning_at_once(seed, cuts):
    X, y = drawn(seed)
    order = np.random.default_rng(seed + 1).permutation(len(y))
    bounds = [0, *sorted(cut for cut in cuts if cut % 2 == 0), len(y)]
    parts = ClosedFormEmbedding()
    for first, last in pairwise(bounds):
        parts.partial_fit(X[order[first:last]], y[order[first:last]])
    whole, Z = ClosedFormEmbedding().fit(X, y).transform(X), parts.transform(X)
    np.testing.assert_allclose(Z @ Z.T, whole @ whole.T, atol=1e-8)
    assert sorted(parts.classes_) == sorted(set(y))


def test_stored_embeddings_stay_comparable_when_more_classes_are_learned():
    X, y = drawn(3)
    first = y < "class 4"
    embedding = ClosedFormEmbedding().fit(X[first], y[first])
    stored = embedding.transform(X[first])
    unaligned = ClosedFormEmbedding().fit(X, y).transform(X[first])
    kept = np.sum(stored * embedding.partial_fit(X[~first], y[~first]).transform(X[first]), axis=1).mean()
    assert kept > 0.9
    assert kept > np.sum(stored * unaligned, axis=1).mean() + 0.1


def test_fit_forgets_what_was_learned_before():
    X, y = drawn(1)
    once = ClosedFormEmbedding().fit(X, y).transform(X)
    again = ClosedFormEmbedding().fit(*drawn(2, p=4)).fit(X, y).transform(X)
    np.testing.assert_array_equal(once, again)


def test_it_works_in_a_pipeline_and_helps_the_nearest_neighbour():
    X, y = drawn(5, classes=12, images=12)
    X = X @ np.diag([1.0] * 5 + [30.0] * 5) * [[1.0] * 5 + [0.0] * 5] + np.random.default_rng(0).normal(
        0, 20, X.shape
    ) * [[0.0] * 5 + [1.0] * 5]
    even = np.arange(len(y)) % 2 == 0
    nearest = KNeighborsClassifier(1)
    with_metric = (
        make_pipeline(ClosedFormEmbedding(prior=10.0), nearest).fit(X[even], y[even]).score(X[~even], y[~even])
    )
    assert with_metric > nearest.fit(X[even], y[even]).score(X[~even], y[~even]) + 0.3


def test_mistakes_are_told():
    X, y = drawn(0)
    with pytest.raises(NotFittedError):
        ClosedFormEmbedding().transform(X)
    with pytest.raises(ValueError, match="n_components = 0"):
        ClosedFormEmbedding(0).fit(X, y)
    with pytest.raises(ValueError, match="features"):
        ClosedFormEmbedding().fit(X, y).transform(X[:, :3])
