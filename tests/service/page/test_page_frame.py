"""What holds for all views: languages, themes, keys, errors, lost connections, phones, history, keyboard."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from running import served

from shops import metric_shop

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from conftest import Locked, OpenPage

VIEWS = (
    "/search",
    "/compare",
    "/memory",
    "/memory/g0",
    "/grow",
    "/browse",
    "/browse/confusions",
    "/browse/class/apple",
)
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_fits_a_phone_and_is_written_in_chinese(open_page: OpenPage, view: str) -> None:
    page = open_page(view, **{**PHONE, "locale": "zh-CN"})
    expect(page.locator(".view h1")).to_be_visible()
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    text = page.locator("nav").first.inner_text() + page.locator("main").inner_text()
    leftover = re.findall(r"\b(?:the|and|of|images?|class(?:es)?|items?|search)\b", text)
    assert not leftover, text


def test_the_language_can_be_changed_and_is_kept(page: Page) -> None:
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("以图搜索")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("以图搜索")
    page.get_by_role("button", name="EN").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Search by image")


def test_the_theme_follows_the_system_or_the_choice(open_page: OpenPage) -> None:
    page = open_page(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    button = page.get_by_role("button", name=re.compile("^Theme"))
    button.click()
    light = page.evaluate(background)
    assert light != dark
    page.reload()
    assert page.evaluate(background) == light
    button.click()
    assert page.evaluate(background) == dark


def test_the_back_button_and_links_lead_to_views(page: Page) -> None:
    for name in ("Memory", "Grow", "Browse"):
        page.get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
        expect(page.get_by_role("heading", level=1)).to_be_focused()
        assert page.locator("#nav [aria-current=page]").inner_text() == name
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Grow")
    page.go_forward()
    expect(page.get_by_role("heading", level=1)).to_have_text("Browse")


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    page.wait_for_selector(".drop")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Choose images")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("3")
    expect(page.get_by_role("heading", level=1)).to_have_text("Memory")


def test_shortcuts_can_be_switched_off(page: Page) -> None:
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_label("Use the shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("3")
    expect(page.get_by_role("heading", level=1)).to_have_text("Search by image")


def test_what_does_not_exist_is_told(open_page: OpenPage) -> None:
    page = open_page("/grow/job/nothing")
    expect(page.locator(".state.bad")).to_contain_text("This does not exist")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_a_file_that_is_no_image_is_told_in_the_words_of_the_service(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG nonsense")
    page.set_input_files("input[type=file]:not([capture])", broken)
    expect(page.locator(".state.bad")).to_contain_text("The service cannot use this")
    expect(page.locator(".stage-place")).to_contain_text("cannot show")


def test_a_lost_connection_is_told_and_the_page_recovers(page: Page) -> None:
    page.wait_for_selector(".drop")
    page.context.set_offline(True)
    page.get_by_role("link", name="Memory").click()
    expect(page.locator("#notice")).to_be_visible()
    expect(page.locator(".state.bad")).to_contain_text("cannot be reached")
    page.context.set_offline(False)
    expect(page.locator(".generation").first).to_be_visible()
    expect(page.locator("#notice")).to_be_hidden()


def test_the_first_view_needs_no_second_visit(page: Page) -> None:
    """All that the first view loads is small, and its content was painted."""
    page.wait_for_selector(".drop")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint').length")
    loaded = page.evaluate("performance.getEntriesByType('resource').reduce((sum, each) => sum + each.transferSize, 0)")
    assert paint == 1
    assert loaded < 100_000


def test_a_key_is_asked_for_and_a_wrong_one_is_told(open_page: OpenPage, locked: Locked) -> None:
    running, keys = locked.running, locked.keys
    page = open_page("/memory", url=running.url)
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Key").fill("sj_wrong")
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog.get_by_role("alert")).to_contain_text("does not know this key")
    dialog.get_by_label("Key").fill(keys["read"])
    dialog.get_by_role("button", name="Use this key").click()
    expect(page.locator(".generation").first).to_be_visible()
    page.reload()
    expect(page.locator(".generation").first).to_be_visible()
    assert page.context.cookies() == []


def test_what_a_key_does_not_allow_says_why(open_page: OpenPage, locked: Locked) -> None:
    running, keys = locked.running, locked.keys
    page = open_page("/memory", url=running.url)
    page.get_by_role("dialog").get_by_label("Key").fill(keys["read"])
    page.keyboard.press("Enter")
    roll_back = page.get_by_role("button", name="Roll back to g0")
    expect(roll_back).to_have_attribute("aria-disabled", "true")
    expect(roll_back).to_have_accessible_description("This needs a key of an administrator.")
    page.get_by_role("link", name="Grow").click()
    expect(page.get_by_role("button", name="Choose a folder")).to_have_attribute("aria-disabled", "true")
    page.get_by_role("button", name="API key").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("searching and looking")
    dialog.get_by_label("Key").fill(keys["admin"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Choose a folder")).not_to_have_attribute("aria-disabled", "true")


@pytest.mark.slow
def test_the_page_goes_on_when_the_service_was_restarted(open_page: OpenPage, tmp_path: Path) -> None:
    folder = metric_shop(tmp_path).folder
    with served(folder) as running:
        port = running.url.rpartition(":")[2]
        page = open_page(url=running.url)
        page.wait_for_selector(".drop")
        running.end(signal.SIGTERM)
        page.get_by_role("link", name="Memory").click()
        expect(page.locator(".state.bad")).to_contain_text("cannot be reached")
        with served(folder, "--port", port):
            expect(page.locator(".generation").first).to_be_visible(timeout=30_000)
