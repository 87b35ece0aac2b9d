from __future__ import annotations

import base64
import io
import re
import resource
import stat
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from report_sample import result

from scrubjay.errors import ConfigError, StorageError
from scrubjay.report.html import Retrieval, render, thumbnail, write_report

HOSTILE = "<script>alert(1)</script> & \"Sour\" 'Milk'"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def images(tmp_path):
    for i in range(3):
        Image.new("RGB", (300, 200), (80 * i, 40, 200)).save(tmp_path / f"{i}.jpg")
    return [tmp_path / f"{i}.jpg" for i in range(3)]


def retrieval(images, label=HOSTILE):
    hits = ((images[1], label, 0.987, True), (images[2], "other", -0.5, False))
    return Retrieval(images[0], label, (("g0, before", hits), ("mmd g2", hits[:1])))


@pytest.fixture
def runs():
    return [result(method, seed, score=0.3 + 0.05 * seed) for method in ("frozen", "mmd", "joint") for seed in (0, 1)]


def test_page_is_well_formed_and_says_what_it_shows(runs, images):
    page = Page(render(runs, [retrieval(images)], title="A title"))
    assert page.open == []
    assert page.attributes("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.attributes("meta")
    assert all(image["alt"] for image in page.attributes("img"))
    headings = [
        "What each method finds",
        "Over the sessions",
        "Queries before and after",
        "Session by session",
        "Run details",
    ]
    assert [page.text.index(heading) for heading in headings] == sorted(
        page.text.index(heading) for heading in headings
    )
    for said in (
        "A title",
        "backbone, no training",
        "joint (all images)",
        "stream.initial",
        "version of torch",
        "abc, def",
    ):
        assert said in page.text


def test_page_fetches_nothing(runs, images):
    page = Page(render(runs, [retrieval(images)]))
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:")
    (style,) = re.findall(r"<style>(.*?)</style>", render(runs), re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style


def test_plots_are_valid_svg(runs):
    sources = [image["src"] for image in Page(render(runs)).attributes("img")]
    svgs = [base64.b64decode(source.split(",")[1]) for source in sources if source.startswith("data:image/svg+xml;")]
    assert len(svgs) == 4 + 2 * 3 + 3
    for svg in svgs:
        tree = ElementTree.fromstring(svg)
        assert tree.tag == "{http://www.w3.org/2000/svg}svg"
        for element in tree.iter():
            link = element.get("{http://www.w3.org/1999/xlink}href", "#")
            assert link.startswith(("#", "data:"))


def test_everything_a_user_names_is_escaped(images):
    run = result(name=HOSTILE, config={"note": HOSTILE}, versions={HOSTILE: HOSTILE})
    run["sessions"][0]["classes"] = [HOSTILE]
    run["data"] |= {"source": HOSTILE, "hash": [HOSTILE], "broken": [[HOSTILE, HOSTILE]]}
    run["phases"][0]["phase"] = HOSTILE
    item = Retrieval(
        Path(f"/nowhere/{HOSTILE.replace('/', '')}"), HOSTILE, ((HOSTILE, retrieval(images).columns[0][1]),)
    )
    text = render([run], [item], title=HOSTILE)
    page = Page(text)
    assert "<script" not in text
    assert page.open == []
    assert page.text.count(HOSTILE) >= 9
    assert {"title": HOSTILE} in page.attributes("span")


def test_right_and_wrong_are_more_than_a_colour(runs, images):
    text = render(runs, [retrieval(images)])
    assert len(re.findall('class="frame right">', text)) == 2
    assert len(re.findall('class="frame wrong">', text)) == 1
    assert text.count('aria-label="right">✓<') == 2
    assert text.count('aria-label="wrong">✗<') == 1
    assert "0.99" in text
    assert "-0.50" in text


def test_missing_and_broken_images_are_empty_tiles_with_their_name(runs, images):
    images[1].unlink()
    images[2].write_bytes(b"no image")
    page = Page(render(runs, [retrieval(images)]))
    assert "no image: 1.jpg" in page.text
    assert "no image: 2.jpg" in page.text
    assert sum(image["src"].startswith("data:image/jpeg;") for image in page.attributes("img")) == 1


def test_thumbnails_are_small_and_upright(tmp_path):
    image = Image.new("RGB", (640, 320), "red")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    data = base64.b64decode(thumbnail(tmp_path / "turned.jpg").split(",")[1])
    with Image.open(io.BytesIO(data)) as small:
        assert small.size == (56, 112)
        assert small.format == "JPEG"


def test_real_photographs(runs, grocery):
    lines = (grocery / "test.txt").read_text(encoding="utf-8").splitlines()[:3]
    page = Page(render(runs, [retrieval([grocery / line.split(",")[0] for line in lines])]))
    assert sum(image["src"].startswith("data:image/jpeg;") for image in page.attributes("img")) == 4


def test_one_result_only():
    page = Page(render([result()]))
    assert page.open == []
    assert "Queries before and after" not in page.text
    assert "What differs" not in page.text


def test_one_session_only():
    page = Page(render([result(sessions=1, reference=None, continual={}, phases=[], curves={})]))
    assert page.open == []
    assert "Over the whole stream" not in page.text
    assert "Seconds, and images" not in page.text


def test_queries_over_bridges_have_their_own_maps(runs):
    assert "carried over bridges" not in Page(render(runs)).text
    bridged = [{**run, "bridged": run["compatibility"]} for run in runs]
    page = Page(render(bridged))
    assert "carried over bridges" in page.text
    assert sum("carried over bridges" in image["alt"] for image in page.attributes("img")) == 3


def test_orders_of_classes_that_differ_by_seed_are_said():
    runs = [result(seed=seed) for seed in (0, 3)]
    assert "own order of classes" not in Page(render(runs)).text
    runs[1]["data"]["classes"] = runs[1]["data"]["classes"][::-1]
    text = Page(render(runs)).text
    assert "Every seed has its own order of classes." in text
    assert "the sessions of seed 0" in text
    assert "different images" not in text


def test_settings_that_differ_stand_apart():
    runs = [
        result("l2", config={"a": 1, "method": {"weight": 3}}),
        result("mmd", config={"a": 1, "method": {"beta": 2}}),
    ]
    text = Page(render(runs)).text
    assert (
        text.index("method.weight")
        < text.index("Settings, versions and data of all runs")
        < text.index("version of torch")
    )


def test_seconds_and_speed_of_every_phase():
    phases = [
        {"session": 0, "phase": "learn", "seconds": 10.0, "images": 300, "images_per_second": 30.0},
        {"session": 1, "phase": "learn", "seconds": 5.0, "images": 300, "images_per_second": 60.0},
        {"session": 1, "phase": "evaluate", "seconds": 1.5, "images": 0, "images_per_second": None},
    ]
    text = " ".join(Page(render([result(phases=phases)])).text.split())
    assert "mmd15.0 s40 images/s1.5 s " in text
    assert "mmd0learn10.030" in text
    assert "mmd1evaluate1.5–" in text


def test_broken_files_are_counted_once_and_fifty_are_shown():
    broken = [[f"images/{i:03}.jpg", "truncated"] for i in range(60)]
    runs = [result(method) for method in ("l2", "mmd")]
    for run in runs:
        run["data"]["broken"] = broken
    text = Page(render(runs)).text
    assert "could not be read: 60" in text
    assert "images/049.jpg" in text
    assert "images/050.jpg" not in text


def test_report_is_written_with_its_folder(tmp_path, runs):
    path = tmp_path / "new" / "report.html"
    write_report(path, runs)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o400


def test_a_report_stays_when_the_next_one_fails(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("the old one", encoding="utf-8")
    with pytest.raises(ConfigError):
        write_report(path, [])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError, match="cannot be written: File too large"):
            write_report(path, [result()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text(encoding="utf-8") == "the old one"
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_names_that_are_not_unicode_do_not_stop_the_report(tmp_path):
    run = result(data={"source": "folder", "hash": ["a"], "classes": [], "broken": [["caf\udce9.jpg", "truncated"]]})
    write_report(tmp_path / "report.html", [run])
    assert "caf?.jpg" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="the report cannot be written") as caught:
        write_report(tmp_path / "file" / "report.html", [result()])
    assert "\n" not in str(caught.value)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(StorageError):
        write_report(tmp_path / "folder.html", [result()])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder.html"]
