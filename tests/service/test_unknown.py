from __future__ import annotations

import io
import os
import time
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from running import application

from scrubjay.data.photos import bytes_hash
from scrubjay.service.unknown import UnknownImages
from shops import metric_shop
from tiny import paint


def name(number: int) -> str:
    return f"{number:032x}"


def test_the_newest_are_kept(tmp_path: Path) -> None:
    images = UnknownImages(tmp_path, 3)
    for number in range(5):
        images.keep(name(number), b"image %d" % number)
        os.utime(images.folder / name(number), (number, number))
    assert images.contents() == [name(4), name(3), name(2)]
    assert images.read(name(4)) == b"image 4"
    assert images.read(name(0)) is None
    assert images.discard(name(4))
    assert not images.discard(name(4))


def test_none_are_kept_where_that_is_off(tmp_path: Path) -> None:
    images = UnknownImages(tmp_path, 0)
    images.keep(name(1), b"image")
    assert not images.folder.exists()


def test_a_crop_is_kept_as_an_image(tmp_path: Path) -> None:
    images = UnknownImages(tmp_path, 3)
    pixels = np.arange(75, dtype=np.uint8).reshape(5, 5, 3)
    images.keep(name(1), pixels)
    stored = images.read(name(1))
    assert stored is not None
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored))), pixels)


def test_a_full_disk_does_not_fail_a_search(tmp_path: Path) -> None:
    (tmp_path / "unknown").write_text("a file where the folder would be")
    UnknownImages(tmp_path, 3).keep(name(1), b"image")


@given(st.text(max_size=40))
def test_a_content_is_no_path(content: str) -> None:
    images = UnknownImages(Path("/"), 3)
    assert images.read(f"../{content}") is None
    assert not images.discard(f"../{content}")


def strange(root: Path, number: int) -> bytes:
    """An image unlike those of any class: one colour with a bright corner."""
    pixels = np.full((40, 40, 3), (250, 5, 200), np.uint8)
    pixels[: 5 + number] = (0, 250, 20)
    path = root / f"strange{number}.png"
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


def test_queries_without_a_match_are_kept_grouped_and_deleted(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    sent = [strange(tmp_path, number) for number in range(3)]
    with application(shop.folder) as client:

        def search(*images: bytes, **form: str) -> list[dict[str, object]]:
            files = [("images", (f"{number}.png", image)) for number, image in enumerate(images)]
            answer = client.post("/v1/search/upload", files=files, data=form)
            assert answer.status_code == 200, answer.text
            found: list[dict[str, object]] = answer.json()["answers"]
            return found

        assert [answer["matched"] for answer in search(*sent)] == [False] * 3
        search(paint(tmp_path / "other.png", 3, 77).read_bytes(), settings='{"labels": ["apple"]}')
        unknown = client.get("/v1/unknown").json()
        kept = {query["query"] for group in unknown["groups"] for query in group["queries"]}
        assert kept == {bytes_hash(image, None) for image in sent}
        image = client.get(f"/v1/unknown/{min(kept)}/image")
        assert image.headers["content-type"] == "image/jpeg"
        assert client.delete(f"/v1/unknown/{min(kept)}").status_code == 204
        for answer in (client.delete(f"/v1/unknown/{min(kept)}"), client.get(f"/v1/unknown/{min(kept)}/image")):
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
        left = client.get("/v1/unknown").json()
        assert {query["query"] for group in left["groups"] for query in group["queries"]} == kept - {min(kept)}


def test_after_a_promotion_the_kept_queries_are_asked_again(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    sent = [strange(tmp_path, number) for number in range(3)]
    with application(shop.folder) as client:
        files = [("images", (f"{number}.png", image)) for number, image in enumerate(sent)]
        client.post("/v1/search/upload", files=files)
        began = time.monotonic()
        taught = client.post("/v1/classes/neon sign/images", data={"queries": [bytes_hash(sent[0], None)]})
        assert taught.status_code == 201, taught.text
        assert taught.json()["serving"], taught.json()["gate"]
        assert time.monotonic() - began >= taught.json()["seconds"]
        unknown = client.get("/v1/unknown").json()
        kept = {query["query"] for group in unknown["groups"] for query in group["queries"]}
        assert bytes_hash(sent[0], None) not in kept, "it was taught"
        hits = client.post("/v1/search/upload", files=files[:1]).json()["answers"][0]["hits"]
    assert (hits[0]["label"], hits[0]["match"]) == ("neon sign", 1.0)
