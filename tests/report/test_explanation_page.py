from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scrubjay.errors import StorageError
from scrubjay.models.explanation import Contributions, ExplainedHit, Explanation
from scrubjay.report.explanation_page import (
    LOWERS,
    RAISES,
    SHOWN,
    half_of_gain,
    local_similarity,
    overlay,
    page,
    write_explanation_page,
)
from scrubjay.types import Hit

HOSTILE = "<script>alert(1)</script> & \"Sour\" 'Milk'"
VOID = {"meta", "img", "br", "input"}


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def contributions(seed: int = 0, bias: float = 0.25) -> Contributions:
    rng = np.random.default_rng(seed)
    positions, contrast = (rng.normal(size=(6, 5)).astype(np.float32) / 30 for _ in range(2))
    image = rng.integers(0, 256, (24, 24, 3), np.uint8)
    return Contributions(positions, contrast, float(contrast.sum(dtype=np.float64)), 0.0, bias, image)


def hit(name: str = "a.png", label: str | None = "jay", reason: str = "", bias: float = 0.25) -> ExplainedHit:
    explanation = None if reason else Explanation(contributions(1, bias), contributions(2, bias), 0.5)
    return ExplainedHit(Hit("1", f"/photos/{name}", label, 0.5, "g1", match=0.93), explanation, reason)


def test_page_is_well_formed_and_needs_nothing_else(tmp_path: Path) -> None:
    text = page(tmp_path / f"{HOSTILE.replace('/', '')}.png", [hit(label=HOSTILE), hit(HOSTILE.replace("/", ""))], "g1")
    shown = Page(text)
    assert shown.open == []
    assert shown.attributes("html") == [{"lang": "en"}]
    assert shown.attributes("script") == []
    assert "http" not in text
    assert "prefers-color-scheme: dark" in text
    images = shown.attributes("img")
    assert len(images) == 8
    assert all(
        (image["src"] or "").startswith(("data:image/jpeg;base64,", "data:image/png;base64,")) for image in images
    )
    assert all(image["alt"] for image in images)
    assert HOSTILE in shown.text
    assert [tag for tag, _ in shown.tags if tag in {"h1", "h2", "h3"}] == ["h1", "h2", "h3", "h3"]
    assert "lowers the similarity" in shown.text


def test_page_says_what_the_sum_consists_of(tmp_path: Path) -> None:
    each = hit()
    shown = Page(page(tmp_path / "query.png", [each], "g7"))
    assert each.explanation is not None
    for text in ("query.png", "generation g7", "similarity 0.500", "93\xa0%", "a.png", "+0.25", "Half of what raises"):
        assert text in shown.text
    for side in (each.explanation.query, each.explanation.hit):
        assert f"{side.positions.sum():+.2f}".replace("-", "−") in shown.text
        assert f"{side.deviations:+.2f}".replace("-", "−") in shown.text
    against = Page(page(tmp_path / "query.png", [hit(bias=-9.0)], "g7"))
    assert "Nothing in the query raises the similarity." in against.text


def test_a_hit_without_an_explanation_is_shown_with_the_reason(tmp_path: Path) -> None:
    Image.new("RGB", (50, 40)).save(tmp_path / "query.png")
    shown = Page(page(tmp_path / "query.png", [hit("gone.png", reason="the file is missing")], "g1"))
    assert [image["alt"] for image in shown.attributes("img")] == ["query.png"]
    assert "no image: gone.png" in shown.text
    assert "Not explained: the file is missing." in shown.text
    assert "lowers the similarity" not in shown.text, "there is no colour to explain"


def test_more_hits_than_are_shown_are_counted(tmp_path: Path) -> None:
    shown = Page(page(tmp_path / "query.png", [hit(reason="gone")] * (SHOWN + 2), "g1"))
    assert shown.text.count("Not explained") == SHOWN
    assert "And 2 more hits." in shown.text


@given(st.integers(0, 2**31), st.floats(-3, 3))
def test_the_local_similarities_have_the_score_as_their_mean(seed: int, bias: float) -> None:
    side = contributions(seed, bias)
    local = local_similarity(side)
    score = float(side.positions.sum(dtype=np.float64)) + side.remainder
    assert float(local.mean()) == pytest.approx(score, abs=1e-6)
    differences = local - local[0, 0]
    expected = side.positions.astype(np.float64) + side.contrast
    np.testing.assert_allclose(differences, 30 * (expected - expected[0, 0]), atol=1e-6)


@given(st.integers(0, 2**31), st.integers(1, 30))
def test_half_of_the_gain_lies_in_the_strongest_positions(seed: int, number: int) -> None:
    values = np.random.default_rng(seed).normal(size=number)
    share, total, needed = half_of_gain(values), 0.0, 0
    for value in sorted(values, reverse=True):
        if value <= 0 or total >= values[values > 0].sum() / 2:
            break
        total += value
        needed += 1
    assert share == pytest.approx(needed / number)


def test_colours_tell_the_sign_and_opacity_the_strength() -> None:
    image = np.asarray(overlay(np.array([[1.0, -0.5], [0.0, 7.0]]), 1.0))
    assert tuple(image[0, 0, :3]) == RAISES == tuple(image[1, 1, :3])
    assert tuple(image[0, 1, :3]) == LOWERS
    opacity = image[..., 3].astype(int)
    assert opacity[1, 0] == 0
    assert opacity[0, 0] == opacity[1, 1] == 199
    assert abs(opacity[0, 1] - 199 / 2) < 1
    assert (np.asarray(overlay(np.zeros((2, 2)), 0.0))[..., 3] == 0).all()


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_explanation_page(tmp_path / "file" / "page.html", tmp_path / "query.png", [hit()], "g1")
