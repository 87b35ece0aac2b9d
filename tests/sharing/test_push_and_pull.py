from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

import hub_stub
import shops
from scrubjay.catalogue import Catalogue
from scrubjay.errors import CatalogueError, ConfigError, HubError
from scrubjay.sharing.portable import LARGEST, MODEL, STATE, STATISTICS
from scrubjay.sharing.pull import pull
from scrubjay.sharing.push import push
from scrubjay.types import Sample
from tiny import Call, photos

REPO = "birds/shop"
# huggingface_hub uploads files in a way that its own transport advises against.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[hub_stub.Hub]:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with hub_stub.running(monkeypatch, tmp_path / "hub-cache") as hub:
        yield hub


@pytest.fixture(scope="module")
def metric(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """A catalogue that learns in closed form, of two generations."""
    root = tmp_path_factory.mktemp("metric")
    shop = Catalogue.init(root / "shop", shops.METRIC)
    shop.learn(shops.images(root / "spring", "apple", "pear"))
    shop.learn(shops.images(root / "summer", "fig"))
    return shop


def embedded(shop: Catalogue, name: str, folder: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    samples = [Sample(path, 0) for path in sorted(folder.rglob("*.png"))]
    assert len(samples) > 3
    return shop.workspace.embed(shop.lineage.get(name), samples).vectors


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".") and not path.name.endswith(".lock")]


def test_what_is_pulled_embeds_as_what_was_pushed_and_learns_on(
    hub: hub_stub.Hub, metric: Catalogue, tmp_path: Path
) -> None:
    pushed = push(metric.workspace, "g1", REPO, "Search for fruit.")
    assert pushed.url == f"{hub.address}/{REPO}/commit/{hub.commit(REPO)}"
    assert set(pushed.files) == set(hub.files(REPO)) == {"README.md", "generation.json", MODEL, STATISTICS, STATE}
    assert not leftovers(metric.folder)
    generation = pull(REPO, tmp_path / "pulled")
    shop = Catalogue(tmp_path / "pulled")
    assert (generation.name, generation.parent, shop.serving.read().generation) == ("g0", None, "g0")
    assert generation.folder == shop.lineage.get("g0").folder
    assert generation.fingerprint == metric.lineage.get("g1").fingerprint
    assert generation.info.pulled_from == f"{REPO}@{hub.commit(REPO)}"
    assert generation.classes == ("apple", "pear", "fig")
    folder = metric.folder.parent / "spring"
    assert np.array_equal(embedded(shop, "g0", folder), embedded(metric, "g1", folder))
    assert shop.add([folder]).items == 16
    found = shop.search(next(folder.rglob("apple/*.png")), k=3)
    assert found[0].label == "apple"
    further = shop.learn(photos(tmp_path / "further", "plum", each=6))
    assert further.classes == ("apple", "pear", "fig", "plum")
    assert shop.upkeep.examine() == []


def test_nothing_private_is_pushed(hub: hub_stub.Hub, metric: Catalogue) -> None:
    push(metric.workspace, "g1", REPO)
    for name, content in hub.files(REPO).items():
        assert str(metric.folder.parent).encode() not in content, name
        assert b".png" not in content, name
    assert not any("images" in key or "session" in key for key in load(hub.files(REPO)[STATISTICS]))
    sent = {header for _, _, header in hub.requests}
    assert "Bearer hf_secret" in sent, "the token comes from the environment"


def test_the_card_tells_classes_figures_and_use(hub: hub_stub.Hub, metric: Catalogue) -> None:
    push(metric.workspace, "g1", REPO, "Search for fruit.")
    card = hub.files(REPO)["README.md"].decode()
    assert card.startswith("---\nlibrary_name: scrubjay\n")
    for text in (
        "Search for fruit.",
        f"scrubjay pull {REPO} shop",
        "apple, pear, fig.",
        "learned after g0",
        "recall@1",
    ):
        assert text in card
    assert metric.lineage.get("g1").fingerprint in card


def test_a_generation_of_a_method_with_a_memory_goes_on(hub: hub_stub.Hub, tmp_path: Path) -> None:
    origin = Catalogue.init(tmp_path / "origin", shops.OPTIONS)
    origin.learn(photos(tmp_path / "a", "apple", "pear"), "moments")
    push(origin.workspace, "g0", REPO)
    pull(REPO, tmp_path / "pulled")
    shop = Catalogue(tmp_path / "pulled")
    kept = [
        shop.lineage.get("g0").folder / "method.safetensors",
        origin.lineage.get("g0").folder / "method.safetensors",
    ]
    first, second = (load(path.read_bytes()) for path in kept)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert shop.learn(photos(tmp_path / "b", "fig")).name == "g1"


def test_weights_alone_answer_and_are_not_trained_by_methods_with_a_memory(
    hub: hub_stub.Hub, metric: Catalogue, tmp_path: Path
) -> None:
    push(metric.workspace, "g1", REPO)
    push(metric.workspace, "g1", REPO, weights_only=True)
    assert STATISTICS in hub.files(REPO), "of the commit before"
    generation = pull(REPO, tmp_path / "pulled")
    assert generation.info.weights_only
    assert generation.info.statistics == ()
    shop = Catalogue(tmp_path / "pulled")
    assert shop.add([metric.folder.parent / "summer"]).items == 8
    with pytest.raises(ConfigError, match=r"g0 was pulled with weights only: 'slda' cannot go on"):
        shop.learn(photos(tmp_path / "b", "plum"))
    assert "holds the weights only" in hub.files(REPO)["README.md"].decode()


def test_a_catalogue_that_has_learned_nothing_takes_a_generation(
    hub: hub_stub.Hub, metric: Catalogue, tmp_path: Path
) -> None:
    push(metric.workspace, "g1", REPO)
    shop = Catalogue.init(tmp_path / "shop", shops.METRIC)
    assert pull(REPO, tmp_path / "shop").name == "g0"
    assert shop.serving.read().generation == "g0"
    assert pull(REPO, tmp_path / "shop").name == "g0", "it is there already"
    assert len(shop.lineage.generations()) == 1
    assert shop.add([metric.folder.parent / "spring"]).items == 16
    learned = Catalogue.init(tmp_path / "learned", shops.METRIC)
    learned.learn(shops.images(tmp_path / "own", "kiwi", "plum"))
    with pytest.raises(CatalogueError, match=r"learned: has learned g0, and no bridge leads .* into a new folder"):
        pull(REPO, tmp_path / "learned")
    assert len(learned.lineage.generations()) == 1


def test_another_catalogue_is_refused(hub: hub_stub.Hub, metric: Catalogue, tmp_path: Path) -> None:
    push(metric.workspace, "g1", REPO)
    Catalogue.init(tmp_path / "shop", shops.OPTIONS)
    with pytest.raises(ConfigError, match=r"has another network than .*shop: pull it into a new folder"):
        pull(REPO, tmp_path / "shop")
    images = shops.METRIC.images.model_copy(update={"size": 24})
    Catalogue.init(tmp_path / "small", shops.METRIC.model_copy(update={"images": images}))
    with pytest.raises(ConfigError, match=r"for images of 32 of 36 pixels, .*small for 24 of 36"):
        pull(REPO, tmp_path / "small")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(CatalogueError, match="in use for something else"):
        pull(REPO, tmp_path / "used")


def rewritten(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def apply(files: dict[str, bytes]) -> None:
        values = json.loads(files["generation.json"])
        change(values)
        files["generation.json"] = json.dumps(values).encode()

    return apply


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], None], metadata: bool = True) -> Any:
    """Change tensors of a file, and state its right checksum."""

    def apply(files: dict[str, bytes]) -> None:
        held = load(files[name])
        change(held)
        info = json.loads(files[name][8 : 8 + int.from_bytes(files[name][:8], "little")])["__metadata__"]
        files[name] = save(held, info if metadata else None)
        signed(name, files)

    return apply


def signed(name: str, files: dict[str, bytes]) -> None:
    values = json.loads(files["generation.json"])
    values["files"][name] = hashlib.sha256(files[name]).hexdigest()
    files["generation.json"] = json.dumps(values).encode()


def replaced(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    def apply(files: dict[str, bytes]) -> None:
        files[name] = content
        signed(name, files)

    return apply


HEAD = "embedder.projection.weight"
DAMAGES: dict[str, tuple[Any, str]] = {
    "other bytes": (lambda files: files.update({MODEL: files[MODEL] + b"x"}), "does not have the SHA-256"),
    "no description": (lambda files: files.pop("generation.json"), "holds no generation of scrubjay"),
    "no model": (lambda files: files.pop(MODEL), "it has no model.safetensors"),
    "not JSON": (lambda files: files.update({"generation.json": b"{"}), "is not the description of a generation"),
    "a list": (lambda files: files.update({"generation.json": b"[]"}), "is not the description of a generation"),
    "newer": (rewritten(lambda values: values.update(format=2)), "has format 2"),
    "unknown key": (rewritten(lambda values: values.update(run="rm")), "unknown key 'run'"),
    "path": (rewritten(lambda values: values["files"].update({"../x": "0"})), "are not those of a generation"),
    "class": (rewritten(lambda values: values.update(classes=["\x1b[2J", "pear", "fig"])), "not a printable name"),
    "size": (rewritten(lambda values: values["images"].update(size=90000, resize=90000)), "larger than 4096 pixels"),
    "dimension": (rewritten(lambda values: values["network"].update(dim=10**9)), "larger than 65536"),
    "fewer classes": (rewritten(lambda values: values["classes"].pop()), "with 8 dimensions and 2 classes"),
    "architecture": (rewritten(lambda values: values["network"].update(backbone="test_vit")), "not those of test_vit"),
    "no backbone": (rewritten(lambda values: values["network"].update(backbone="no_such")), "not a timm model"),
    "method": (rewritten(lambda values: values["method"].update(name="../x")), "unknown method"),
    "fingerprint": (rewritten(lambda values: values.update(fingerprint="0" * 32)), "do not have the fingerprint"),
    "weights": (tensors(MODEL, lambda held: held[HEAD].add_(1)), "do not have the fingerprint"),
    "pickle": (replaced(MODEL, b"\x80\x04cos\nsystem\n"), "is not a safetensors file"),
    "statistics": (replaced(STATISTICS, b"\x80\x04cos\nsystem\n"), "damaged or incomplete"),
    "other trunk": (
        tensors(STATISTICS, lambda held: held.update({"statistics.means": torch.zeros(3, 5, dtype=torch.float64)})),
        "statistics",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_repository_that_is_not_as_it_should_be_is_refused(
    hub: hub_stub.Hub, metric: Catalogue, call: Call, tmp_path: Path, kind: str
) -> None:
    change, message = DAMAGES[kind]
    push(metric.workspace, "g1", REPO)
    files = dict(hub.files(REPO))
    change(files)
    hub.commits[REPO].append(files)
    code, out, err = call("pull", REPO, "pulled")
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "pulled").exists()
    assert leftovers(tmp_path) == []


def test_a_file_that_is_too_large_is_not_downloaded(
    hub: hub_stub.Hub, metric: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(metric.workspace, "g1", REPO)
    monkeypatch.setitem(LARGEST, MODEL, 100)
    hub.requests.clear()
    with pytest.raises(HubError, match=r"model\.safetensors has \d+ bytes, more than 100"):
        pull(REPO, tmp_path / "pulled")
    assert not any(MODEL in path for _, path, _ in hub.requests)


def test_an_interrupted_pull_leaves_nothing_and_goes_on(hub: hub_stub.Hub, metric: Catalogue, tmp_path: Path) -> None:
    push(metric.workspace, "g1", REPO)
    hub.break_after = 5000
    hub.fail_at = (f"GET /{REPO}/resolve/{hub.commit(REPO)}/{MODEL}", 416)
    with pytest.raises(HubError):
        pull(REPO, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()
    hub.break_after = hub.fail_at = None
    assert pull(REPO, tmp_path / "pulled").name == "g0"


@pytest.mark.parametrize("step", ["PUT /blobs/", f"POST /api/models/{REPO}/commit"])
def test_an_interrupted_push_leaves_no_half_generation(
    hub: hub_stub.Hub, metric: Catalogue, tmp_path: Path, step: str
) -> None:
    hub.fail_at = (step, 403)
    with pytest.raises(HubError):
        push(metric.workspace, "g1", REPO)
    assert hub.files(REPO) == {}
    assert not leftovers(metric.folder)
    with pytest.raises(HubError):
        pull(REPO, tmp_path / "pulled")
    hub.fail_at = None
    push(metric.workspace, "g1", REPO)
    assert pull(REPO, tmp_path / "pulled").name == "g0"


def test_mistakes_of_the_command_line(
    hub: hub_stub.Hub, metric: Catalogue, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = str(metric.folder)

    def refused(*arguments: str) -> str:
        code, out, err = call(*arguments)
        assert (code, out) == (2, ""), err
        assert err.count("\n") == 1, err
        assert "hf_secret" not in err
        return err

    assert "write it as owner/name" in refused("push", shop, "g1", "shop")
    assert "there is no generation 'g7'" in refused("push", shop, "g7", REPO)
    assert "birds/gone: there is no such repository" in refused("pull", "birds/gone", "new")
    hub.fail_at = ("POST /api/repos/create", 403)
    assert "refuses access (status 403): log in with `hf auth login`" in refused("push", shop, "g1", REPO)
    hub.fail_at = None
    code, out, _ = call("push", shop, "g1", REPO, "--use", "Search for fruit.")
    assert (code, "model.safetensors: " in out, "Next, anywhere: scrubjay pull" in out) == (0, True, True)
    assert "has no such revision" in refused("pull", REPO, "new", "--revision", "v9")
    code, out, _ = call("pull", REPO, "new")
    assert (code, out.splitlines()[-1]) == (0, "next: scrubjay add new PHOTOS")
    hub_stub.use(monkeypatch, "http://127.0.0.1:9", tmp_path / "empty")
    assert "could not be reached" in refused("pull", REPO, "another")
    assert "could not be reached" in refused("push", shop, "g1", REPO)
