"""Many queries answered together get what each gets by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scrubjay.catalogue import Catalogue
from scrubjay.errors import CatalogueError, ConfigError
from scrubjay.search.query_image import QueryImage
from scrubjay.search.request import Answer, QueryRequest
from shops import copied, metric_shop


@pytest.fixture
def shop(tmp_path: Path) -> Catalogue:
    """g1 answers; five items have its vectors, ten are found over the bridge to g0."""
    shop = copied(tmp_path)
    shop.promote("g1", force=True)
    shop.add([tmp_path / "summer" / "train"])
    return shop


def queries(shop: Catalogue, root: Path) -> list[QueryImage]:
    paths = sorted(root.glob("s*/t*/*/*.png"))
    return [QueryImage.read(path, shop.options.images) for path in paths[::3]]


def assert_same(one: Answer, other: Answer) -> None:
    """Equal but for rounding."""
    assert {hit.id for hit in one.hits} == {hit.id for hit in other.hits}
    scores = {hit.id: hit for hit in other.hits}
    for hit in one.hits:
        assert hit.score == pytest.approx(scores[hit.id].score, abs=1e-5)
        assert hit.match == pytest.approx(scores[hit.id].match, abs=1e-4)
        assert (hit.label, hit.generation) == (scores[hit.id].label, scores[hit.id].generation)
    assert (one.generation, one.unembedded, one.match_basis) == (other.generation, other.unembedded, other.match_basis)
    assert one.threshold == other.threshold
    assert (one.match_score is None) == (other.match_score is None)
    if one.match_score is not None:
        assert one.match_score == pytest.approx(other.match_score, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("make", [copied, metric_shop])
def test_together_as_alone(make, tmp_path: Path) -> None:
    shop = make(tmp_path)
    images = queries(shop, tmp_path)
    number = shop.gallery.count()
    together = shop.answer_many(images, number)
    assert len(together) == len(images) > 5
    for image, answer in zip(images, together, strict=True):
        assert image.path is not None
        assert_same(answer, shop.answer(image.path, number))


def test_an_image_that_was_sent_is_the_item_of_the_same_file(shop: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "summer/train/fig/0.png"
    (answer,) = shop.answer_many([QueryImage.read(path.read_bytes(), shop.options.images)], 1)
    assert answer.hits[0].uri == str(path)
    assert answer.hits[0].match == 1.0
    (logged,) = shop._searcher.query_log.recent()
    assert (logged.image, logged.content) == (None, answer.hits[0].id)


def test_combined_images_are_one_query_by_the_mean(shop: Catalogue, tmp_path: Path) -> None:
    images = queries(shop, tmp_path)[:3]
    (answer,) = shop.answer_many(images, 15, combine=True)
    encoder = shop.workspace.encoder(shop.lineage.get("g1"))
    mean = encoder.embed_pixels([image.pixels for image in images]).mean(0)
    for hit in answer.hits:
        if hit.generation == "g1":
            _, stored = shop.gallery.store.vectors(shop.gallery.store.spaces()[-1].id, [hit.id])
            assert hit.score == pytest.approx(float(stored[0] @ mean / np.linalg.norm(mean)), abs=1e-5)
    assert shop._searcher.query_log.recent() == [], "it is not the query of one image"
    (single,) = shop.answer_many(images[:1], 15, combine=True)
    assert_same(single, shop.answer_many(images[:1], 15)[0])


def test_combined_features_decide_in_closed_form(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    images = queries(shop, tmp_path)[:2]
    (answer,) = shop.answer_many(images, 3, combine=True)
    assert answer.match_basis == "left-out classes"
    (twice,) = shop.answer_many([images[0], images[0]], 3, combine=True)
    assert twice.match_score == pytest.approx(shop.answer_many(images[:1], 3)[0].match_score, rel=1e-4)


def test_another_generation_answers(shop: Catalogue, tmp_path: Path) -> None:
    images = queries(shop, tmp_path)
    by_g0 = shop.answer_many(images, 15, generation="g0")
    assert {answer.generation for answer in by_g0} == {"g0"}
    assert shop._searcher.query_log.recent() == [], "only the serving generation's answers are logged"
    shop.rollback("g0")
    for one, other in zip(by_g0, shop.answer_many(images, 15), strict=True):
        assert_same(one, other)
    with pytest.raises(CatalogueError, match=r"no generation 'g9'; there are: g0, g1, g2"):
        shop.answer_many(images, generation="g9")


def test_requests_with_different_settings_share_a_batch(shop: Catalogue, tmp_path: Path) -> None:
    images = queries(shop, tmp_path)
    requests = [
        QueryRequest((images[0],), 2),
        QueryRequest((images[1], images[2]), 4, labels=("fig",)),
        QueryRequest((images[3],), generation="g9"),
        QueryRequest((images[4],), 15, generation="g0"),
        QueryRequest((images[5],), where={"colour": "red"}),
        QueryRequest((images[1], images[2]), 15, combine=True),
        QueryRequest((images[3],), 3, log=False),
    ]
    results = shop.answer_requests(requests)
    assert isinstance(results[2], CatalogueError)
    answers = [[] if isinstance(result, Exception) else result for result in results]
    assert [len(answer) for answer in answers] == [1, 2, 0, 1, 1, 1, 1]
    assert [len(answer.hits) for answer in answers[1]] == [4, 4]
    assert {hit.label for answer in answers[1] for hit in answer.hits} == {"fig"}
    assert answers[4][0].hits == ()
    for request, answer in zip(requests, answers, strict=True):
        if answer:
            alone = shop.answer_requests([request])[0]
            assert not isinstance(alone, Exception)
            for one, other in zip(answer, alone, strict=True):
                assert_same(one, other)
    assert {each.content for each in shop._searcher.query_log.recent()} == {images[0].content}


def test_an_error_of_the_search_is_returned(shop: Catalogue, tmp_path: Path) -> None:
    shop.gallery.delete([item.id for item in shop.gallery.store.items()])
    (result,) = shop.answer_requests([QueryRequest((queries(shop, tmp_path)[0],))])
    assert isinstance(result, CatalogueError)
    assert "the gallery is empty" in str(result)


def test_a_request_needs_an_image_and_a_hit(shop: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        shop.answer_many([])
    with pytest.raises(ConfigError, match=r"k = 0"):
        shop.answer_many(queries(shop, tmp_path), 0)
