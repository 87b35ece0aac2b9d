"""Searching over HTTP gives what the catalogue itself answers."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from running import application

from scrubjay.catalogue import Catalogue
from scrubjay.errors import StorageError
from shops import METRIC, metric_shop


@pytest.fixture
def apple(shop: Catalogue) -> Path:
    return shop.folder.parent / "spring/test/apple/100.png"


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_answer_is_that_of_the_catalogue(client: TestClient, shop: Catalogue, apple: Path) -> None:
    found = client.post("/v1/search", json={"images": [{"base64": encoded(apple)}], "k": 7})
    assert found.status_code == 200
    (answer,) = found.json()["answers"]
    expected = shop.answer(apple, 7)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected.hits]
    assert [hit["score"] for hit in answer["hits"]] == pytest.approx([hit.score for hit in expected.hits], abs=1e-6)
    assert [hit["match"] for hit in answer["hits"]] == pytest.approx([hit.match for hit in expected.hits], abs=1e-6)
    assert (answer["generation"], answer["matched"], answer["unembedded"]) == ("g1", expected.matched, 0)
    assert answer["match_score"] == pytest.approx(expected.match_score, rel=1e-4)


def test_upload_answers_as_base64_does(client: TestClient, apple: Path) -> None:
    one = client.post("/v1/search", json={"images": [{"base64": encoded(apple)}], "k": 3}).json()
    files = [("images", ("a.png", apple.read_bytes(), "image/png"))]
    other = client.post("/v1/search/upload", files=files, data={"settings": '{"k": 3}'})
    assert other.status_code == 200
    assert other.json() == one


def test_item_leads_its_own_answer(client: TestClient, shop: Catalogue) -> None:
    item = next(iter(shop.gallery.store.items()))
    (answer,) = client.post("/v1/search", json={"images": [{"item": item.id}], "k": 2}).json()["answers"]
    assert answer["hits"][0]["id"] == item.id
    assert answer["hits"][0]["match"] == 1
    assert answer["query"] == item.id


def test_several_images_and_several_views_of_one(client: TestClient, shop: Catalogue) -> None:
    images = [{"item": item.id} for item in list(shop.gallery.store.items())[:3]]
    assert len(client.post("/v1/search", json={"images": images}).json()["answers"]) == 3
    (combined,) = client.post("/v1/search", json={"images": images, "combine": True}).json()["answers"]
    assert combined["query"] is None


def test_filters_and_another_generation(client: TestClient, apple: Path) -> None:
    body = {"images": [{"base64": encoded(apple)}], "labels": ["pear"], "generation": "g0"}
    (answer,) = client.post("/v1/search", json=body).json()["answers"]
    assert {hit["label"] for hit in answer["hits"]} == {"pear"}
    assert answer["generation"] == "g0"


def test_crop_is_searched_by_itself(client: TestClient, apple: Path) -> None:
    whole = client.post("/v1/search", json={"images": [{"base64": encoded(apple)}]}).json()["answers"][0]
    part = client.post("/v1/search", json={"images": [{"base64": encoded(apple), "crop": [0, 0, 20, 20]}]})
    assert part.json()["answers"][0]["query"] != whole["query"]
    files = [("images", ("a.png", apple.read_bytes(), "image/png"))]
    sent = client.post("/v1/search/upload", files=files, data={"crop": "[0, 0, 20, 20]"})
    assert sent.json() == part.json()


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ({"images": []}, 422, "body.images"),
        ({"images": [{}]}, 422, "either base64 or item"),
        ({"images": [{"base64": "!"}]}, 422, "not base64"),
        ({"images": [{"base64": "aGVsbG8="}]}, 422, "not an image"),
        ({"images": [{"item": "none"}]}, 404, "no item 'none'"),
        ({"images": [{"item": "none"}], "k": 0}, 422, "body.k"),
        ({"images": [{"item": "none"}], "surprise": 1}, 422, "body.surprise"),
        ({"images": [{"base64": "aGVsbG8=", "crop": [5, 5, 5, 9]}]}, 422, "left < right"),
    ],
)
def test_what_is_not_as_required_is_told(client: TestClient, body: object, status: int, part: str) -> None:
    found = client.post("/v1/search", json=body)
    assert found.status_code == status
    assert found.headers["content-type"] == "application/problem+json"
    problem = found.json()
    assert part in problem["detail"]
    assert problem["status"] == status
    assert problem["request_id"] == found.headers["x-request-id"]


def test_unknown_generation(client: TestClient, apple: Path) -> None:
    found = client.post("/v1/search", json={"images": [{"base64": encoded(apple)}], "generation": "g9"})
    assert (found.status_code, found.json()["type"]) == (404, "/problems/not-found")


def test_item_whose_file_is_gone(shop: Catalogue, tmp_path: Path) -> None:
    moved = metric_shop(tmp_path)
    item = next(iter(moved.gallery.store.items()))
    Path(item.uri).write_bytes(b"something else")
    with application(moved.folder) as client:
        for found in (
            client.post("/v1/search", json={"images": [{"item": item.id}]}),
            client.get(f"/v1/items/{item.id}/image"),
        ):
            assert (found.status_code, found.json()["type"]) == (410, "/problems/gone")


def test_comparison_tells_what_moved(client: TestClient, apple: Path) -> None:
    body = {"image": {"base64": encoded(apple)}, "before": "g0", "after": "g1", "k": 5}
    found = client.post("/v1/compare", json=body).json()
    assert (found["before"]["generation"], found["after"]["generation"]) == ("g0", "g1")
    ranks = [{hit["id"]: rank for rank, hit in enumerate(found[side]["hits"], 1)} for side in ("before", "after")]
    for move in found["moves"]:
        assert (move["before"], move["after"]) == (ranks[0].get(move["id"]), ranks[1].get(move["id"]))
    moved = {move["id"] for move in found["moves"]}
    assert all(ranks[0][name] == ranks[1].get(name) for name in ranks[0] if name not in moved)


def test_explanation_sums_to_the_score(client: TestClient, shop: Catalogue, apple: Path) -> None:
    hit = shop.answer(apple, 1).hits[0]
    found = client.post("/v1/explain", json={"image": {"base64": encoded(apple)}, "item": hit.id})
    assert found.status_code == 200
    explained = found.json()
    assert explained["score"] == pytest.approx(hit.score, abs=1e-3)  # stored vectors are of rounded features
    for side in ("query", "item"):
        part = explained[side]
        total = sum(map(sum, part["values"])) + part["remainder"]
        assert total == pytest.approx(explained["score"], abs=1e-4)
        assert part["crop"].startswith("data:image/jpeg;base64,")


def test_item_image_is_encoded_again_and_kept_by_the_caller(client: TestClient, shop: Catalogue) -> None:
    item = next(iter(shop.gallery.store.items()))
    found = client.get(f"/v1/items/{item.id}/image", params={"side": 20})
    assert found.headers["content-type"] == "image/jpeg"
    assert found.content.startswith(b"\xff\xd8")
    again = client.get(
        f"/v1/items/{item.id}/image", params={"side": 20}, headers={"If-None-Match": found.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/v1/items/{item.id}/image", params={"side": 1}).status_code == 422


def test_settings_of_an_upload_that_are_not_json(client: TestClient, apple: Path) -> None:
    files = [("images", ("a.png", apple.read_bytes(), "image/png"))]
    found = client.post("/v1/search/upload", files=files, data={"settings": json.dumps({"k": "many"})})
    assert (found.status_code, found.json()["errors"][0]["field"]) == (422, "body.settings.k")


def test_start_that_fails_leaves_no_thread_or_process(tmp_path: Path) -> None:
    shop = Catalogue.init(tmp_path / "shop", METRIC)
    shop.serving.path.write_text("{")
    before = threading.active_count()
    with pytest.raises(StorageError, match=r"serving\.json"), application(shop.folder):
        pass
    assert threading.active_count() == before


def test_readiness_of_a_catalogue_that_learned_nothing(tmp_path: Path) -> None:
    shop = Catalogue.init(tmp_path / "shop", METRIC)
    with application(shop.folder) as client:
        assert client.get("/healthz").status_code == 200
        found = client.get("/readyz")
        assert (found.status_code, found.json()["ready"]) == (503, False)
        assert client.get("/v1/status").json()["serving"] is None
