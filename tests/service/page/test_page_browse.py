"""Browsing classes, items and confusable pairs, and changing classes, in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from conftest import Locked, OpenPage


def classes(locked: Locked) -> dict[str, int]:
    """Number of items by class."""
    with locked.running.client(locked.keys["read"]) as client:
        return {each["name"]: each["items"] for each in client.get("/v1/classes").json()["classes"]}


def test_classes_are_listed_with_counts_and_images_filtered_and_sorted(open_page: OpenPage, locked: Locked) -> None:
    page = open_page("/browse", url=locked.running.url, key=locked.keys["admin"])
    cards = page.locator(".class-card")
    expect(cards).to_have_count(5)
    expect(cards.first).to_contain_text(re.compile(r"apple.*8 items.*learned in g0", re.DOTALL))
    expect(cards.first.locator(".frame.loaded")).to_have_count(4)
    page.get_by_label("Order").select_option("items")
    page.get_by_label("Filter by name").fill("P")
    expect(cards).to_have_count(3)
    expect(page.get_by_text("3 classes")).to_be_visible()
    assert "filter=P" in page.url
    page.reload()
    expect(cards).to_have_count(3)
    page.get_by_role("link", name=re.compile("pear")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("pear")
    page.go_back()
    expect(cards).to_have_count(3)


def test_items_of_a_class_are_opened_and_searched_from(open_page: OpenPage, locked: Locked) -> None:
    page = open_page("/browse/class/pear", url=locked.running.url, key=locked.keys["admin"])
    items = page.locator(".item-button")
    expect(items).to_have_count(5)
    items.first.click()
    page.get_by_role("dialog").get_by_role("button", name="Search from this").click()
    expect(page.locator(".hit strong").first).to_have_text("pear")


def test_confusable_pairs_are_shown_with_the_images_that_cause_them(open_page: OpenPage, locked: Locked) -> None:
    page = open_page("/browse/confusions", url=locked.running.url, key=locked.keys["admin"])
    pairs = page.locator(".pair")
    expect(pairs.or_(page.get_by_text("No classes are confused")).first).to_be_visible()
    if pairs.count():
        expect(pairs.first.locator(".frame.loaded")).to_have_count(2)
        pairs.first.get_by_role("button").first.click()
        expect(page.get_by_role("dialog")).to_be_visible()


def test_a_class_is_renamed_and_a_taken_name_is_refused(open_page: OpenPage, locked: Locked) -> None:
    page = open_page("/browse/class/fig", url=locked.running.url, key=locked.keys["admin"])
    page.get_by_role("button", name="Rename").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("New name").fill("kiwi")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("kiwi")
    dialog.get_by_label("New name").fill("fresh fig / 鲜")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("fresh fig / 鲜")
    expect(page.locator(".item-button")).to_have_count(5)
    assert "fig" not in classes(locked)


def test_an_item_is_given_another_class_and_removed(open_page: OpenPage, locked: Locked) -> None:
    before = classes(locked)
    page = open_page("/browse/class/apple", url=locked.running.url, key=locked.keys["admin"])
    page.locator(".item-button").first.click()
    page.get_by_text("Change or remove").click()
    page.get_by_role("button", name="Change the class").click()
    page.get_by_role("dialog").last.get_by_label("Class").fill("pear")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".item-button")).to_have_count(before["apple"] - 1)
    page.locator(".item-button").first.click()
    page.get_by_text("Change or remove").click()
    page.get_by_role("button", name="Remove from the catalogue").click()
    page.get_by_role("dialog").last.get_by_role("button", name="Remove from the catalogue").click()
    expect(page.locator(".item-button")).to_have_count(before["apple"] - 2)
    after = classes(locked)
    assert (after["apple"], after["pear"]) == (before["apple"] - 2, before["pear"] + 1)


def test_a_class_is_merged_into_another(open_page: OpenPage, locked: Locked) -> None:
    before = classes(locked)
    page = open_page("/browse/class/plum", url=locked.running.url, key=locked.keys["admin"])
    page.get_by_role("button", name="Merge").click()
    page.get_by_label("Class that takes them").select_option("pear")
    page.get_by_role("dialog").get_by_role("button", name="Merge").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("pear")
    assert classes(locked)["pear"] == before["pear"] + before["plum"]


@pytest.mark.slow
def test_a_class_is_forgotten_after_its_name_was_typed(open_page: OpenPage, locked: Locked) -> None:
    page = open_page("/browse/class/kiwi", url=locked.running.url, key=locked.keys["admin"])
    page.get_by_role("button", name="Forget").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Type kiwi to confirm").fill("kiw")
    dialog.get_by_role("button", name="Forget").click()
    expect(dialog).to_be_visible()
    dialog.get_by_label("Type kiwi to confirm").fill("kiwi")
    dialog.get_by_role("button", name="Forget").click()
    expect(page.locator(".callout.good")).to_contain_text("Forgotten", timeout=120_000)
    assert "kiwi" not in classes(locked)
