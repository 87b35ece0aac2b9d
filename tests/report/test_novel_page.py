from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scrubjay.errors import StorageError
from scrubjay.report.novel_page import SHOWN, page, write_novel_page
from scrubjay.search.novelty import Novelty
from scrubjay.search.query_log import Query

HOSTILE = "<script>alert(1)</script> & \"Sour\" 'Milk'"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags with their attributes, the text, the text of each code element, and whether every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.code = [], [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "code":
            self.code.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "code" in self.open:
            self.code[-1] += data

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def query(path: Path | None, label: str | None = "jay", match: float | None = 0.12) -> Query:
    image = None if path is None else str(path)
    return Query(image, "00" * 16, "g1", np.ones(2, np.float32), (("a", "u", label, match),), False, 1.0)


def painted(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (300, 200), (80, 40, 200)).save(path)
    return path


def novel(*groups, alarm=True, expected=0.05) -> Novelty:
    return Novelty(200, sum(map(len, groups)), expected, 1.0, alarm, tuple(map(tuple, groups)))


def test_page_is_well_formed_and_needs_nothing_else(tmp_path):
    images = [query(painted(tmp_path / f"{i}.png"), label=HOSTILE) for i in range(4)]
    text = page(novel(images[:3], images[3:]), HOSTILE)
    shown = Page(text)
    assert shown.open == []
    assert shown.attributes("html") == [{"lang": "en"}]
    assert shown.attributes("script") == []
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text
    images = shown.attributes("img")
    assert [image["alt"] for image in images] == ["0.png", "1.png", "2.png", "3.png"]
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert HOSTILE in shown.text
    levels = [tag for tag, _ in shown.tags if tag in {"h1", "h2", "h3"}]
    assert levels == ["h1", "h2", "h2", "h3", "h2"]


def test_page_says_how_many_and_what_to_do(tmp_path):
    asked = [query(tmp_path / f"{i}.png") for i in range(5)]
    shown = Page(page(novel(asked[:3], asked[3:4], asked[4:]), "my shop"))
    assert "Time to learn" in shown.text
    assert "5 of the last 200 queries found no likely match" in shown.text
    assert "at most 5 % are expected" in shown.text
    assert shown.code[0] == "scrubjay learn 'my shop' new-classes"
    assert "3 images" in shown.text
    assert "nearest: jay, 12%" in shown.text
    for each in asked:
        assert each.image in shown.text


def test_page_without_alarm_does_not_recommend_to_learn():
    shown = Page(page(novel(alarm=False)))
    assert "No sign of new classes" in shown.text
    assert "What to do" not in shown.text
    assert "is not known, because there are no probe images" in Page(page(novel(alarm=False, expected=1.0))).text


def test_gone_and_broken_images_are_empty_tiles(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(painted(tmp_path / "whole.png").read_bytes()[:60])
    shown = Page(page(novel([query(tmp_path / "gone.png"), query(broken), query(None, label=None, match=None)])))
    assert shown.attributes("img") == []
    for text in ("no image: gone.png", "no image: broken.png", "no image: without a file", "nearest: no class"):
        assert text in shown.text


def test_large_group_shows_some_and_names_all(tmp_path):
    asked = [query(painted(tmp_path / f"{i}.png")) for i in range(SHOWN + 3)]
    shown = Page(page(novel(asked)))
    assert len(shown.attributes("img")) == SHOWN
    assert "And 3 more." in shown.text
    assert all(f"cp {each.image} " in shown.text for each in asked)


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
def test_commands_make_a_folder_of_a_group(tmp_path):
    names = ("a b.png", "it's $HOME; <b>.png", "deep/a b.png")
    asked = [query(painted(tmp_path / "from" / name)) for name in names]
    commands = Page(page(novel([*asked, asked[0]]))).code[1]
    subprocess.run(["sh", "-e", "-c", commands], cwd=tmp_path, check=True)
    found = sorted(path.name for path in (tmp_path / "new-classes" / "class-1").iterdir())
    assert found == ["001-a b.png", "002-it's $HOME; <b>.png", "003-a b.png"]


def test_page_is_written_with_a_file_name_that_is_not_unicode(tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    write_novel_page(tmp_path / "new" / "page.html", novel([query(odd), query(odd)]), "shop")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]
    assert shlex.quote("shop") in (tmp_path / "new" / "page.html").read_text(encoding="utf-8")


def test_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_novel_page(tmp_path / "file" / "page.html", novel())
