"""Embedders as ONNX files: the same vectors as torch, and nothing left behind when they are not."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest
import torch

import tiny
from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import Cache, ImageLoader
from scrubjay.errors import ConfigError, DataError, StorageError
from scrubjay.generations import onnx_export as exporting
from scrubjay.generations.generation import Generation
from scrubjay.generations.onnx_export import export, session
from scrubjay.models.backbones import DEFAULT
from scrubjay.models.embedder import Network, NetworkOptions
from scrubjay.types import Sample
from tiny import paint

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
BACKBONES = [("test_vit", "avg", None, 160), ("test_convnext", "max", None, 64), (DEFAULT, "avg", "blocks.2", 64)]


class Case:
    """A network with everything that an export takes."""

    def __init__(self, folder, backbone="test_resnet", pooling="avg", frozen=None, size=32, number=4, **network):
        options = NetworkOptions(backbone=backbone, pretrained=False, dim=8, pooling=pooling, frozen=frozen, **network)
        torch.manual_seed(0)
        self.embedder = Network(options).embedder.eval()
        self.generation = Generation(folder / "g3", tiny.info("g3", options, fingerprint="abc"))
        self.images = ImageOptions(size=size, resize=size + 8)
        self.samples = [Sample(paint(folder / f"{i}.png", i, i, side=size + 20), 0) for i in range(number)]
        self.path = folder / "out" / "g3.onnx"

    def export(self, **changed):
        return export(self.embedder, self.generation, self.images, self.samples, self.path, **changed)

    def pixels(self):
        return torch.stack([*_loaded(self.samples, self.images)])


def _loaded(samples, images):
    loader = ImageLoader(samples, images, train=False, cache=Cache(0))
    return [loader[index] for index in range(len(samples))]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An exported network that was left in training mode. An export takes seconds, so most tests share it."""
    case = Case(tmp_path_factory.mktemp("export"), pooling="gem", frozen="layer2")
    case.embedder.train()
    return case, case.export()


@pytest.fixture
def ready(exported, tmp_path, monkeypatch):
    """The same network in another folder, where the export copies the shared file."""
    content = exported[1].path.read_bytes()
    monkeypatch.setattr(exporting, "_write", lambda _embedder, _size, path, _info: path.write_bytes(content))
    return Case(tmp_path, pooling="gem", frozen="layer2")


def same_as_torch(case, made):
    assert made.images == 4
    assert made.max_difference < 1e-5
    assert made.min_cosine > 1 - 1e-5
    assert made.bytes == made.path.stat().st_size
    assert [each.name for each in made.path.parent.iterdir()] == ["g3.onnx"]  # one file, its weights inside
    run = session(made.path)
    for count in (1, 2, 4):
        pixels = case.pixels()[:count]
        (found,) = run.run(None, {"images": pixels.numpy()})
        with torch.inference_mode():
            np.testing.assert_allclose(found, case.embedder.eval()(pixels).numpy(), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_vectors_are_those_of_torch(exported):
    same_as_torch(*exported)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "pooling", "frozen", "size"), BACKBONES)
def test_other_backbones_without_output_of_the_exporter(tmp_path, capfd, backbone, pooling, frozen, size):
    case = Case(tmp_path, backbone, pooling, frozen, size)
    made = case.export()
    assert capfd.readouterr() == ("", "")
    same_as_torch(case, made)


@pytest.mark.parametrize(
    ("backbone", "frozen", "size"),
    [
        ("test_resnet", "layer2", 32),
        pytest.param(DEFAULT, "all", 64, marks=pytest.mark.slow),
        pytest.param("test_vit", None, 160, marks=pytest.mark.slow),
    ],
)
def test_features_of_all_stages(tmp_path, backbone, frozen, size):
    case = Case(tmp_path, backbone, frozen=frozen, size=size, features="stages")
    same_as_torch(case, case.export())


@pytest.mark.parametrize("transform", ["root", pytest.param("relu", marks=pytest.mark.slow), "gelu"])
def test_transformed_features(tmp_path, transform):
    case = Case(tmp_path, features="stages", transform=transform, random_features=32)
    same_as_torch(case, case.export())


def test_inputs_outputs_and_metadata(exported):
    _, made = exported
    run = session(made.path, threads=1)
    (images,), (embeddings,) = run.get_inputs(), run.get_outputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["N", 3, 32, 32])
    assert (embeddings.name, embeddings.type, embeddings.shape) == ("embeddings", "tensor(float)", ["N", 8])
    metadata = run.get_modelmeta().custom_metadata_map
    expected = {"generation": "g3", "fingerprint": "abc", "dim": "8", "size": "32", "resize": "40"}
    assert expected.items() <= metadata.items()
    assert "bicubic" in metadata["interpolation"]
    assert metadata["scrubjay"]
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    model = onnx.load(str(made.path))
    onnx.checker.check_model(model)
    assert {each.domain: each.version for each in model.opset_import}[""] == exporting.OPSET


def test_batches_have_every_size_even_of_one_image():
    one = torch.arange(3, dtype=torch.uint8).view(1, 3, 1, 1)
    assert [len(part) for size in exporting.SIZES for part in exporting._split(one, size)] == [1, 3, 17]
    many = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1)
    parts = exporting._split(many, 17)
    assert torch.equal(torch.cat([*parts]), many)
    assert all(len(part) <= 17 for part in parts)


def test_vectors_that_differ_leave_nothing_and_keep_what_was_there(ready):
    case = ready
    case.path.parent.mkdir()
    case.path.write_bytes(b"before")
    with pytest.raises(DataError, match=r"g3\.onnx: not written: its vectors differ .* the tolerance of -1"):
        case.export(tolerance=-1.0)
    assert [each.read_bytes() for each in case.path.parent.iterdir()] == [b"before"]


def test_other_weights_are_noticed(exported, tmp_path):
    """The comparison detects a network that is not the exported one."""
    torch.manual_seed(1)
    other = Network(NetworkOptions(backbone="test_resnet", pretrained=False, dim=8)).embedder.eval()
    difference, cosine = exporting._compare(other, exported[1].path, exported[0].pixels())
    assert difference > 0.01
    assert cosine < 0.99


def test_broken_images_are_left_out_and_none_at_all_is_an_error(ready, tmp_path):
    case = ready
    case.samples = case.samples[:2]
    case.samples[0].path.write_bytes(b"no image")
    assert case.export().images == 1
    case.samples[1].path.unlink()
    for samples in (case.samples, []):
        with pytest.raises(DataError, match="no image to verify the export with"):
            export(case.embedder, case.generation, case.images, samples, tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


def test_a_network_that_onnx_cannot_express(tmp_path):
    class Strange(torch.nn.Module):
        def forward(self, maps):
            return maps.mean(2).mean(2) if float(maps.sum()) > 0 else maps.amax((2, 3))

    case = Case(tmp_path)
    case.embedder.pooling = Strange()
    with pytest.raises(DataError, match=r"cannot be exported to ONNX \([^\n]*\): use it with torch\.$"):
        case.export()
    assert not list(case.path.parent.iterdir())


def test_a_folder_that_cannot_be_written(ready, tmp_path):
    case = ready
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StorageError, match="could not be written"):
        case.export()


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_missing_packages_name_the_extra(tmp_path, monkeypatch, missing):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **named)

    monkeypatch.delitem(sys.modules, missing, raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=rf"^{missing} is not installed: pip install 'scrubjay\[onnx\]'\.$"):
        exporting._require_packages()
