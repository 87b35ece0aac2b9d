from __future__ import annotations

import re
from pathlib import Path

import pytest

from scrubjay.checks.folder_check import CheckFinding, FolderCheck
from scrubjay.report import check_page
from tiny import Call, paint, photos

TITLES = {"duplicate": "the same file", "unreadable": "cannot be read"}


def check(*findings: CheckFinding) -> FolderCheck:
    return FolderCheck(9, {"a": 4, "<b>": 5}, ("a", "<b>"), (), findings)


def test_the_page_holds_the_images_of_the_findings_and_nothing_else(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "0.png", 1, 0)
    same = CheckFinding("duplicate", "the same file 2 times, in <b>", ("a/0.png", "<b>/1.png"), ("item1",))
    text = check_page.page(check(same), tmp_path, TITLES)
    assert text.count("data:image/jpeg;base64,") == 1
    assert text.count("no image") == 1
    assert "&lt;b&gt;/1.png" in text
    assert "<b>" not in text
    assert "Items of the gallery: item1." in text
    assert "cannot be read" not in text
    assert not re.search(r"(src|href)=\"(?!data:)", text), "self-contained"
    assert "Nothing stands in the way" in check_page.page(check(), tmp_path, TITLES)


def test_images_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(paint(tmp_path / f"{number}.png", 1, number).name for number in range(10))
    findings = [CheckFinding("duplicate", f"number {number}", names) for number in range(check_page.FINDINGS + 2)]
    text = check_page.page(check(*findings), tmp_path, TITLES)
    assert text.count("<li>") == check_page.FINDINGS * check_page.IMAGES
    assert "And 2 more images." in text
    assert "And 2 more; <code>scrubjay check --json</code>" in text
    monkeypatch.setattr(check_page, "BYTES", 1)
    text = check_page.page(check(*findings), tmp_path, TITLES)
    assert text.count("data:image/jpeg;base64,") == 1


def test_the_command_writes_the_page(call: Call, tmp_path: Path) -> None:
    photos(tmp_path / "images", "jay", "wren")
    (tmp_path / "images" / "jay" / "broken.png").write_bytes(b"no image")
    code, out, _ = call("check", "images", "--html", "pages/check.html")
    assert (code, out.splitlines()[-1]) == (0, "pages/check.html")
    assert "jay/broken.png" in (tmp_path / "pages" / "check.html").read_text(encoding="utf-8")
