from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from running import application

from scrubjay.catalogue import Catalogue
from scrubjay.io.locking import locked
from shops import metric_shop
from tiny import paint


def upload(client: TestClient, root: Path, *names: str, each: int = 4) -> str:
    images = [
        ("images", (f"{name}/{seed}.png", paint(root / name / f"{seed}.png", hue, 500 + seed).read_bytes()))
        for hue, name in enumerate(names, 5)
        for seed in range(each)
    ]
    answer = client.post("/v1/uploads", files=images)
    assert answer.status_code == 201, answer.text
    name: str = answer.json()["upload"]
    return name


def events(text: str) -> list[tuple[str, dict[str, object]]]:
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_an_archive_is_checked_shown_and_deleted(client: TestClient, tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name in ("apple", "lemon"):
            zipped.write(paint(tmp_path / f"{name}.png", 6, 700 + len(name)), f"{name}/1.png")
        zipped.writestr("lemon/readme.txt", "no image")
        zipped.writestr("lemon/broken.png", "no image")
    answer = client.post("/v1/uploads", files={"archive": ("photos.zip", file.getvalue())})
    assert answer.status_code == 201, answer.text
    check = answer.json()
    assert check["classes"] == {"apple": 1, "lemon": 1}
    assert (check["new_classes"], check["known_classes"]) == (["lemon"], ["apple"])
    assert any("readme.txt" in name for finding in check["findings"] for name in finding["images"])
    found = [(finding["kind"], finding["images"]) for finding in check["findings"]]
    assert ("unreadable", ["lemon/broken.png"]) in found
    assert ("duplicate", ["apple/1.png", "lemon/1.png"]) in found, "the test has drawn both alike"
    assert ("tiny_class", ["lemon/1.png", "lemon/broken.png"]) in found
    assert client.get(f"/v1/uploads/{check['upload']}").json() == check
    image = client.get(f"/v1/uploads/{check['upload']}/images/lemon/1.png")
    assert image.headers["content-type"] == "image/jpeg"
    for path in ("lemon/2.png", "../check.json", "..%2fcheck.json", "%2Fetc%2Fpasswd"):
        assert client.get(f"/v1/uploads/{check['upload']}/images/{path}").status_code == 404
    assert client.delete(f"/v1/uploads/{check['upload']}").status_code == 204
    assert client.get(f"/v1/uploads/{check['upload']}").status_code == 404


def test_uploads_that_cannot_be_meant_are_refused(client: TestClient) -> None:
    for files in (
        {"archive": ("photos.zip", b"not a zip")},
        {"images": ("../1.png", b"image")},
        {"images": ("1.png", b"image")},
    ):
        answer = client.post("/v1/uploads", files=files)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")
    assert client.post("/v1/uploads", files={"other": ("a.zip", b"")}).status_code == 422
    assert client.get("/v1/uploads/..%2f..%2fcatalogue.json").status_code == 404


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"kind": "dance"}, 422),
        ({"kind": "learn"}, 422),
        ({"kind": "learn", "upload": "0" * 16}, 404),
        ({"kind": "learn", "upload": "../../etc"}, 404),
        ({"kind": "export", "generation": "g9"}, 404),
        ({"kind": "backfill", "classes": ["fig"]}, 422),
        ({"kind": "forget"}, 422),
        ({"kind": "forget", "items": ["/etc/passwd"]}, 404),
    ],
)
def test_jobs_that_cannot_be_done_are_refused(client: TestClient, request_: dict[str, object], status: int) -> None:
    answer = client.post("/v1/jobs", json=request_)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert client.get("/v1/jobs").json() == {"jobs": []}


def test_a_job_that_does_not_exist_is_not_found(client: TestClient) -> None:
    for path in ("/v1/jobs/0000000000000000", "/v1/jobs/x/events", "/v1/jobs/..%2fcatalogue"):
        assert client.get(path).status_code == 404
    assert client.post("/v1/jobs/0000000000000000/cancel").status_code == 404


def test_an_upload_is_learned_with_progress_and_an_upload_in_use_is_kept(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    with application(shop.folder) as client:
        name = upload(client, tmp_path, "lemon", "lime")
        bad = client.post("/v1/jobs", json={"kind": "learn", "upload": name, "method": "magic"})
        assert (bad.status_code, "magic" in bad.json()["detail"]) == (422, True)
        bad = client.post("/v1/jobs", json={"kind": "learn", "upload": name, "leave_out": ["../x"]})
        assert bad.status_code == 422
        with locked(shop.folder):
            job = client.post("/v1/jobs", json={"kind": "learn", "upload": name}).json()
            assert client.post("/v1/jobs", json={"kind": "learn", "upload": name}).status_code == 409
            assert client.delete(f"/v1/uploads/{name}").status_code == 409
        stream = client.get(f"/v1/jobs/{job['id']}/events")
        assert stream.headers["content-type"].startswith("text/event-stream")
        told = events(stream.text)
        assert {kind for kind, _ in told[:-1]} == {"progress"}
        assert told[-1][0] == "end"
        ended = told[-1][1]
        assert ended == client.get(f"/v1/jobs/{job['id']}").json() == client.get("/v1/jobs").json()["jobs"][0]
        assert ended["state"] == "done", ended["problem"]
        assert client.get(f"/v1/uploads/{name}").status_code == 404
        assert client.post(f"/v1/jobs/{job['id']}/cancel").status_code == 409, "it has ended"
        generations = client.get("/v1/generations").json()["generations"]
        assert generations[-1]["new_classes"] == ["lemon", "lime"]
    assert Catalogue(shop.folder).lineage.get("g2").classes[-2:] == ("lemon", "lime")
