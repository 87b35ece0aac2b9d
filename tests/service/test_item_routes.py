from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from running import application

from scrubjay.catalogue import Catalogue
from shops import metric_shop
from tiny import paint


@pytest.fixture
def changed(tmp_path: Path) -> Catalogue:
    """A catalogue that a test may change."""
    return metric_shop(tmp_path)


def upload(*paths: Path) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("images", (path.name, path.read_bytes(), "image/png")) for path in paths]


def test_all_items_are_on_the_pages(client: TestClient, shop: Catalogue) -> None:
    found, cursor, query = [], None, {"limit": 9}
    while True:
        page = client.get("/v1/items", params=query | ({"cursor": cursor} if cursor else {})).json()
        found += page["items"]
        cursor = page["cursor"]
        if cursor is None:
            break
    expected = [
        {"id": item.id, "label": item.label, "metadata": dict(item.metadata)} for item in shop.gallery.store.items()
    ]
    assert found == expected
    assert client.get(f"/v1/items/{found[0]['id']}").json() == found[0]
    pears = client.get("/v1/items", params={"label": "pear"}).json()["items"]
    assert [item["label"] for item in pears] == ["pear"] * 5
    assert client.get("/v1/items", params={"where": '{"colour": "red"}'}).json() == {"items": [], "cursor": None}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "query.limit"),
        ({"where": "{"}, "query.where"),
        ({"where": '{"a": [1]}'}, "query.where"),
        ({"cursor": "a\0b"}, "cursor"),
    ],
)
def test_a_wrong_page_is_refused(client: TestClient, query: dict[str, object], field: str) -> None:
    answer = client.get("/v1/items", params=query)
    assert answer.status_code == 422
    assert field in answer.json()["detail"]


def test_items_are_added_changed_and_removed(changed: Catalogue, tmp_path: Path) -> None:
    new, broken = paint(tmp_path / "new.png", 5, 1), tmp_path / "broken.png"
    broken.write_bytes(new.read_bytes()[:80])
    known = tmp_path / "spring/train/pear/0.png"
    with application(changed.folder) as client:
        form = {"label": "quince", "metadata": json.dumps({"shelf": 4})}
        answer = client.post("/v1/items", files=upload(new, known, broken), data=form)
        assert answer.status_code == 201
        added = answer.json()
        assert added["known"] == 1
        assert [each["name"] for each in added["refused"]] == ["broken.png"]
        item = added["added"][0]
        assert (item["label"], item["metadata"]) == ("quince", {"shelf": 4})
        files = {"images": ("new.png", new.read_bytes(), "image/png")}
        hit = client.post("/v1/search/upload", files=files).json()["answers"][0]["hits"][0]
        assert (hit["id"], hit["label"], hit["match"]) == (item["id"], "quince", 1.0)
        assert client.get(f"/v1/items/{item['id']}/image").status_code == 200
        changes = client.patch(f"/v1/items/{item['id']}", json={"metadata": {"shelf": 5}})
        assert changes.json() == {**item, "metadata": {"shelf": 5}}
        assert client.patch(f"/v1/items/{item['id']}", json={"label": " "}).status_code == 422
        assert client.patch(f"/v1/items/{item['id']}", json={"metadata": {"box": "0,0,1,1"}}).status_code == 422
        assert client.delete(f"/v1/items/{item['id']}").json() == {"removed": 1}
        for ask in (client.get, client.delete):
            gone = ask(f"/v1/items/{item['id']}")
            assert gone.status_code == 404
            assert gone.json()["type"] == "/problems/not-found"
        ids = [each.id for each in changed.gallery.store.page(3)]
        assert client.post("/v1/items/delete", json={"ids": [*ids, "nobody"]}).json() == {"removed": 3}
    assert not list((changed.folder / "images").rglob("*.png"))


def test_classes_are_listed_with_what_is_confused(client: TestClient, shop: Catalogue) -> None:
    classes = client.get("/v1/classes").json()["classes"]
    assert [each["name"] for each in classes] == ["apple", "fig", "kiwi", "pear", "plum"]
    assert classes[0]["items"] == 8
    assert classes[0]["learned_in"] == "g0"
    assert len(classes[0]["representative"]) == 4
    confusions = client.get("/v1/classes/confusions", params={"limit": 1}).json()
    assert confusions["items"] == 28
    assert len(confusions["confusions"]) <= 1
    assert client.get("/v1/classes/confusions", params={"limit": 0}).status_code == 422


def test_classes_are_renamed_and_merged(changed: Catalogue) -> None:
    with application(changed.folder) as client:
        answer = client.patch("/v1/classes/pear", json={"name": "pear/conference"})
        assert answer.json() == {"name": "pear/conference", "items": 5}
        answer = client.patch("/v1/classes/pear/conference", json={"name": "apple"})
        assert answer.status_code == 409
        assert "merge" in answer.json()["detail"]
        assert client.patch("/v1/classes/nobody", json={"name": "x"}).status_code == 404
        assert client.patch("/v1/classes/apple", json={"name": " x"}).status_code == 422
        answer = client.post("/v1/classes/pear/conference/merge", json={"into": "plum"})
        assert answer.json() == {"name": "plum", "items": 10}
        assert client.post("/v1/classes/plum/merge", json={"into": "nobody"}).status_code == 404
        names = [each["name"] for each in client.get("/v1/classes").json()["classes"]]
        assert names == ["apple", "fig", "kiwi", "plum"]
