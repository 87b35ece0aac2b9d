from __future__ import annotations

import io
import threading
from pathlib import Path

from fastapi.testclient import TestClient
from PIL import Image
from running import application

from scrubjay.catalogue import Catalogue
from scrubjay.service.gates import all_probes
from shops import copied


def revision(client: TestClient) -> int:
    number: int = client.get("/v1/generations").json()["revision"]
    return number


def test_the_line_of_generations_is_listed(tmp_path: Path) -> None:
    shop = copied(tmp_path)
    with application(shop.folder) as client:
        answer = client.get("/v1/generations").json()
    assert (answer["serving"], answer["revision"]) == ("g0", 1)
    assert [change["generation"] for change in answer["history"]] == ["g0"]
    first, second, third = answer["generations"]
    assert (first["parent"], second["parent"], third["parent"]) == (None, "g0", "g0")
    assert (first["coverage"], second["coverage"]) == (1.0, 0.0)
    assert (first["serving"], second["new_classes"], second["images"]) == (True, ["fig"], 5)
    assert 0 <= second["measured"]["new"]["recall"]["1"] <= 1
    assert second["retained"] is None


def test_a_gate_is_measured_once_and_again_when_something_has_changed(tmp_path: Path) -> None:
    shop = copied(tmp_path)
    with application(shop.folder) as client:
        gate = client.get("/v1/generations/g1/gate").json()
        assert (gate["generation"], gate["serving"], gate["passed"]) == ("g1", "g0", True)
        assert {check["name"] for check in gate["checks"]} == {"old_retention", "negative_flips", "new_gain"}
        kept = shop.folder / "gates" / "g1.json"
        written = kept.stat().st_mtime_ns
        assert client.get("/v1/generations/g1/gate").json() == gate
        assert kept.stat().st_mtime_ns == written
        retained = client.get("/v1/generations").json()["generations"][1]["retained"]
        assert retained == next(check["measured"] for check in gate["checks"] if check["name"] == "old_retention")
        shop.remove([next(shop.gallery.store.items()).id])
        client.get("/v1/generations/g1/gate")
        assert kept.stat().st_mtime_ns > written
        serving = client.get("/v1/generations/g0/gate")
        assert (serving.status_code, serving.json()["type"]) == (409, "/problems/conflict")
        missing = client.get("/v1/generations/g7/gate")
        assert (missing.status_code, missing.json()["type"]) == (404, "/problems/not-found")


def test_flips_are_shown_with_their_images(tmp_path: Path) -> None:
    shop = copied(tmp_path)
    with application(shop.folder) as client:
        gate = client.get("/v1/generations/g1/gate").json()
        report = shop.gate("g1")
        probes = all_probes(shop)
        assert [(probes[flip["index"]].label, flip["label"]) for flip in gate["flips"]] == [
            (flip.label, flip.label) for flip in report.flips
        ]
        image = client.get(f"/v1/generations/g1/gate/{len(probes) - 1}/image")
        assert Image.open(io.BytesIO(image.content)).format == "JPEG"
        assert client.get(f"/v1/generations/g1/gate/{len(probes)}/image").status_code == 404
        assert client.get("/v1/generations/g1/gate/-1/image").status_code == 422


def test_promotion_and_rollback_state_what_they_were_decided_on(tmp_path: Path) -> None:
    shop = copied(tmp_path)
    with application(shop.folder) as client:
        seen = revision(client)
        stale = client.post("/v1/generations/g1/promote", json={"revision": seen - 1})
        assert (stale.status_code, stale.json()["type"]) == (409, "/problems/serving-changed")
        assert "g0 answers now (revision 1)" in stale.json()["detail"]
        promoted = client.post("/v1/generations/g1/promote", json={"revision": seen})
        assert promoted.json() == {"serving": "g1", "revision": seen + 1}
        assert client.post("/v1/rollback", json={"revision": seen}).status_code == 409
        back = client.post("/v1/rollback", json={"revision": seen + 1})
        assert back.json() == {"serving": "g0", "revision": seen + 2}
        assert client.post("/v1/rollback", json={"revision": seen + 2, "generation": "g9"}).status_code == 404
        assert client.post("/v1/rollback", json={"revision": seen + 2}).status_code == 409, "nothing before it"


def test_a_gate_that_fails_is_told_and_can_be_overruled(tmp_path: Path) -> None:
    shop = copied(tmp_path)
    text = (shop.folder / "catalogue.json").read_text()
    (shop.folder / "catalogue.json").write_text(text.replace('"old_retention": 0.0', '"old_retention": 5.0'))
    with application(shop.folder) as client:
        refused = client.post("/v1/generations/g1/promote", json={"revision": 1})
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/gate-failed")
        assert "old_retention" in refused.json()["detail"]
        forced = client.post("/v1/generations/g1/promote", json={"revision": 1, "force": True})
        assert forced.json()["serving"] == "g1"
        assert client.get("/v1/generations").json()["history"][-1]["forced"]


def test_of_two_that_promote_at_once_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    shop = copied(tmp_path)
    with application(shop.folder) as first, application(shop.folder) as second:
        answers: dict[str, tuple[int, str]] = {}

        def promote(client: TestClient, name: str) -> None:
            answer = client.post(f"/v1/generations/{name}/promote", json={"revision": 1})
            answers[name] = answer.status_code, answer.json().get("type", "")

        threads = [threading.Thread(target=promote, args=each) for each in ((first, "g1"), (second, "g2"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers.values()) == [(200, ""), (409, "/problems/serving-changed")]
        winner = next(name for name, (status, _) in answers.items() if status == 200)
        assert {client.get("/v1/status").json()["serving"] for client in (first, second)} == {winner}
    assert Catalogue(shop.folder).serving.read().generation == winner
