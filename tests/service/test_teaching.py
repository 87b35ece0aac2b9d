from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient
from httpx import Response
from running import application

from scrubjay.catalogue import Catalogue
from scrubjay.data.photos import content_hash
from scrubjay.io.locking import locked
from scrubjay.service.options import ServiceOptions
from scrubjay.types import Sample
from shops import METRIC, copied, metric_shop
from tiny import paint


def lemons(root: Path, number: int, first: int = 0) -> list[Path]:
    return [paint(root / "lemon" / f"{seed}.png", 6, 500 + seed) for seed in range(first, first + number)]


def teach(client: TestClient, name: str, images: list[Path]) -> Response:
    return client.post(f"/v1/classes/{name}/images", files=[("images", (p.name, p.read_bytes())) for p in images])


def found(client: TestClient, image: Path) -> tuple[str, str]:
    answer = client.post("/v1/search/upload", files=[("images", (image.name, image.read_bytes()))]).json()["answers"][0]
    return answer["hits"][0]["label"], answer["generation"]


def test_a_class_is_found_as_soon_as_it_was_taught(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    with application(shop.folder) as client:
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"not an image")
        taught = teach(client, "citrus/lemon", [*lemons(tmp_path, 4), broken])
        assert taught.status_code == 201, taught.text
        body = taught.json()
        assert (body["name"], body["generation"], body["images"]) == ("citrus/lemon", "g2", 4)
        assert (body["serving"], body["gate"]) == (True, [])
        assert [refused["name"] for refused in body["refused"]] == ["broken.png"]
        assert found(client, paint(tmp_path / "query.png", 6, 599)) == ("citrus/lemon", "g2")
        again = teach(client, "citrus/lemon", lemons(tmp_path, 1, first=10))
        assert (again.status_code, again.json()["generation"]) == (201, "g3")
        known = teach(client, "citrus/lemon", lemons(tmp_path, 4))
        assert (known.status_code, known.json()["type"]) == (422, "/problems/invalid-request")
        assert client.post("/v1/rollback", json={"revision": 4}).json()["serving"] == "g2"
        generations = client.get("/v1/generations").json()
        assert [each["new_classes"] for each in generations["generations"]][2:] == [["citrus/lemon"], []]
        assert generations["generations"][3]["extended_classes"] == ["citrus/lemon"]
    assert not list((shop.folder / "images").glob(".*")), "no table is left"
    later = Catalogue(shop.folder)
    assert not [finding for finding in later.upkeep.examine() if finding.kind == "error"]
    items = {item.id: item for item in later.gallery.store.items()}
    ids = [content_hash(Sample(path, 0)) for path in lemons(tmp_path, 4)]
    assert all(items[name].label == "citrus/lemon" and Path(items[name].uri).is_file() for name in ids)


def test_one_image_is_enough(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    with application(shop.folder) as client:
        assert teach(client, "lemon", lemons(tmp_path, 1)).json()["serving"]
        assert found(client, lemons(tmp_path, 1)[0]) == ("lemon", "g2")


def test_a_generation_whose_gate_fails_is_left_and_the_reason_said(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    text = (shop.folder / "catalogue.json").read_text()
    (shop.folder / "catalogue.json").write_text(text.replace('"old_retention": 0.0', '"old_retention": 5.0'))
    with application(shop.folder) as client:
        taught = teach(client, "lemon", lemons(tmp_path, 4)).json()
        assert not taught["serving"]
        assert "old_retention" in taught["gate"][0]
        assert client.get("/v1/generations").json()["serving"] == "g1"
        assert found(client, lemons(tmp_path, 1)[0]) == ("lemon", "g1"), "its images are items all the same"
        gate = client.get("/v1/generations/g2/gate").json()
        assert gate["reasons"] == taught["gate"]


def test_a_catalogue_that_trains_a_network_says_what_to_do_instead(tmp_path: Path) -> None:
    shop = copied(tmp_path)
    with application(shop.folder) as client:
        refused = teach(client, "lemon", lemons(tmp_path, 2))
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/conflict")
    assert "POST /v1/jobs" in refused.json()["detail"]


def test_an_empty_catalogue_says_what_to_do_instead(tmp_path: Path) -> None:
    shop = Catalogue.init(tmp_path / "shop", METRIC)
    with application(shop.folder) as client:
        refused = teach(client, "lemon", lemons(tmp_path, 2))
    assert refused.status_code == 409
    assert "two classes" in refused.json()["detail"]


def test_whoever_writes_is_waited_for_and_named(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    options = ServiceOptions(decode_processes=1, request_seconds=1, rate=1e6)
    with locked(shop.folder), application(shop.folder, options) as client:
        refused = teach(client, "lemon", lemons(tmp_path, 2))
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/in-use")
    assert refused.headers["retry-after"]


def test_requests_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    (image,) = lemons(tmp_path, 1)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    with application(shop.folder) as client:
        assert teach(client, "lemon", []).status_code == 422
        assert teach(client, " lemon", [image]).status_code == 422
        assert teach(client, "a%00b", [image]).status_code == 422
        assert teach(client, "lemon", [broken]).json()["type"] == "/problems/image-refused"
        unknown = client.post("/v1/classes/lemon/images", data={"queries": ["../../../etc/passwd"]})
        assert unknown.status_code == 404
        assert len(client.get("/v1/generations").json()["generations"]) == 2


def test_a_class_is_forgotten_by_a_job(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    with application(shop.folder) as client:
        missing = client.delete("/v1/jobs")
        assert missing.status_code == 405
        answer = client.delete("/v1/classes/fig")
        assert (answer.status_code, answer.json()["kind"]) == (202, "forget")
        events = client.get(f"/v1/jobs/{answer.json()['id']}/events").text
        assert events.rstrip().split("\n\n")[-1].startswith("event: end")
        job = client.get(f"/v1/jobs/{answer.json()['id']}").json()
        assert job["state"] == "done", job["problem"]
        assert "fig" not in {hit["label"] for hit in _hits(client, lemons(tmp_path, 1)[0])}


def _hits(client: TestClient, image: Path) -> list[dict[str, str]]:
    sent = [("images", (image.name, image.read_bytes()))]
    answer = client.post("/v1/search/upload", files=sent, data={"settings": '{"k": 100}'})
    hits: list[dict[str, str]] = answer.json()["answers"][0]["hits"]
    return hits
