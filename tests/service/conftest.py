"""Lets the tests in the folders below import `running`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from running import Fuzzed, application, served

from scrubjay.catalogue import Catalogue
from scrubjay.service.keys import KeyFile
from shops import metric_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """A catalogue that learns in closed form, for the tests of one module that do not change it."""
    return metric_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def client(shop: Catalogue) -> Iterator[TestClient]:
    """A client of the application over `shop`."""
    with application(shop.folder) as client:
        yield client


@pytest.fixture(scope="session")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    """A service with keys that several tests send everything to; what it holds is not as it was afterwards."""
    root = tmp_path_factory.mktemp("fuzzed")
    shop = metric_shop(root)
    key, _ = KeyFile(shop.folder).make("fuzzer", "admin")
    with served(shop.folder, settings=["log='json'", "thumbnails_mb=1"]) as running:
        yield Fuzzed(running, root, key)
