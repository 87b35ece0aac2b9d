"""Search and comparison in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running import Running

from tiny import paint

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request

    from conftest import OpenPage

FILES = "input[type=file]:not([capture])"


def choose(page: Page, *images: Path) -> None:
    """Choose files as the query and wait for an answer."""
    with page.expect_response("**/v1/search"):
        page.set_input_files(FILES, [str(image) for image in images])
    page.wait_for_selector(".hit")


def asked(request: Request) -> dict[str, Any]:
    """The body of a request."""
    body: dict[str, Any] = json.loads(request.post_data or "{}")
    return body


def test_a_chosen_image_is_answered_with_class_probability_and_generation(page: Page, query: Path) -> None:
    choose(page, query)
    first = page.locator(".hit").first
    assert re.search(r"(likely|certainly|Perhaps|probability) · ", first.inner_text())
    assert "found by g1" in first.inner_text()
    page.wait_for_selector(".hit .frame.loaded")
    assert page.locator(".hit").first.locator("strong").inner_text() in ("apple", "pear", "plum", "fig", "kiwi")


def test_an_image_can_be_pasted_and_dropped(page: Page, query: Path) -> None:
    for event in ("paste", "drop"):
        page.evaluate(
            """async ([event, bytes]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(bytes)], "query.png", { type: "image/png" }));
                const options = { bubbles: true, cancelable: true };
                document.body.dispatchEvent(event === "paste"
                    ? new ClipboardEvent(event, { ...options, clipboardData: transfer })
                    : new DragEvent(event, { ...options, dataTransfer: transfer }));
            }""",
            [event, list(query.read_bytes())],
        )
        page.wait_for_selector(".hit")
        page.get_by_role("button", name="Start over").click()
        page.wait_for_selector("text=Begin with an image")


def test_the_camera_takes_the_query(page: Page) -> None:
    page.get_by_role("button", name="Camera").click()
    take = page.get_by_role("button", name="Take it")
    page.wait_for_selector("dialog .button.primary:not([aria-disabled])")
    with page.expect_response("**/v1/search"):
        take.click()
    page.wait_for_selector(".hit")


def test_a_crop_is_drawn_by_dragging_and_moved_by_keys(page: Page, query: Path) -> None:
    choose(page, query)
    stage = page.locator(".stage.loaded")
    box = stage.bounding_box()
    assert box is not None
    with page.expect_request("**/v1/search") as sent:
        page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.4 * box["height"], steps=4)
        page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.75 * box["height"], steps=4)
        page.mouse.up()
    crop = asked(sent.value)["images"][0]["crop"]
    assert all(abs(got - wanted) <= 2 for got, wanted in zip(crop, (30, 30, 90, 90), strict=True))
    area = page.locator(".crop-area")
    area.focus()
    with page.expect_request("**/v1/search") as sent:
        area.press("ArrowRight")
    moved = asked(sent.value)["images"][0]["crop"]
    assert (moved[0] > crop[0], moved[2] - moved[0], moved[1]) == (True, crop[2] - crop[0], crop[1])
    with page.expect_request("**/v1/search") as sent:
        area.press("Shift+ArrowUp")
    assert asked(sent.value)["images"][0]["crop"][3] < moved[3]
    with page.expect_request("**/v1/search") as sent:
        area.press("Escape")
    assert "crop" not in asked(sent.value)["images"][0]


def test_a_crop_can_be_typed_as_numbers(page: Page, query: Path) -> None:
    choose(page, query)
    page.get_by_role("button", name="Crop", exact=True).click()
    with page.expect_request(
        lambda request: request.url.endswith("/search") and '"crop":[7,' in (request.post_data or "")
    ):
        page.get_by_label("Left").fill("7")
        page.get_by_label("Left").press("Tab")


def test_a_crop_stays_inside_the_image(page: Page, query: Path) -> None:
    choose(page, query)
    page.get_by_role("button", name="Crop", exact=True).click()
    for label, typed in (("Left", "-50"), ("Bottom", "9999")):
        page.get_by_label(label).fill(typed)
        page.get_by_label(label).press("Tab")
    assert [page.get_by_label(label).input_value() for label in ("Left", "Bottom")] == ["0", "120"]


def test_several_images_are_one_query_or_each_by_itself(page: Page, query: Path, tmp_path: Path) -> None:
    other = paint(tmp_path / "pear.png", sum(b"pear") % 13, 778)
    with page.expect_request("**/v1/search") as sent:
        page.set_input_files(FILES, [str(query), str(other)])
    assert (len(asked(sent.value)["images"]), asked(sent.value)["combine"]) == (2, True)
    page.wait_for_selector(".hit")
    page.get_by_role("button", name="Each by itself").click()
    page.wait_for_selector(".answer-head >> nth=1")
    assert page.locator(".hits").count() == 2
    page.get_by_role("button", name="Remove pear.png").click()
    page.wait_for_selector(".answer-head", state="detached")
    assert page.locator(".hits").count() == 1


def test_the_result_is_limited_to_classes_and_the_address_says_so(page: Page, query: Path) -> None:
    choose(page, query)
    page.get_by_label("Only these classes").fill("fig")
    with page.expect_response("**/v1/search"):
        page.get_by_label("Only these classes").press("Enter")
    page.wait_for_selector(".hit strong:text-is('apple')", state="detached")
    assert {each.inner_text() for each in page.locator(".hit strong").all()} == {"fig"}
    assert "label=fig" in page.url
    page.get_by_role("button", name="Remove fig from the filter").click()
    page.wait_for_selector(".hit strong:text-is('apple')")


def test_a_hit_shows_details_why_it_was_found_and_starts_another_search(page: Page, query: Path) -> None:
    choose(page, query)
    item = page.locator(".hit").nth(1).get_attribute("data-item")
    page.locator(".hit").nth(1).click()
    dialog = page.get_by_role("dialog")
    assert item in dialog.inner_text()
    dialog.get_by_role("button", name="Why was it found?").click()
    page.wait_for_selector(".explanation canvas >> nth=1")
    painted = (
        "each => each.getContext('2d').getImageData(0, 0, each.width, each.height).data.some((value) => value > 0)"
    )
    assert all(canvas.evaluate(painted) for canvas in page.locator(".explanation canvas").all())
    with page.expect_request("**/v1/search") as sent:
        dialog.get_by_role("button", name="Search from this").click()
    assert asked(sent.value)["images"] == [{"item": item}]
    assert f"item={item}" in page.url
    page.wait_for_selector(f".hit[data-item='{item}']")
    page.go_back()
    page.wait_for_selector(".hit")


def test_a_link_to_a_search_from_an_item_works(open_page: OpenPage, service: Running) -> None:
    with service.client() as client:
        item = client.post("/v1/search", json={"images": [{"base64": _png()}], "k": 1}).json()["answers"][0]["hits"][0]
    page = open_page(f"/search?item={item['id']}")
    page.wait_for_selector(f".hit[data-item='{item['id']}']")
    assert page.locator(".hit").first.get_attribute("data-item") == item["id"]


DECISIONS = {
    "matched": "Probably in the catalogue",
    "unsure": "Perhaps in the catalogue",
    "unmatched": "Probably not in the catalogue",
    "undecided": "No decision",
}


def decision(answer: dict[str, Any]) -> str:
    """What the page should say about an answer; a likely best hit is not called absent."""
    if answer["matched"] is None:
        return "undecided"
    if answer["matched"]:
        return "matched"
    return "unsure" if (answer["hits"][0]["match"] or 0) >= 0.5 else "unmatched"


def test_the_decision_does_not_contradict_the_probabilities(page: Page, tmp_path: Path) -> None:
    seen = set()
    for hue, side in ((sum(b"apple") % 13, 120), (3, 40), (0, 120), (11, 120)):
        image = paint(tmp_path / f"{hue}-{side}.png", hue, 900, side)
        if page.get_by_role("button", name="Start over").count():
            page.get_by_role("button", name="Start over").click()
        with page.expect_response("**/v1/search") as answered:
            page.set_input_files(FILES, image)
        answer = answered.value.json()["answers"][0]
        seen.add(decision(answer))
        page.wait_for_selector(f".results :text-is('{DECISIONS[decision(answer)]}')")
        assert (page.locator(".callout .button.primary").count() == 1) == (decision(answer) == "unmatched")
        assert (page.get_by_role("button", name="Add as a new class").count() == 1) == (answer["matched"] is False)
    assert seen >= {"unsure", "unmatched"}


def test_the_heat_map_is_the_exact_sum(page: Page) -> None:
    result = page.evaluate(
        """async () => {
            const { localSimilarity, halfOfGain, smoothed } = await import(new URL("page/js/explanation.js", location));
            const map = { values: [[0.1, -0.2], [0.3, 0.05]], contrast: [[0, 0.1], [0, 0]] };
            const local = localSimilarity(map, 0.5).flat();
            const flat = smoothed(Array.from({ length: 5 }, () => [2, 2, 2, 2])).flat();
            const mean = local.reduce((sum, each) => sum + each, 0) / 4;
            return [mean, halfOfGain([[1, 1], [6, -3]]), Math.min(...flat), Math.max(...flat)];
        }"""
    )
    assert result == pytest.approx([0.5, 0.25, 2, 2])


def test_two_generations_are_compared_and_what_moved_is_marked(page: Page, query: Path) -> None:
    choose(page, query)
    page.get_by_role("link", name="Then and now").click()
    page.wait_for_selector(".columns .hit")
    assert page.locator(".pair-fields select").first.input_value() == "g0"
    ranks = [
        [hit.get_attribute("data-item") for hit in column.locator(".hit").all()]
        for column in page.locator(".columns > section").all()
    ]
    for rank, hit in enumerate(page.locator(".columns > section").nth(1).locator(".hit").all()):
        item, text = hit.get_attribute("data-item"), hit.inner_text()
        if item not in ranks[0]:
            assert "new" in text or "up" in text
        elif ranks[0].index(item) == rank:
            assert "same place" in text
        else:
            assert f"{'up' if ranks[0].index(item) > rank else 'down'} {abs(ranks[0].index(item) - rank)}" in text
    assert "before=g0&after=g1" in page.url
    page.locator(".pair-fields select").first.select_option("g1")
    page.wait_for_selector("text=Choose two different generations")


def _png() -> str:
    import base64
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), (200, 30, 30)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
