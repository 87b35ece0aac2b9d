"""The files of the page: complete in both languages, light, without unsafe calls, and served with the right headers."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import scrubjay.service

PAGE = Path(scrubjay.service.__file__).parent / "page"
LOCALES = {name: json.loads((PAGE / "locales" / f"{name}.json").read_text()) for name in ("en", "zh")}
WEIGHT = 150_000
"""Bytes of all files of the page as they are sent."""
PLACEHOLDER = re.compile(r"\{(\w+)\}")


@cache
def scripts() -> str:
    return "\n".join(path.read_text() for path in sorted(PAGE.rglob("*.js")))


def forms(entry: str | dict[str, str]) -> list[str]:
    return [entry] if isinstance(entry, str) else list(entry.values())


def test_both_languages_have_the_same_texts_with_the_same_values() -> None:
    en, zh = LOCALES["en"], LOCALES["zh"]
    assert en.keys() == zh.keys()
    for key, entry in en.items():
        assert isinstance(entry, str) == isinstance(zh[key], str), key
        assert set(PLACEHOLDER.findall(" ".join(forms(entry)))) - {"n"} == set(
            PLACEHOLDER.findall(" ".join(forms(zh[key])))
        ) - {"n"}, key


@pytest.mark.parametrize(("language", "categories"), [("en", {"one", "other"}), ("zh", {"other"})])
def test_texts_have_the_plural_forms_of_their_language(language: str, categories: set[str]) -> None:
    for key, entry in LOCALES[language].items():
        assert all(text.strip() for text in forms(entry)), key
        assert isinstance(entry, str) or entry.keys() == categories, key


def test_chinese_texts_are_chinese() -> None:
    latin = {"count", "help.key.escape", "job.count"}
    for key, entry in LOCALES["zh"].items():
        assert key in latin or all(re.search(r"[\u4e00-\u9fff]", text) for text in forms(entry)), key


def test_every_text_is_used_and_none_is_missing() -> None:
    markup = (PAGE / "index.html").read_text()
    literals = set(re.findall(r'"([a-z.]+)"', scripts())) | set(re.findall(r'data-t="([a-z.]+)"', markup))
    assert LOCALES["en"].keys() <= literals
    asked = set(re.findall(r'\bt\("([^"]+)"', scripts()))
    assert asked <= LOCALES["en"].keys()


@pytest.mark.parametrize(
    "call", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
)
def test_no_text_becomes_markup_or_code(call: str) -> None:
    assert call not in scripts()


def test_the_document_holds_no_inline_script_style_or_address_of_another_site() -> None:
    markup = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>|<style|\sstyle=|\son\w+=|https?://", markup)
    assert "http" not in scripts().replace("http://www.w3.org/2000/svg", "")


def test_files_are_short_and_all_together_light() -> None:
    files = [path for path in PAGE.rglob("*") if path.is_file()]
    for path in files:
        if path.suffix in (".js", ".css", ".html"):
            assert len(path.read_text().splitlines()) <= 300, path.name
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) < WEIGHT


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page/css/tokens.css", "text/css; charset=utf-8"),
        ("/page/js/views/search.js", "text/javascript; charset=utf-8"),
        ("/page/locales/zh.json", "application/json"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
def test_files_are_served_with_type_tag_and_policy(client: TestClient, path: str, kind: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert answer.content == (PAGE / (path.removeprefix("/page/") if path != "/" else "index.html")).read_bytes()
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(path, headers={"Accept-Encoding": "identity"}).headers.get("content-encoding") is None


@pytest.mark.parametrize(
    "path", ["/page/", "/page/js", "/page/nothing.js", "/page/..%2f__init__.py", "/page/../answers.py"]
)
def test_other_names_are_not_found(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
