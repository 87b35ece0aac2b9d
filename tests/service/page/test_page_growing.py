"""Teaching, learning, promotion and rollback in a real browser; each test takes the service as it finds it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect
from running import Running

from tiny import paint

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from conftest import OpenPage

FILES = "input[type=file]:not([capture])"
LEARNING = 120_000
"""Milliseconds in which a job starts a process and learns, on a busy machine."""


def search(page: Page, *images: Path) -> None:
    """Choose files as the query, and wait for the answer."""
    with page.expect_response("**/v1/search"):
        page.set_input_files(FILES, [str(image) for image in images])
    page.wait_for_selector(".hit")


def generations(service: Running) -> dict[str, Any]:
    """The line of generations."""
    with service.client() as client:
        answer: dict[str, Any] = client.get("/v1/generations").json()
    return answer


def promote(service: Running, name: str) -> None:
    """Let a generation answer, without the page."""
    line = generations(service)
    if line["serving"] != name:
        with service.client() as client:
            body = {"revision": line["revision"], "force": True}
            assert client.post(f"/v1/generations/{name}/promote", json=body).status_code == 200


def test_an_unknown_image_is_said_to_be_so_and_taught_as_a_new_class(
    open_page: OpenPage, service: Running, tmp_path: Path
) -> None:
    promote(service, "g1")
    page = open_page()
    images = [paint(tmp_path / f"{seed}.png", 3, seed) for seed in (1, 2, 3)]
    search(page, *images)
    expect(page.locator(".callout h2")).to_have_text(re.compile("(Probably not|Perhaps) in the catalogue"))
    page.get_by_role("button", name="Add as a new class").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".thumbs img")).to_have_count(3)
    dialog.get_by_label("Name of the class").fill("cherry")
    dialog.get_by_role("button", name="Teach", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("cherry", timeout=LEARNING)
    promote(service, generations(service)["generations"][-1]["name"])
    page.reload()
    search(page, images[0])
    expect(page.locator(".hit strong").first).to_have_text("cherry")


@pytest.mark.slow
def test_unknown_queries_are_grouped_named_and_taught(open_page: OpenPage, service: Running, tmp_path: Path) -> None:
    page = open_page()
    for seed in (21, 22, 23, 24):
        search(page, paint(tmp_path / f"{seed}.png", 9, seed, side=64))
        page.get_by_role("button", name="Start over").click()
    page.get_by_role("link", name="Grow").click()
    card = page.locator("article.card").first
    expect(card.locator(".frame.loaded").first).to_be_visible()
    before = len(generations(service)["generations"])
    card.get_by_role("button", name="Name and teach").click()
    page.get_by_label("Name of the class").fill("quince")
    page.get_by_role("button", name="Teach", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("quince", timeout=LEARNING)
    assert len(generations(service)["generations"]) == before + 1


def test_unknown_queries_are_discarded_after_a_confirmation(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    search(page, paint(tmp_path / "odd.png", 1, 5, side=64))
    page.get_by_role("link", name="Grow").click()
    cards = page.locator("article.card")
    expect(cards.first).to_be_visible()
    number = cards.count()
    cards.first.get_by_role("button", name="Discard").click()
    page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    expect(cards).to_have_count(number - 1)


def test_a_folder_is_checked_and_learned_with_progress_and_result(
    open_page: OpenPage, service: Running, tmp_path: Path
) -> None:
    folder = tmp_path / "harvest"
    for name, hue in (("grape", 4), ("melon", 6)):
        for seed in range(5):
            paint(folder / name / f"{seed}.png", hue, 40 + seed)
    shutil.copy(folder / "grape/0.png", folder / "grape/copy.png")
    (folder / "melon/broken.png").write_bytes(b"nonsense")
    page = open_page("/grow")
    page.locator("input[webkitdirectory]").set_input_files(folder)
    expect(page.get_by_role("heading", level=1)).to_have_text("Check before learning")
    expect(page.locator(".class-counts")).to_contain_text(re.compile(r"grape.*melon", re.DOTALL))
    leave_out = page.locator(".finding input[type=checkbox]")
    if leave_out.count():
        leave_out.last.check()
        expect(page.get_by_text("1 image is left out.")).to_be_visible()
    page.get_by_role("button", name="Start learning").click()
    page.get_by_role("dialog").get_by_role("button", name="Start learning").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Learning")
    expect(page.locator(".callout.good")).to_contain_text("learned 2 classes", timeout=LEARNING)
    page.get_by_role("link", name="See what would change, and promote").click()
    expect(page.locator(".checks")).to_be_visible()
    newest = generations(service)["generations"][-1]
    assert set(newest["new_classes"]) == {"grape", "melon"}


def test_an_upload_can_be_discarded(open_page: OpenPage, tmp_path: Path) -> None:
    for seed in range(3):
        paint(tmp_path / "harvest/date" / f"{seed}.png", 8, seed)
    archive = shutil.make_archive(str(tmp_path / "harvest"), "zip", tmp_path / "harvest")
    page = open_page("/grow")
    page.locator("input[accept*=zip]").set_input_files(archive)
    page.get_by_role("button", name="Discard the upload").click()
    page.get_by_role("dialog").get_by_role("button", name="Discard the upload").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Grow")


def test_the_gate_is_shown_and_a_generation_promoted_and_rolled_back(open_page: OpenPage, service: Running) -> None:
    promote(service, "g1")
    page = open_page("/memory")
    page.locator("#generation-g0").get_by_role("link", name="See what would change").click()
    expect(page.locator(".checks li")).to_have_count(3)
    expect(page.locator(".flip .frame.loaded").first).to_be_visible()
    page.get_by_role("button", name="Promote").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("g0 will answer instead of g1")
    dialog.get_by_role("button", name="Cancel").click()
    assert generations(service)["serving"] == "g1"
    page.get_by_role("button", name="Promote").click()
    page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    expect(page.locator(".callout")).to_contain_text("g0 answers already")
    assert generations(service)["serving"] == "g0"
    page.get_by_role("link", name="Memory").first.click()
    page.locator("#generation-g1").get_by_role("button", name="Let it answer again").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.locator(".serving .big")).to_have_text("g1")
    page.get_by_role("button", name="Roll back to g0").click()
    expect(page.get_by_role("dialog")).to_contain_text("g0 will answer instead of g1")
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.locator(".serving .big")).to_have_text("g0")
    assert generations(service)["serving"] == "g0"
    promote(service, "g1")


def test_of_two_browsers_that_promote_at_once_one_wins_and_one_is_told(open_page: OpenPage, service: Running) -> None:
    promote(service, "g1")
    pages = [open_page("/memory/g0") for _ in range(2)]
    for page in pages:
        page.get_by_role("button", name="Promote").click()
        expect(page.get_by_role("dialog")).to_be_visible()
    before = generations(service)["revision"]
    for page in pages:
        page.get_by_role("dialog").get_by_role("button", name="Promote").click(no_wait_after=True)
    told = pages[1].get_by_role("alert")
    won = pages[0].locator(".callout").get_by_text("g0 answers already")
    expect(won.or_(pages[0].get_by_role("alert").get_by_text("changed in the meantime")).first).to_be_visible()
    expect(told).to_contain_text("Something else has changed in the meantime")
    assert generations(service)["revision"] == before + 1
    assert generations(service)["serving"] == "g0"
    pages[1].get_by_role("button", name="Cancel").click()
    expect(pages[1].locator(".callout").get_by_text("g0 answers already")).to_be_visible()
    promote(service, "g1")


@pytest.mark.slow
def test_backfill_is_started_and_followed(open_page: OpenPage, service: Running) -> None:
    promote(service, "g0")
    page = open_page("/memory")
    page.get_by_role("button", name="Re-embed now").click()
    expect(page.locator(".toast")).to_contain_text("The gallery has been re-embedded", timeout=LEARNING)
    expect(page.get_by_text("All items have a vector of g0.")).to_be_visible()
    promote(service, "g1")


def test_the_curves_are_a_drawing_and_a_table(open_page: OpenPage) -> None:
    page = open_page("/memory")
    expect(page.locator("svg.curves")).to_be_visible()
    page.get_by_text("As a table").click()
    expect(page.get_by_role("row").filter(has_text="g0").first).to_be_visible()
    assert page.locator(".lineage .node.serving").count() == 1
