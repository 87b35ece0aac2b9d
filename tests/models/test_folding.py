from __future__ import annotations

import pytest
import torch
from torch import nn

from scrubjay.models.embedder import Network, NetworkOptions
from scrubjay.models.folding import folded


def network(backbone: str, **options: object) -> Network:
    """A network whose BatchNorm layers have statistics and parameters as after some training."""
    found = Network(NetworkOptions.parse({"backbone": backbone, "pretrained": False, "dim": 4, **options}, "")).eval()
    generator = torch.Generator().manual_seed(0)
    for layer in norms(found):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        for values in (layer.running_mean, layer.running_var, layer.weight.data, layer.bias.data):
            values.add_(0.3 * torch.rand(values.shape, generator=generator))
    return found


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_mambaout"])
@pytest.mark.parametrize("features", ["last", "stages"])
def test_a_folded_embedder_gives_the_same_features(backbone: str, features: str) -> None:
    embedder = network(backbone, features=features).embedder
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    images = torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(folded(embedder).features(images), embedder.features(images), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in embedder.state_dict().items())
    assert bool(norms(embedder)) == (folded(embedder) is not embedder)
    assert not norms(folded(embedder))


def test_a_layer_that_is_used_twice_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self, conv: nn.Conv2d) -> None:
            super().__init__()
            self.conv, self.norm = conv, nn.BatchNorm2d(conv.out_channels)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = self.conv(images)
            normalised: torch.Tensor = self.norm(features) + features
            return normalised

    embedder = network("test_resnet").embedder
    embedder.backbone.register_module(
        "conv1", nn.Sequential(Twice(nn.Conv2d(3, 3, 3, padding=1)), embedder.backbone.conv1)
    )  # type: ignore[arg-type]
    twice = embedder.eval()
    norms(twice)[0].running_mean.add_(2.0)  # type: ignore[union-attr]
    assert folded(twice) is twice


def test_the_frozen_part_keeps_its_bits() -> None:
    embedder = network("test_resnet", frozen="layer2").embedder
    assert folded(embedder) is embedder
