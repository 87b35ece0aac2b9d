from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tiny
from scrubjay.errors import ConfigError
from scrubjay.methods import Method
from scrubjay.models.embedder import Network, NetworkOptions, fingerprint
from scrubjay.models.stem import CHUNK, Stem
from scrubjay.training import learn, seeded

CUTS = [("test_resnet", "maxpool"), ("test_resnet", "layer2"), ("test_efficientnet", "blocks.1")]


def network(backbone: str = "test_resnet", frozen: str | None = "layer1", **changes: object) -> Network:
    with seeded(0):
        return Network(
            NetworkOptions.parse(
                {"backbone": backbone, "pretrained": False, "dim": 8, "frozen": frozen, **changes},
            )
        ).eval()


def pixels(number: int, side: int = 32) -> Tensor:
    return torch.rand(number, 3, side, side, generator=torch.Generator().manual_seed(number))


@pytest.mark.parametrize(("backbone", "last"), CUTS)
@pytest.mark.parametrize("number", [1, CHUNK - 1, CHUNK, 2 * CHUNK + 3])
def test_the_two_parts_are_the_whole(backbone: str, last: str, number: int) -> None:
    embedder = network(backbone, last).embedder
    assert embedder.stem is not None
    with torch.no_grad():
        whole = embedder.backbone(pixels(number))
        parts = embedder.stem.tail(embedder.stem(pixels(number)))
    assert whole.abs().max() > 1e-3
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("backbone", "last"), CUTS)
def test_a_batch_invariant_stem_gives_an_image_the_same_bits_in_every_batch(backbone: str, last: str) -> None:
    embedder = network(backbone, last).embedder
    stem = embedder.stem
    assert stem is not None
    images = pixels(2 * CHUNK + 5)
    for_one_call = stem(images, batch_invariant=True)
    assert not stem.batch_invariant
    embedder.make_batch_invariant()
    assert torch.equal(stem(images), for_one_call)
    together = stem(images)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    assert torch.equal(stem(images[order]), together[order])
    for index in (0, 7, CHUNK, len(images) - 1):
        assert torch.equal(stem(images[index : index + 1])[0], together[index])


@pytest.mark.parametrize(("backbone", "last"), CUTS)
def test_a_query_runs_the_stem_on_its_own_image_only(backbone: str, last: str) -> None:
    """Its embedding may differ in the last bits from that of the same image in a large batch."""
    embedder = network(backbone, last).embedder
    assert embedder.stem is not None
    sizes: list[int] = []
    embedder.stem.layers[0].register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    images = pixels(CHUNK + 3)
    with torch.no_grad():
        gallery = embedder(images)
        assert sizes == [CHUNK, 3]
        sizes.clear()
        queries = torch.cat([embedder(images[index : index + 1]) for index in range(len(images))])
        assert sizes == [1] * len(images)
        sizes.clear()
        embedder.prepare(images[:1], batch_invariant=True)
        assert sizes == [CHUNK]
    assert (queries.double() * gallery.double()).sum(1).min() > 1 - 1e-6


def test_without_a_frozen_part_every_batch_is_run_as_it_is() -> None:
    embedder = network(frozen=None).embedder
    embedder.make_batch_invariant()
    images = pixels(3)
    assert torch.equal(embedder.prepare(images, batch_invariant=True), images)


def test_mixed_precision_and_layout_leave_activations_alone() -> None:
    stem = network().embedder.stem
    assert stem is not None
    images, expected = pixels(3), stem(pixels(3))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(stem(images), expected)
    assert torch.equal(stem(images.contiguous(memory_format=torch.channels_last)), expected)


def test_no_images_have_no_activations() -> None:
    stem = network().embedder.stem
    assert stem is not None
    assert stem(pixels(0)).shape == (0, *stem(pixels(1)).shape[1:])


def test_embeddings_from_pixels_and_from_activations_agree_to_the_bit() -> None:
    cut = network()
    images = torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        prepared = cut.embedder.prepare(images)
        assert torch.equal(cut.embedder.prepare(prepared), prepared)
        assert torch.equal(cut(prepared)[0], cut(images)[0])
        torch.testing.assert_close(cut(images)[0], network(frozen=None)(images)[0], rtol=1e-5, atol=1e-6)


def test_a_cut_network_has_the_state_of_an_uncut_one() -> None:
    cut, whole = network(), network(frozen=None)
    assert tiny.same(tiny.weights(cut), tiny.weights(whole))
    assert [name for name, _ in cut.named_modules()] == [name for name, _ in whole.named_modules()]
    assert len(list(cut.parameters())) == len(list(whole.parameters()))
    assert fingerprint(cut.embedder, {}) == fingerprint(whole.embedder, {})


def test_a_copy_shares_nothing() -> None:
    original = network()
    copied = copy.deepcopy(original)
    images = pixels(2)
    with torch.no_grad():
        before = original(images)[0]
        for value in (*copied.parameters(), *(buffer for buffer in copied.buffers() if buffer.is_floating_point())):
            value.add_(0.1)
        assert torch.equal(original(images)[0], before)
        assert copied.embedder.stem is not None
        assert copied.embedder.stem.backbone is copied.embedder.backbone
        parts = copied.embedder.stem.tail(copied.embedder.stem(images))
        torch.testing.assert_close(parts, copied.embedder.backbone(images), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(parts, original.embedder.backbone(images), atol=1e-3)


@pytest.mark.parametrize("batchnorm", ["never", "after_first", "always"])
def test_frozen_layers_never_change_and_others_do(batchnorm: str, tmp_path: Path) -> None:
    learner: Method = tiny.learner("mmd", network().options)
    stem = learner.network.embedder.stem
    assert stem is not None
    options = tiny.TRAINING.model_copy(update={"freeze_batchnorm": batchnorm})
    frozen = [tiny.weights(layer) for layer in stem.layers]
    rest = tiny.weights(stem.tail)
    for session in tiny.two_sessions(tmp_path):
        learn(learner, session, tiny.loader(session.train), options, 0)
        assert all(tiny.same(tiny.weights(layer), was) for layer, was in zip(stem.layers, frozen, strict=True))
        assert not any(parameter.requires_grad for layer in stem.layers for parameter in layer.parameters())
        learner.train()
        assert not any(part.training for layer in stem.layers for part in layer.modules())
        statistics = learner.network.embedder.backbone.layer4[0].bn1
        assert statistics.training is (
            batchnorm == "never" or (batchnorm == "after_first" and not learner.network.batchnorm_frozen)
        )
        now = tiny.weights(stem.tail)
        changed = {name for name in rest if not torch.equal(now[name], rest[name])}
        assert any(name.startswith("layer4") for name in changed)
        assert not any(name.startswith(("conv1", "bn1", "layer1")) for name in changed)
        rest = now


class Steps(nn.Module):
    """A backbone that behaves differently in training: it drops half of the inputs of its last layer."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.unused = nn.Conv2d(3, 4, 3)
        self.last = nn.Conv2d(4, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(nn.functional.dropout(self.first(images), 0.5, self.training))


def test_the_tail_is_in_the_mode_of_the_backbone() -> None:
    torch.manual_seed(0)
    backbone = Steps().train()
    stem = Stem(backbone, "first")
    assert backbone.training
    assert backbone.last.training
    maps = stem(pixels(1))
    assert not torch.equal(stem.tail(maps), stem.tail(maps))
    backbone.eval()
    assert torch.equal(stem.tail(maps), stem.tail(maps))


def test_a_module_that_does_not_run_cannot_be_the_last() -> None:
    with pytest.raises(ConfigError, match=r"does not run 'unused'; name a module that it runs"):
        Stem(Steps(), "unused")


def test_an_unknown_module_is_named_with_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"network\.frozen: .*no module 'layer11'.*Did you mean 'layer1'.*conv1"
    ) as no:
        network(frozen="layer11")
    assert "\n" not in str(no.value)
    with pytest.raises(ConfigError, match="no module ''"):
        network(frozen="")


@pytest.mark.parametrize(
    ("backbone", "last"),
    [("test_vit", "blocks.0"), ("test_resnet", "layer1.0.bn1"), ("test_resnet", "layer2.0.conv1")],
)
def test_what_needs_more_than_the_cut_delivers_is_refused(backbone: str, last: str) -> None:
    with pytest.raises(ConfigError, match=rf"cannot be cut after '{last}' \(.*\); name the last module of a") as no:
        network(backbone, last)
    assert "\n" not in str(no.value)
