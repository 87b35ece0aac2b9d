"""A shadow generation answers images that were sent, whichever process answered them first."""

from __future__ import annotations

import base64
from pathlib import Path

from fastapi.testclient import TestClient
from running import application

from scrubjay.catalogue import Catalogue
from scrubjay.maintenance.sent_files import SHADOW, sent_files
from scrubjay.search.query_image import QueryImage
from scrubjay.search.request import QueryRequest
from scrubjay.service.shadowing import ShadowImages
from shops import metric_shop
from waiting import until


def search(client: TestClient, path: Path, **settings: object) -> None:
    body = {"images": [{"base64": base64.b64encode(path.read_bytes()).decode()}], **settings}
    assert client.post("/v1/search", json=body).status_code == 200


def test_forgotten_images_are_found_among_those_that_wait(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    shop.upkeep.shadow("g0", 1.0)
    images = [
        QueryImage.read(path.read_bytes(), shop.options.images) for path in (tmp_path / "spring/test/apple").iterdir()
    ]
    (request,) = ShadowImages(shop.folder).kept([QueryRequest(tuple(images))])
    assert sent_files(shop.folder, (), {images[1].content}) == {SHADOW: [request.images[1].path]}
    assert sent_files(shop.folder, (), set()) == {}


def test_sent_images_are_answered_by_the_shadow_generation_too(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    apples = sorted((tmp_path / "spring/test/apple").iterdir())
    with application(shop.folder) as client:
        search(client, apples[0])
        shop.upkeep.shadow("g0", 1.0)
        for apple in apples:
            search(client, apple)
        search(client, apples[0], labels=["pear"])
        log = Catalogue(shop.folder).upkeep.searcher.query_log
        until(lambda: len(log.answered("g0")) == len(apples))
        assert all(query.shadow_hits for query in log.answered("g0"))
        until(lambda: not list((shop.folder / "shadow").iterdir()))
