from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scrubjay.errors import ConfigError
from scrubjay.models import backbones, trunk
from scrubjay.models.embedder import Embedder, Network, NetworkOptions, era, fingerprint
from scrubjay.models.trunk import OUTPUT, Trunk, packed, statistics, unpacked
from scrubjay.training import seeded


def network(backbone: str = "test_resnet", **changes: object) -> Network:
    values = {"backbone": backbone, "pretrained": False, "dim": 8, "features": "stages", **changes}
    with seeded(0):
        return Network(NetworkOptions.parse(values)).eval()


def pixels(number: int, side: int = 32) -> Tensor:
    return torch.rand(number, 3, side, side, generator=torch.Generator().manual_seed(number))


def side(backbone: str) -> int:
    return 160 if "vit" in backbone else 64


def outputs(embedder: Embedder, names: list[str], images: Tensor) -> list[np.ndarray]:
    """The outputs of modules, recorded one by one in passes of their own."""
    found: list[np.ndarray] = []
    for name in names:
        module = embedder.backbone.get_submodule(name)
        handle = module.register_forward_hook(lambda *args: found.append(args[-1].numpy().astype(np.float64)))
        with torch.no_grad():
            embedder.backbone((images - embedder.mean) / embedder.std)
        handle.remove()
    return found


def by_loops(outputs: list[np.ndarray], prefix: int, last: bool) -> np.ndarray:
    rows = []
    for image in range(len(outputs[0])):
        row: list[float] = []
        for output in outputs:
            one = output[image]
            if one.ndim == 2:
                columns = [one[prefix:, channel] for channel in range(one.shape[1])]
            elif last:
                columns = [one[:, :, channel].ravel() for channel in range(one.shape[2])]
            else:
                columns = [one[channel].ravel() for channel in range(one.shape[0])]
            means = [sum(column) / len(column) for column in columns]
            row += means
            for column, mean in zip(columns, means, strict=True):
                row.append(max(math.sqrt(sum((value - mean) ** 2 for value in column) / len(column)), 1e-6))
            row += list(one[0]) if one.ndim == 2 and prefix else []
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(
    ("backbone", "stages"),
    [
        ("test_resnet", ["act1", "layer1", "layer2", "layer3", "layer4"]),
        ("test_efficientnet", [*(f"blocks.{number}" for number in range(5)), OUTPUT]),
        ("test_convnext", [*(f"stages.{number}" for number in range(4)), OUTPUT]),
        ("test_vit", [*(f"blocks.{number}" for number in range(6)), OUTPUT]),
    ],
)
def test_features_are_means_and_deviations_of_all_stages(backbone: str, stages: list[str]) -> None:
    embedder = network(backbone).embedder
    assert embedder.trunk is not None
    assert list(embedder.trunk.widths) == stages
    images = pixels(3, side(backbone))
    with torch.no_grad():
        features = embedder.features(images)
    prefix = backbones.prefix_tokens(embedder.backbone)
    expected = by_loops(outputs(embedder, stages, images), prefix, last=False)
    assert features.dtype == torch.float32
    assert features.shape == (3, embedder.trunk.width) == expected.shape
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert embedder.projection.in_features == embedder.trunk.width
    with torch.no_grad():
        assert torch.equal(embedder.project(features), embedder(images))


@pytest.mark.parametrize(
    ("backbone", "width"),
    [
        ("tf_efficientnet_lite0", 2 * (16 + 24 + 40 + 80 + 112 + 192 + 320 + 1280)),
        ("resnet18", 2 * (64 + 64 + 128 + 256 + 512)),
        ("resnet50", 2 * (64 + 256 + 512 + 1024 + 2048)),
        ("convnext_atto", 2 * (40 + 80 + 160 + 320 + 320)),
        ("mobilenetv3_small_100", 2 * (16 + 16 + 24 + 40 + 48 + 96 + 576 + 1024)),
        ("swin_tiny_patch4_window7_224", 2 * (96 + 192 + 384 + 768 + 768)),
        ("vit_tiny_patch16_224", 3 * 13 * 192),
        ("vit_small_patch16_224", 3 * 7 * 384),
    ],
)
def test_the_widths_of_well_known_backbones(backbone: str, width: int) -> None:
    assert Trunk(backbones.create(backbone, pretrained=False), "stages").width == width <= trunk.MAX_WIDTH


def test_channels_may_come_last() -> None:
    embedder = network("swin_tiny_patch4_window7_224", features=["layers.3"]).embedder
    images = pixels(2, 224)
    with torch.no_grad():
        features = embedder.features(images)
    expected = by_loops(outputs(embedder, ["layers.3"], images), 0, last=True)
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-3, atol=1e-4)


def test_the_last_stages_that_fit_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trunk, "MAX_WIDTH", 2 * (192 + 96))
    backbone = backbones.create("test_resnet", pretrained=False)
    assert list(Trunk(backbone, "stages").widths) == ["layer3", "layer4"]
    monkeypatch.setattr(trunk, "MAX_WIDTH", 1)
    assert list(Trunk(backbone, "stages").widths) == ["layer4"], "one stage is always taken"
    assert list(Trunk(backbone, ["layer4", "layer3"]).widths) == ["layer3", "layer4"], "names are taken as they are"


def test_the_last_feature_map_is_what_it_was() -> None:
    last, stages = network(features="last").embedder, network(features=["layer4"]).embedder
    images = pixels(5)
    with torch.no_grad():
        torch.testing.assert_close(stages.features(images)[:, :96], last.features(images), rtol=1e-5, atol=1e-6)
    assert last.kind == "test_resnet avg"
    assert last.projection.in_features == 96


def test_a_trunk_is_told_from_another_by_its_stages_and_weights_alone() -> None:
    one = network(features=["layer3"]).embedder
    other = network(features=["layer3"]).embedder
    with torch.no_grad():
        other.projection.weight.add_(1)
    assert fingerprint(one, {}) != fingerprint(other, {})
    assert era(one, {}) == era(other, {})
    assert era(one, {}) != era(one, {"size": 96})
    assert era(network(features=["layer1", "layer2"]).embedder, {}) != era(one, {})
    assert era(network(features="last").embedder, {}) != era(one, {})
    with torch.no_grad():
        other.backbone.layer1[0].conv1.weight.add_(1e-3)
    assert era(one, {}) != era(other, {})
    assert len(era(one, {})) == 32


def test_unknown_modules_are_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"network\.features: .*no module 'layer11'.*Did you mean 'layer1'.*conv1"):
        network(features=["layer2", "layer11"])
    with pytest.raises(ConfigError, match="features"):
        network(features=[])
    backbone = backbones.create("test_resnet", pretrained=False)
    backbone.spare = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r"the backbone does not run 'spare'; name modules that it runs"):
        Trunk(backbone, ["layer1", "spare"])


def test_what_is_no_map_is_refused() -> None:
    backbone = backbones.create("test_resnet", pretrained=False)
    backbone.layer4.register_forward_hook(lambda *args: args[-1].mean((2, 3)))
    with pytest.raises(ConfigError, match=r"the output of 'layer4' has none of the shapes"):
        Trunk(backbone, ["layer4"])
    backbone.feature_info = []
    with pytest.raises(ConfigError, match="does not say which modules end its stages"):
        Trunk(backbone, "stages")


def test_pooling_belongs_to_the_last_map() -> None:
    with pytest.raises(ConfigError, match=r"pooling = 'gem' applies to features = 'last' only"):
        NetworkOptions.parse({"features": "stages", "pooling": "gem"})


def test_a_constant_map_has_a_deviation_of_zero_and_a_finite_gradient() -> None:
    backbone = nn.Identity()
    maps = torch.full((2, 3, 4, 4), 7.0, requires_grad=True)
    features = statistics(backbone, maps)
    assert torch.equal(features[:, :3], torch.full((2, 3), 7.0))
    assert torch.allclose(features[:, 3:], torch.zeros(2, 3), atol=1e-6)
    features.sum().backward()
    assert maps.grad is not None
    assert torch.allclose(maps.grad, torch.full_like(maps.grad, 1 / 16))


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1.0), st.integers(2, 50))
@settings(max_examples=50, deadline=None)
def test_a_deviation_far_from_the_origin_does_not_cancel(centre: float, scale: float, number: int) -> None:
    values = torch.randn(1, number, 2, generator=torch.Generator().manual_seed(number)).mul(scale).add(centre)
    found = statistics(nn.Identity(), values)[0, 2:]
    rounding = 2e-7 * (abs(centre) + scale)
    torch.testing.assert_close(found.double(), values[0].double().std(0, correction=0), rtol=1e-4, atol=rounding + 1e-6)


@given(st.sampled_from([(5, 3, 3), (7, 4), (2, 1, 1), (3, 6, 5)]), st.integers(1, 70), st.integers(0, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_is_packed_can_be_unpacked(shape: tuple[int, ...], width: int, images: int, last: bool) -> None:
    activation, features = torch.randn(images, *shape), torch.randn(images, width)
    if last and activation.ndim == 4:
        activation = activation.contiguous(memory_format=torch.channels_last)
    found = unpacked(packed(activation, features), width)
    assert torch.equal(found[0], activation)
    assert torch.equal(found[1], features)


@pytest.mark.parametrize(
    ("backbone", "frozen", "rest"),
    [
        ("test_resnet", "layer2", ["layer3", "layer4"]),
        ("test_resnet", "conv1", ["act1", "layer1", "layer2", "layer3", "layer4"]),
        ("test_efficientnet", "blocks.3", ["blocks.4", OUTPUT]),
        ("test_convnext", "stages.2.downsample", ["stages.2", "stages.3", OUTPUT]),
        ("test_efficientnet", "bn2", []),
        ("test_resnet", "layer4", []),
        ("test_resnet", "all", []),
        ("test_vit", "norm", []),
        ("test_vit", "all", []),
    ],
)
@pytest.mark.parametrize("number", [1, 19])
def test_features_of_frozen_stages_travel_with_the_activations(
    backbone: str, frozen: str, rest: list[str], number: int
) -> None:
    cut, whole = network(backbone, frozen=frozen), network(backbone)
    embedder, stem = cut.embedder, cut.embedder.stem
    assert stem is not None
    assert stem.rest == rest
    assert stem.whole is (rest == [])
    images = pixels(number, side(backbone))
    embedder.make_batch_invariant()
    with torch.no_grad():
        prepared = embedder.prepare(images)
        assert torch.equal(embedder.prepare(prepared), prepared)
        features = embedder.features(prepared)
        assert torch.equal(features, embedder.features(images))
        torch.testing.assert_close(features, whole.embedder.features(images), rtol=1e-4, atol=1e-4)
        assert torch.equal(embedder.prepare(images[-1:])[0], prepared[-1])
    assert prepared.ndim == (2 if stem.whole else 4)
    assert fingerprint(embedder, {}) == fingerprint(whole.embedder, {})
    for parameter in (parameter for layer in stem.layers for parameter in layer.parameters()):
        assert not parameter.requires_grad


def test_a_part_of_a_vit_cannot_be_cut_off_but_all_of_it_can_be_frozen() -> None:
    with pytest.raises(ConfigError, match=r"cannot be cut after 'blocks\.3'"):
        network("test_vit", frozen="blocks.3")
    frozen = network("test_vit", features="last", frozen="all").train()
    assert not any(parameter.requires_grad for parameter in frozen.embedder.backbone.parameters())
    assert not any(part.training for part in frozen.embedder.backbone.modules())
    with torch.no_grad():
        whole = network("test_vit", features="last").embedder(pixels(2, 160))
        torch.testing.assert_close(frozen.embedder(pixels(2, 160)), whole, rtol=1e-4, atol=1e-5)


def test_a_block_that_starts_as_the_identity_is_not_the_end_of_the_backbone() -> None:
    """Residual blocks start with a zero weight, so that the cut before one gives the backbone's very output."""
    stem = network("resnet18", frozen="layer4.0", features="last").embedder.stem
    assert stem is not None
    assert not stem.whole


def test_gradients_reach_all_trained_stages() -> None:
    net = network(frozen="layer1").train()
    net.embedder(pixels(4)).square()[:, 0].sum().backward()
    for name, parameter in net.embedder.named_parameters():
        if parameter.requires_grad and name.startswith(("backbone.layer", "projection")):
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_nothing_is_left_on_the_backbone() -> None:
    net = network(frozen="layer2")
    net(pixels(2))
    assert not any(module._forward_hooks for module in net.embedder.backbone.modules())


def test_threads_may_share_an_embedder() -> None:
    embedder = network().embedder
    batches = [pixels(number, 64) for number in range(1, 7)]
    with torch.no_grad():
        expected = [embedder.features(batch) for batch in batches]
    wrong: list[int] = []

    def run(number: int) -> None:
        with torch.no_grad():
            for _ in range(10):
                if not torch.equal(embedder.features(batches[number]), expected[number]):
                    wrong.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_the_last_map_is_pooled_in_the_same_way_whatever_the_features(backbone: str) -> None:
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    found = []
    for features in ("last", "stages"):
        torch.manual_seed(0)
        embedder = Embedder(NetworkOptions(backbone=backbone, pretrained=False, dim=8, features=features)).eval()
        with torch.no_grad():
            found.append(embedder.pooled(images))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
