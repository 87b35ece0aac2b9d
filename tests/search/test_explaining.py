from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scrubjay.catalogue import Catalogue
from scrubjay.errors import ImageError
from scrubjay.gallery.items import CHANGED, MISSING
from scrubjay.generations.bridge_paths import space_of
from scrubjay.search.explaining import REMOVED
from shops import copied
from tiny import paint


@pytest.fixture
def shop(tmp_path: Path) -> Catalogue:
    return copied(tmp_path)


@pytest.fixture
def query(tmp_path: Path) -> Path:
    return tmp_path / "spring" / "test" / "apple" / "100.png"


def test_all_hits_are_explained_with_their_scores(shop: Catalogue, query: Path) -> None:
    answer = shop.answer(query, 10)
    found = shop.explain(query, answer)
    assert [each.hit for each in found] == list(answer.hits)
    for each in found:
        assert each.reason == ""
        assert each.explanation is not None
        assert each.explanation.score == pytest.approx(each.hit.score, abs=1e-5)
        for side in (each.explanation.query, each.explanation.hit):
            assert float(side.positions.sum()) + side.remainder == pytest.approx(each.hit.score, abs=1e-5)


def test_hits_whose_images_are_gone_have_a_reason(shop: Catalogue, query: Path) -> None:
    answer = shop.answer(query, 10)
    missing, changed, removed, *rest = answer.hits
    Path(missing.uri).unlink()
    paint(Path(changed.uri), 5, 77)
    shop.remove([removed.id])
    found = shop.explain(query, answer)
    assert [each.reason for each in found] == [MISSING, CHANGED, REMOVED, *("" for _ in rest)]
    assert [each.explanation is None for each in found] == [True, True, True, *(False for _ in rest)]


def test_a_query_that_is_gone_is_an_error(shop: Catalogue, query: Path) -> None:
    answer = shop.answer(query, 3)
    query.unlink()
    with pytest.raises(ImageError, match=r"100\.png: no such file"):
        shop.explain(query, answer)


def test_a_score_over_a_bridge_is_not_decomposed(shop: Catalogue, query: Path, tmp_path: Path) -> None:
    shop.promote("g1", force=True)
    shop.add([tmp_path / "summer" / "train"])
    calibrations = shop.workspace.calibrations(shop.lineage.get("g1"))
    path = shop.workspace.calibrations_path(shop.lineage.get("g1"))
    old = space_of(shop.lineage.get("g0")).id
    replace(calibrations, direct=()).save(path)
    bridged = shop.explain(query, shop.answer(query, 15))
    assert {each.hit.generation for each in bridged} == {"g0", "g1"}
    for each in bridged:
        assert (each.explanation is None) is (each.hit.generation == "g0")
        assert ("over a bridge from g1 to g0" in each.reason) is (each.hit.generation == "g0")
    replace(calibrations, direct=(old,)).save(path)
    direct = shop.explain(query, shop.answer(query, 15))
    assert {each.hit.generation for each in direct} == {"g0", "g1"}
    for each in direct:
        assert each.explanation is not None
        assert each.explanation.score == pytest.approx(each.hit.score, abs=1e-5), "the query is of g1, the hit of g0"
