from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import hub_stub
from scrubjay import _compat as compat
from scrubjay.catalogue import Catalogue
from scrubjay.errors import ConfigError, HubError
from scrubjay.models.embedder import Embedder, NetworkOptions
from scrubjay.workspace.options import CatalogueOptions
from tiny import IMAGES, TINY, TRAINING, Call, photos

CONFIG = {
    "architecture": "test_resnet",
    "num_classes": 1000,
    "model_args": {"act_layer": "gelu"},
    "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 64, 64]},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a classifier, as timm saves them."""
    file = tmp_path_factory.mktemp("weights") / "model.safetensors"
    torch.manual_seed(7)
    save_file(compat.load("timm").create_model("test_resnet", num_classes=10).state_dict(), file)
    return file


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[hub_stub.Hub]:
    with hub_stub.running(monkeypatch, tmp_path / "hub-cache") as hub:
        yield hub


def options(**values: Any) -> NetworkOptions:
    return NetworkOptions.parse({"backbone": "test_resnet", "dim": 8, **values}, "network")


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_weights_of_a_file_are_loaded_and_recorded(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(weights.parent)
    before = torch.get_rng_state()
    embedder = Embedder(options(weights="model.safetensors", sha256=digest(weights)))
    stored = compat.load("timm.models").load_state_dict(str(weights))
    assert all(torch.equal(value, stored[name]) for name, value in embedder.backbone.state_dict().items())
    torch.set_rng_state(before)
    drawn = torch.nn.Linear(embedder.projection.in_features, 8)
    assert torch.equal(embedder.projection.weight, drawn.weight), "loading draws nothing"
    origin = embedder.options.origin
    assert origin is not None
    assert (origin.architecture, origin.weights, origin.sha256) == ("test_resnet", str(weights), digest(weights))
    assert embedder.options.weights == str(weights)
    assert embedder.kind == Embedder(options(pretrained=False)).kind, "the weights themselves tell spaces apart"


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_pytorch_files_are_read_without_executing_what_they_hold(weights: Path, tmp_path: Path, suffix: str) -> None:
    tensors = compat.load("timm.models").load_state_dict(str(weights))
    file = tmp_path / f"saved{suffix}"
    torch.save({"state_dict": tensors, "epoch": 3}, file)
    found = Embedder(options(weights=str(file)))
    name = next(iter(tensors))
    assert torch.equal(found.backbone.state_dict()[name], tensors[name])
    assert Embedder(options(weights=str(tmp_path))).options.weights == str(file), "the only file of a folder"
    torch.save(Path("/"), file)
    with pytest.raises(ConfigError, match=r"saved\.\w+: is not a file of weights"):
        Embedder(options(weights=str(file)))


def test_a_folder_names_its_own_architecture(weights: Path, tmp_path: Path) -> None:
    shutil.copy(weights, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    embedder = Embedder(options(backbone=f"local-dir:{tmp_path}"))
    assert embedder.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert "GELU" in {type(part).__name__ for part in embedder.backbone.modules()}
    assert embedder.options.sha256 == digest(weights)
    rebuilt = Embedder(embedder.options.model_copy(update={"pretrained": False}))
    assert rebuilt.kind == embedder.kind
    assert rebuilt.kind != Embedder(options(pretrained=False)).kind
    rebuilt.load_state_dict(embedder.state_dict())
    with pytest.raises(ConfigError, match=r"holds a test_resnet, not a test_vit: take local-dir:"):
        Embedder(options(backbone="test_vit", weights=str(tmp_path)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weights": "gone.safetensors"}, r"gone\.safetensors: cannot be read \(No such file"),
        ({"backbone": "test_vit"}, r"holds weights of another architecture than test_vit"),
        ({"sha256": "0" * 64}, r"has the SHA-256 [0-9a-f]{64}, not network\.sha256 = 0{64}: take the file"),
        ({"sha256": "abc"}, r"sha256"),
        ({"pretrained": False}, r"leave out network\.pretrained=false, or these weights"),
        ({"backbone": "local-dir:."}, r"has weights of its own; leave one of them out"),
        ({"backbone": "tset_resnet"}, r"'tset_resnet' is not a timm model"),
    ],
)
def test_wrong_weights_are_refused(weights: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Embedder(options(**{"weights": str(weights), **values}))


def test_a_checksum_of_weights_of_timm_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"test_resnet is timm's own; leave it out"):
        Embedder(options(sha256="0" * 64, pretrained=False))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "no JSON object"),
        ("{", "is not the configuration of a model"),
        ({"architecture": "nothing"}, "names no architecture of timm"),
        ({**CONFIG, "model_args": {"checkpoint_path": "/etc/passwd"}}, "'checkpoint_path' is no argument"),
        ({**CONFIG, "model_args": {"wings": 2}}, "could not be created"),
        ({**CONFIG, "pretrained_cfg": {"mean": [1]}}, "mean"),
    ],
)
def test_wrong_configurations_are_refused(weights: Path, tmp_path: Path, config: Any, message: str) -> None:
    shutil.copy(weights, tmp_path)
    (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(ConfigError, match=message):
        Embedder(options(backbone=f"local-dir:{tmp_path}"))


def test_a_folder_without_weights_or_with_several_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one file of weights is needed \(none found\)"):
        Embedder(options(weights=str(tmp_path)))
    for name in ("a.pth", "b.pth"):
        shutil.copy(weights, tmp_path / name)
    with pytest.raises(ConfigError, match=r"\(a\.pth, b\.pth found\); name the file itself"):
        Embedder(options(weights=str(tmp_path)))


def test_a_catalogue_keeps_the_model_of_the_hub_that_it_was_made_with(
    hub: hub_stub.Hub, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": weights.read_bytes()}
    commit = hub.put("birds/tiny", files)
    network = {"backbone": "hf-hub:birds/tiny", "dim": 8, "features": "last"}
    chosen = CatalogueOptions.parse({"network": network, "images": IMAGES, "training": TRAINING})
    shop = Catalogue.init(tmp_path / "shop", chosen)
    assert shop.options.network.backbone == f"hf-hub:birds/tiny@{commit}"
    assert shop.options.network.sha256 == digest(weights)
    hub.put("birds/tiny", {"model.safetensors": b"another"})
    first = shop.learn(photos(tmp_path / "photos", "jay", "wren"), "l2")
    assert first.info.network.origin is not None
    assert first.info.network.origin.weights == f"hf-hub:birds/tiny@{commit}/model.safetensors"
    hub_stub.use(monkeypatch, "http://127.0.0.1:9", tmp_path / "empty")
    again = Catalogue(tmp_path / "shop")
    assert again.add([tmp_path / "photos"]).items == 8, "the Hub is not needed any more"
    assert again.learn(photos(tmp_path / "more", "owl", "tit")).name == "g1"


def test_what_is_wrong_with_a_model_of_the_hub_is_one_line(
    hub: hub_stub.Hub, weights: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = TINY[4:]  # without a backbone
    hub.put("birds/tiny", {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": weights.read_bytes()})
    hub.put("birds/empty", {"README.md": b""})
    hub.put("birds/bare", {"config.json": json.dumps(CONFIG).encode()})
    hub.put(
        "birds/vit",
        {"config.json": json.dumps({"architecture": "test_vit"}).encode(), "model.safetensors": weights.read_bytes()},
    )

    def refused(backbone: str, *more: str) -> str:
        code, out, err = call("init", "shop", "--backbone", backbone, *more, *tiny)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1, err
        assert not (tmp_path / "shop").exists()
        return err

    assert "birds/gone: there is no such repository" in refused("hf-hub:birds/gone")
    assert "birds/tiny: has no such revision" in refused("hf-hub:birds/tiny@v9")
    assert "birds/empty: it has no config.json" in refused("hf-hub:birds/empty")
    assert "birds/bare: it has no model.safetensors or pytorch_model.bin" in refused("hf_hub:birds/bare")
    assert "'birds/tiny/x' is not the id of a repository" in refused("hf-hub:birds/tiny/x")
    assert "weights of another architecture than test_vit" in refused("hf-hub:birds/vit")
    assert "has the SHA-256" in refused("hf-hub:birds/tiny", "--sha256", "1" * 64)
    hub.put("birds/closed", hub.files("birds/tiny"))
    hub.fail_at = ("HEAD /birds/closed", 403)
    assert "refuses access (status 403): log in" in refused("hf-hub:birds/closed")
    hub.fail_at = ("HEAD /birds/closed", 500)
    assert "failed (status 500): give the same command again later" in refused("hf-hub:birds/closed")
    hub_stub.use(monkeypatch, "http://127.0.0.1:9", tmp_path / "nothing")
    assert "http://127.0.0.1:9 could not be reached" in refused("hf-hub:birds/tiny")
    code, out, _ = call("init", "shop", "--backbone", "test_resnet", "--weights", str(weights), *tiny)
    assert (code, "created" in out) == (0, True)


def test_an_interrupted_download_is_finished_by_a_second_try(hub: hub_stub.Hub, weights: Path) -> None:
    hub.put("birds/tiny", {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": weights.read_bytes()})
    hub.break_after = 1000
    hub.fail_at = ("GET /birds/tiny/resolve", 416)
    with pytest.raises(HubError):
        Embedder(options(backbone="hf-hub:birds/tiny"))
    hub.break_after = hub.fail_at = None
    assert Embedder(options(backbone="hf-hub:birds/tiny")).options.sha256 == digest(weights)
