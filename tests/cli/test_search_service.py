from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import shops
from scrubjay.service.keys import KeyFile
from service.running import Running, served
from tiny import Call


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Running]]:
    root = tmp_path_factory.mktemp("served")
    shops.metric_shop(root)
    with served(root / "shop") as running:
        yield root, running


FILTERS = [[], ["-k", "3", "--label", "pear"], ["--where", "box=no"]]


@pytest.mark.parametrize("options", [*FILTERS, ["--json"], ["--json", "-k", "2", "--label", "fig"]])
def test_a_service_answers_as_the_folder_does(call: Call, running: tuple[Path, Running], options: list[str]) -> None:
    root, service = running
    for image in ("spring/train/pear/1.png", "summer/test/kiwi/101.png"):
        local = call("search", str(root / "shop"), str(root / image), *options)
        remote = call("search", str(root / image), "--service", service.url, *options)
        assert local[0] == remote[0] == 0, (local, remote)
        if "--json" in options:
            assert json.loads(remote[1]) == json.loads(local[1])
        else:
            assert remote[1] == local[1]


def test_mistakes_are_one_line(call: Call, running: tuple[Path, Running], tmp_path: Path) -> None:
    root, service = running
    (tmp_path / "text.jpg").write_text("no image")
    image = str(root / "spring/train/pear/1.png")
    for arguments, said in (
        (("shop", image, "--service", service.url), "give the image only"),
        ((image, "--service", service.url, "--explain", "x.html"), "give the image only"),
        ((image,), "no image is given"),
        (("gone.jpg", "--service", service.url), "gone.jpg"),
        (("text.jpg", "--service", service.url), "request "),
        ((image, "--service", service.url, "-k", "0"), "greater than or equal to 1"),
        ((image, "--service", "ftp://shop"), "is not the address of a service"),
    ):
        code, out, err = call("search", *arguments)
        assert (code, out) == (2, ""), (arguments, err)
        assert said in err
        assert err.count("\n") == 1


def test_neither_torch_nor_the_web_framework_is_imported() -> None:
    script = (
        "import sys; from scrubjay.cli import main; sys.argv[1:] = ['search', 'x.jpg', '--service', 'http://127.0.0.1:9']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'fastapi', 'numpy', 'PIL', 'lancedb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_key_is_taken_from_the_environment(
    call: Call, running: tuple[Path, Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of this module, because the service needs a key from now on."""
    root, service = running
    secret, _ = KeyFile(root / "shop").make("reader", "read")
    image = str(root / "spring/train/pear/1.png")
    monkeypatch.delenv("SCRUBJAY_KEY", raising=False)
    code, _, err = call("search", image, "--service", service.url)
    assert code == 2
    assert "Send an API key" in err
    monkeypatch.setenv("SCRUBJAY_KEY", secret)
    code, out, _ = call("search", image, "--service", service.url, "--json")
    assert code == 0
    assert {hit["uri"] for hit in json.loads(out)["hits"]} == {None}, "a reader sees no paths of the machine"
    assert call("search", image, "--service", service.url)[0] == 0
