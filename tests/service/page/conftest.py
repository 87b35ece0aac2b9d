"""A browser, a running service over a trained catalogue, and pages that must not report an error."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running import Running, served

from scrubjay.service.keys import KeyFile
from shops import metric_shop
from tiny import paint

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EXPECTED = ("Failed to load resource",)
"""Beginnings of what the browser itself reports about answers 4xx, which some tests ask for."""

OpenPage = Callable[..., "Page"]


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser; without it all tests of the page are skipped."""
    pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    return CHROMIUM


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Chromium, whose camera shows a test pattern.

    It ends with its module: while it runs, its event loop does too, and tests of other modules need their own.
    """
    from playwright.sync_api import sync_playwright

    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *camera])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the catalogue `shop` and the images that it has learned."""
    root = tmp_path_factory.mktemp("page")
    metric_shop(root)
    return root


@pytest.fixture(scope="session")
def service(chromium: str, photos: Path) -> Iterator[Running]:
    """A service without keys, for all tests of the page; tests leave it usable for others."""
    with served(photos / "shop") as running:
        yield running


@dataclass(frozen=True)
class Locked:
    """A service that asks for keys, and a key by scope; tests of classes change its catalogue."""

    running: Running
    keys: dict[str, str]


@pytest.fixture(scope="session")
def locked(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    """A service with keys, over a catalogue of its own."""
    folder = metric_shop(tmp_path_factory.mktemp("locked")).folder
    keys = {scope: KeyFile(folder).make(scope, scope)[0] for scope in ("read", "write", "admin")}
    with served(folder) as running:
        yield Locked(running, keys)


@pytest.fixture
def open_page(browser: Browser, service: Running) -> Iterator[OpenPage]:
    """Opens a view in a browser of its own; scripts must not fail, nor the content policy refuse anything."""
    errors: list[str] = []
    with ExitStack() as stack:

        def open_view(view: str = "/search", url: str = service.url, key: str = "", **options: Any) -> Page:
            context = browser.new_context(**{"locale": "en-GB", "viewport": {"width": 1280, "height": 900}, **options})
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(30_000)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            if key:
                page.add_init_script(f"sessionStorage.setItem('scrubjay.key', '{key}')")
            page.goto(f"{url}/#{view}")
            return page

        yield open_view
    unexpected = [error for error in errors if not error.startswith(EXPECTED)]
    assert not unexpected


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """The search view in English on a wide screen."""
    return open_page()


@pytest.fixture(scope="session")
def query(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of a class that the catalogue has learned, which is not an item."""
    return paint(tmp_path_factory.mktemp("query") / "apple.png", sum(b"apple") % 13, 777, side=120)
