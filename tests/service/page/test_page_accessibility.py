"""axe finds nothing on any view: light on a wide screen, and dark on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, ViewportSize

    from conftest import OpenPage

RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}
WIDE: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 360, "height": 740}


def searched(page: Page, query: Path) -> None:
    page.set_input_files("input[type=file]:not([capture])", query)
    page.wait_for_selector(".hit .frame.loaded")


def details(page: Page, query: Path) -> None:
    searched(page, query)
    page.locator(".hit").first.click()
    page.get_by_role("button", name="Why was it found?").click()
    page.wait_for_selector(".explanation canvas")


def cropped(page: Page, query: Path) -> None:
    searched(page, query)
    page.get_by_role("button", name="Crop", exact=True).click()
    page.wait_for_selector(".crop-area:visible")


def teaching(page: Page, query: Path) -> None:
    searched(page, query)
    page.get_by_role("button", name="Add as a new class").click()
    page.wait_for_selector("dialog")


def compared(page: Page, query: Path) -> None:
    page.set_input_files("input[type=file]:not([capture])", query)
    page.wait_for_selector(".columns .hit")


def shortcuts(page: Page, query: Path) -> None:
    page.wait_for_selector(".drop")
    page.keyboard.press("?")


def opened(page: Page, query: Path) -> None:
    """Nothing more than to open the view."""


STATES: dict[str, tuple[str, Callable[[Page, Path], None]]] = {
    "search": ("/search", opened),
    "hits": ("/search", searched),
    "crop": ("/search", cropped),
    "details": ("/search", details),
    "teach": ("/search", teaching),
    "shortcuts": ("/search", shortcuts),
    "compare": ("/compare", compared),
    "memory": ("/memory", opened),
    "gate": ("/memory/g0", opened),
    "grow": ("/grow", opened),
    "error": ("/grow/job/nothing", opened),
    "browse": ("/browse", opened),
    "confusions": ("/browse/confusions", opened),
    "class": ("/browse/class/apple", opened),
}


LOOKS = (("light", WIDE), ("dark", PHONE))
OTHER_LOOKS = (("dark", WIDE), ("light", PHONE))


LATER = {"crop", "teach", "shortcuts", "error", "confusions", "class"}
"""States that only the slow tests look at."""


@pytest.mark.parametrize(
    "state", [pytest.param(state, marks=[pytest.mark.slow] if state in LATER else []) for state in STATES]
)
@pytest.mark.parametrize(
    "looks", [pytest.param(LOOKS, id="looks"), pytest.param(OTHER_LOOKS, id="others", marks=pytest.mark.slow)]
)
def test_axe_finds_nothing(
    open_page: OpenPage, query: Path, state: str, looks: tuple[tuple[Literal["light", "dark"], ViewportSize], ...]
) -> None:
    view, act = STATES[state]
    page = open_page(view, color_scheme="light", reduced_motion="reduce")
    expect(page.locator(".view h1")).to_be_visible()
    act(page, query)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    for theme, size in looks:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        page.set_viewport_size(size)
        found = Axe().run(page, options=RULES).response["violations"]
        assert not found, [(theme, each["id"], [node["html"] for node in each["nodes"][:3]]) for each in found]
