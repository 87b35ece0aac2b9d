"""Lets the tests in the folders below import `running`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from running import application

from scrubjay.catalogue import Catalogue
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
