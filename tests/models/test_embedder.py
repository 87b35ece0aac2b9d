from __future__ import annotations

import copy
import math

import pytest
import torch
from pydantic import ValidationError

import tiny
from scrubjay.models.embedder import Embedder, Network, NetworkOptions, Pooling, fingerprint
from scrubjay.models.head import GrowingHead
from scrubjay.training import seeded


def network(**changes: object) -> Network:
    with seeded(0):
        return Network(tiny.NETWORK.model_copy(update=changes)).eval()


@pytest.mark.parametrize("kind", ["avg", "max", "gem"])
def test_pooling_is_its_formula(kind: str) -> None:
    torch.manual_seed(0)
    positions = torch.rand(2, 5, 3) + 0.1
    found = Pooling(kind)(positions).detach()  # type: ignore[arg-type]
    for b in range(2):
        for c in range(3):
            values = [float(positions[b, n, c]) for n in range(5)]
            expected = {
                "avg": sum(values) / 5,
                "max": max(values),
                "gem": (sum(value**3 for value in values) / 5) ** (1 / 3),
            }[kind]
            assert math.isclose(float(found[b, c]), expected, rel_tol=1e-5)


def test_gem_learns_its_power_and_bears_negative_features() -> None:
    pooling = Pooling("gem")
    found = pooling(torch.tensor([[[-1.0, 0.5], [-2.0, 2.0]]]))
    assert torch.isfinite(found).all()
    found.sum().backward()
    assert pooling.power is not None
    assert pooling.power.grad is not None
    assert torch.isfinite(pooling.power.grad)
    assert pooling.power.grad != 0


def test_bytes_and_floats_agree() -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    embedder = network().embedder
    with torch.inference_mode():
        assert torch.equal(embedder(images), embedder(images.float() / 255))


def test_embeddings_have_unit_norm_and_are_float32_in_half_precision() -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        z, _ = network()(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8))
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.norm(dim=1), torch.ones(4))


def test_the_network_normalises_as_its_weights_ask() -> None:
    embedder = network().embedder
    published = embedder.backbone.pretrained_cfg
    assert embedder.mean.flatten().tolist() == pytest.approx(published["mean"])
    assert embedder.std.flatten().tolist() == pytest.approx(published["std"])


def test_the_head_grows_and_never_shrinks() -> None:
    head = GrowingHead(16, 10.0)
    assert head(torch.rand(2, 16)).shape == (2, 0)
    head.grow(3)
    rows = head.weight.detach().clone()
    assert (rows.abs() <= 1 / 4).all()
    assert rows.unique().numel() > 40
    head.grow(5)
    assert torch.equal(head.weight[:3], rows)
    head.grow(2)
    assert head.classes == 5
    z = torch.rand(2, 16)
    torch.testing.assert_close(head(z), 10.0 * (z @ head.weight.T + head.bias))


@pytest.mark.parametrize("stored", [0, 2, 7])
@pytest.mark.parametrize("own", [0, 2, 4])
def test_loading_resizes_the_head(stored: int, own: int) -> None:
    source, target = GrowingHead(8, 1.0), GrowingHead(8, 1.0)
    source.grow(stored)
    target.grow(own)
    target.load_state_dict(source.state_dict())
    assert target.classes == stored
    assert tiny.same(target.state_dict(), source.state_dict())
    assert target.weight.requires_grad


def test_loading_refuses_another_dimension() -> None:
    source, target = GrowingHead(8, 1.0), GrowingHead(9, 1.0)
    source.grow(2)
    with pytest.raises(RuntimeError, match="size mismatch"):
        target.load_state_dict(source.state_dict())


def test_the_fingerprint_names_the_space_and_nothing_else() -> None:
    plain, before = network(), {"size": 32, "resize": 36}
    space = fingerprint(plain.embedder, before)
    assert len(space) == 32
    assert int(space, 16) >= 0
    assert fingerprint(network().embedder, dict(reversed(before.items()))) == space
    assert fingerprint(copy.deepcopy(plain.embedder).train(), before) == space
    assert fingerprint(network().embedder.to(memory_format=torch.contiguous_format), before) == space
    plain.head.grow(5)
    assert fingerprint(plain.embedder, before) == space
    assert fingerprint(network(logit_scale=3.0).embedder, before) == space


def test_the_fingerprint_changes_with_what_moves_vectors() -> None:
    before = {"size": 32, "resize": 36}
    spaces = [
        fingerprint(network().embedder, before),
        fingerprint(network().embedder, before | {"size": 31}),
        fingerprint(network(pooling="max").embedder, before),
        fingerprint(network(dim=9).embedder, before),
    ]
    for name in ("projection.bias", "backbone.conv1.0.weight", "backbone.conv1.1.running_var", "mean", "std"):
        other = network()
        with torch.no_grad():
            other.embedder.state_dict()[name].add_(1e-3)
        spaces.append(fingerprint(other.embedder, before))
    assert len(set(spaces)) == len(spaces)


def test_the_same_seed_makes_the_same_network() -> None:
    assert tiny.same(tiny.weights(network()), tiny.weights(network()))


def test_options_out_of_range_are_refused() -> None:
    for wrong in ({"dim": 1}, {"logit_scale": 0}, {"pooling": "sum"}):
        with pytest.raises(ValidationError):
            NetworkOptions.model_validate(wrong)


def test_batchnorm_frozen_stays_in_evaluation_mode() -> None:
    trained = network()
    trained.freeze_batchnorm(True)
    trained.train()
    layers = [layer for layer in trained.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert layers
    assert not any(layer.training for layer in layers)
    assert isinstance(trained.embedder, Embedder)
    assert trained.embedder.training
    trained.freeze_batchnorm(False)
    assert all(layer.training for layer in layers)
    assert all(parameter.requires_grad for parameter in trained.parameters())
