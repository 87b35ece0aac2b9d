from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from scrubjay.inventory import confusions
from scrubjay.inventory.confusions import confused, nearest_other
from shops import metric_shop


def unit(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_nearest_other_equals_loops(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusions, "_BLOCK", block)
    vectors = unit(30, 1)
    nearest, cosines = nearest_other(vectors)
    for row in range(30):
        others = {other: float(vectors[row] @ vectors[other]) for other in range(30) if other != row}
        best = max(others, key=lambda other: others[other])
        assert nearest[row] == best
        assert cosines[row] == pytest.approx(others[best], abs=1e-6)


def test_confused_classes_equal_loops() -> None:
    vectors, labels = unit(60, 2), [f"class {row % 5}" for row in range(60)]
    ids = [f"i{row}" for row in range(60)]
    found = confused(ids, labels, vectors)
    expected: Counter[tuple[str, str]] = Counter()
    for row in range(60):
        other = max((row_ for row_ in range(60) if row_ != row), key=lambda row_: float(vectors[row] @ vectors[row_]))
        if labels[row] != labels[other]:
            expected[min(labels[row], labels[other]), max(labels[row], labels[other])] += 1
    assert {each.classes: each.share for each in found} == {pair: n / 24 for pair, n in expected.items()}
    assert [each.share for each in found] == sorted((each.share for each in found), reverse=True)
    for each in found:
        assert 1 <= len(each.pairs) <= 6
        for one, other in each.pairs:
            assert {labels[ids.index(one)], labels[ids.index(other)]} == set(each.classes)
    assert confused([], [], vectors[:0]) == confused(["a"], ["x"], vectors[:1]) == ()


def test_confusions_of_a_catalogue(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    everything = shop.inventory.confusions(100)
    assert everything.items == shop.gallery.count() == 28
    assert shop.inventory.confusions(1).found == everything.found[:1]
    pear = next(shop.gallery.store.page(1, labels=["pear"]).__iter__())
    shop.inventory.change_item(pear.id, label="fig")  # a wrong label
    pairs = {each.classes: each for each in shop.inventory.confusions(100).found}
    assert any(pear.id in (one, other) for one, other in pairs["fig", "pear"].pairs)
