from __future__ import annotations

import pytest
import torch
from torch import nn

import tiny
from scrubjay.errors import ConfigError
from scrubjay.models.embedder import Embedder, Network
from scrubjay.models.stages import trained_stages, watching


def network(backbone: str = "test_resnet", frozen: str | None = None) -> Network:
    return Network(tiny.NETWORK.model_copy(update={"backbone": backbone, "frozen": frozen})).eval()


def stages_of(embedder: Embedder) -> list[tuple[str, int, int]]:
    listed = embedder.backbone.feature_info
    return [(entry["module"], entry["num_chs"], entry["reduction"]) for entry in listed]


@pytest.mark.parametrize(
    "backbone", ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_mambaout", "test_nfnet"]
)
def test_maps_are_what_timm_says(backbone: str) -> None:
    net = network(backbone)
    stages = trained_stages(net.embedder)
    with torch.no_grad(), watching(net.embedder, stages) as maps:
        net(torch.rand(2, 3, 64, 64))
    assert list(stages) == [name for name, _, _ in stages_of(net.embedder)]
    for name, channels, reduction in stages_of(net.embedder):
        assert maps[name].shape == (2, channels, 64 // reduction, 64 // reduction)


@pytest.mark.parametrize("backbone", ["test_vit", "test_vit_relpos"])
def test_tokens_are_maps_without_the_class_token(backbone: str) -> None:
    net = network(backbone)
    stages = trained_stages(net.embedder)
    outputs = []
    net.embedder.backbone.blocks[0].register_forward_hook(lambda *args: outputs.append(args[-1]))
    with torch.no_grad(), watching(net.embedder, stages) as maps:
        net(torch.rand(2, 3, 160, 160))
    (output,) = outputs
    prefix = net.embedder.backbone.num_prefix_tokens
    assert stages[0] == "blocks.0"
    assert output.shape[1] == 100 + prefix
    assert maps["blocks.0"].shape == (2, output.shape[2], 100, 1)
    assert torch.equal(maps["blocks.0"][:, :, 7, 0], output[:, prefix + 7])


def test_maps_are_of_the_pass_that_embeds_and_carry_its_gradient() -> None:
    net = network()
    images = torch.rand(2, 3, 32, 32)
    with watching(net.embedder, ("layer2",)) as maps:
        z, _ = net(images)
    torch.testing.assert_close(z, net(images)[0])
    maps["layer2"].sum().backward()
    assert net.embedder.backbone.layer1[0].conv1.weight.grad is not None
    assert net.embedder.backbone.layer3[0].conv1.weight.grad is None


def test_nothing_is_left_on_the_backbone() -> None:
    net = network()
    with pytest.raises(ZeroDivisionError), watching(net.embedder, trained_stages(net.embedder)):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in net.embedder.backbone.modules())


@pytest.mark.parametrize(
    ("backbone", "frozen", "first"),
    [("test_resnet", "layer2", "layer3"), ("test_efficientnet", "blocks.1", "blocks.2")],
)
def test_frozen_stages_are_left_out_and_the_rest_is_seen_through_the_tail(
    backbone: str, frozen: str, first: str
) -> None:
    net = network(backbone, frozen)
    stages = trained_stages(net.embedder)
    assert stages[0] == first
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad(), watching(net.embedder, stages) as maps:
        net(images)
    whole = network(backbone)
    whole.load_state_dict(net.state_dict())
    with torch.no_grad(), watching(whole.embedder, stages) as expected:
        whole(images)
    for stage in stages:
        torch.testing.assert_close(maps[stage], expected[stage], rtol=1e-4, atol=1e-5)


def test_a_stage_that_is_frozen_in_part_is_trained() -> None:
    net = network("test_convnext", "stages.2.downsample")
    assert trained_stages(net.embedder) == ("stages.2", "stages.3")
    with watching(net.embedder, ("stages.2",)) as maps:
        net(torch.rand(2, 3, 64, 64))
    assert maps["stages.2"].requires_grad


def test_a_wholly_frozen_backbone_is_refused() -> None:
    net = network(frozen="layer4")
    with pytest.raises(
        ConfigError, match=r"network.frozen = 'layer4' freezes all stages of 'test_resnet'.*freeze fewer"
    ):
        trained_stages(net.embedder)


@pytest.mark.parametrize("listed", [None, [], [{"module": "gone", "num_chs": 3, "reduction": 2}]])
def test_a_backbone_without_named_stages_is_refused(listed: object) -> None:
    net = network()
    net.embedder.backbone.feature_info = listed
    with pytest.raises(ConfigError, match=r"backbone 'test_resnet' does not say which modules end its stages.*l2"):
        trained_stages(net.embedder)


def test_a_stage_that_does_not_run_is_named() -> None:
    net = network()
    net.embedder.backbone.spare = nn.Identity()
    with (
        pytest.raises(ConfigError, match="does not run its stage 'spare'"),
        watching(net.embedder, ("layer1", "spare")),
    ):
        net(torch.rand(2, 3, 32, 32))


def test_a_stage_that_delivers_no_map_is_named() -> None:
    net = network()
    net.embedder.backbone.layer4.register_forward_hook(lambda *args: (args[-1], args[-1]))
    with (
        pytest.raises(ConfigError, match="the output of stage 'layer4' has none of the shapes"),
        watching(net.embedder, ("layer4",)),
    ):
        net(torch.rand(2, 3, 32, 32))
