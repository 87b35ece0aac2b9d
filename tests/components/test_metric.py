from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from scrubjay import _compat as compat
from scrubjay.components.metric import FUNCTIONS, Metric
from scrubjay.errors import ConfigError
from scrubjay.losses.metric.contrastive import contrastive
from scrubjay.losses.metric.multi_similarity import multi_similarity
from scrubjay.losses.metric.proxy_anchor import proxy_anchor
from scrubjay.losses.metric.supcon import supcon
from scrubjay.losses.metric.triplet import triplet
from scrubjay.methods import MethodOptions

LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
PEERS = (
    "ArcFaceLoss",
    "CircleLoss",
    "CosFaceLoss",
    "NormalizedSoftmaxLoss",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "SoftTripleLoss",
    "SubCenterArcFaceLoss",
    "TripletMarginLoss",
)


def metric(name: str, **options: Any) -> Metric:
    return Metric(MethodOptions.parse({"metric": name, **options}), 6)


def units(number: int = 8) -> Tensor:
    return normalize(torch.randn(number, 6, generator=torch.Generator().manual_seed(0)), dim=1)


@pytest.mark.parametrize(
    ("name", "options", "function"),
    [
        ("contrastive", {"margin": 0.7}, contrastive),
        ("multi-similarity", {"beta": 20.0, "epsilon": None}, multi_similarity),
        ("supcon", {"temperature": 0.3}, supcon),
    ],
)
def test_our_own_are_their_functions(name: str, options: dict[str, Any], function: Any) -> None:
    made = metric(name, metric_options=options)
    assert made.name == name
    assert list(made.parameters()) == []
    assert torch.equal(made(units(), LABELS), function(units(), LABELS, **options))
    assert not torch.equal(made(units(), LABELS), function(units(), LABELS))


def test_the_triplet_has_the_options_of_the_method_and_its_own_before_them() -> None:
    one = metric("triplet", margin=0.4, mining="semi-hard")
    assert torch.equal(one(units(), LABELS), triplet(units(), LABELS, 0.4, "semi-hard"))
    other = metric("triplet", margin=0.4, mining="semi-hard", metric_options={"margin": 0.9})
    assert torch.equal(other(units(), LABELS), triplet(units(), LABELS, 0.9, "semi-hard"))


def test_proxies_are_one_a_class_and_of_one_session() -> None:
    made = metric("proxy-anchor", metric_options={"alpha": 8.0})
    keys = list(made.state_dict())
    assert keys == ["proxies"]
    for classes in (3, 5, 5):
        before = made.proxies
        made.begin(classes)
        assert made.proxies is not None
        assert made.proxies is not before
        assert made.proxies.shape == (classes, 6)
        assert made.proxies.requires_grad
        assert torch.equal(made(units(), LABELS), proxy_anchor(units(), LABELS, made.proxies, alpha=8.0))
        made(units(), LABELS).backward()
        assert made.proxies.grad is not None
        assert made.proxies.grad.abs().sum() > 0
        assert list(made.state_dict()) == keys


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_those_of_the_peer_learn(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    made = metric(f"pml:{name}")
    keys = list(made.state_dict())
    made.begin(3)
    assert list(made.state_dict()) == keys
    assert made.name == name
    z = units().requires_grad_()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        value = made(z, LABELS)
    assert value.shape == ()
    assert torch.isfinite(value)
    assert value > 0
    value.backward()
    for learned in (z, *made.parameters()):
        assert learned.grad is not None
        assert torch.isfinite(learned.grad).all()
        assert learned.grad.abs().sum() > 0


def test_the_options_of_the_peer_reach_it() -> None:
    losses = compat.load("pytorch_metric_learning.losses")
    made = metric("pml:TripletMarginLoss", metric_options={"margin": 0.6})
    assert torch.equal(made(units(), LABELS), losses.TripletMarginLoss(margin=0.6)(units(), LABELS))
    centres = metric("pml:SubCenterArcFaceLoss", metric_options={"sub_centers": 4})
    centres.begin(3)
    assert [parameter.numel() for parameter in centres.parameters()] == [6 * 3 * 4]


@pytest.mark.parametrize("name", [*(name for name in FUNCTIONS), "pml:CircleLoss", "pml:TripletMarginLoss"])
def test_one_image_and_one_class_are_no_trouble(name: str) -> None:
    made = metric(name)
    for labels in (LABELS[:1], LABELS[:3]):
        z = units(len(labels)).requires_grad_()
        value = made(z, labels)
        assert torch.isfinite(value)
        if value.requires_grad:
            value.backward()
            assert z.grad is None or torch.isfinite(z.grad).all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("triplets", {}, r"unknown metric 'triplets'\. Did you mean 'triplet'\? Known: .*none, pml:NAME"),
        ("supcon", {"margin": 1}, r"metric 'supcon' has no option 'margin'; it has: temperature"),
        ("proxy-anchor", {"proxies": 1}, r"has no option 'proxies'; it has: margin, alpha"),
        ("pml:CircelLoss", {}, r"no loss 'CircelLoss'\. Did you mean 'CircleLoss'\?"),
        ("pml:Tensor", {}, r"no loss 'Tensor'"),
        ("pml:CircleLoss", {"gama": 3}, r"metric 'pml:CircleLoss': .*'gama'.*; set method\.metric_options"),
        ("pml:ManifoldLoss", {}, r"metric 'pml:ManifoldLoss': .*'l'; set method\.metric_options to what it takes"),
    ],
)
def test_mistakes_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        metric(name, metric_options=options)
    assert "\n" not in str(caught.value)


def test_a_loss_of_other_things_is_refused() -> None:
    made = metric("pml:VICRegLoss")
    with pytest.raises(ConfigError, match=r"'pml:VICRegLoss' cannot be had of embeddings and labels"):
        made(units(), LABELS)


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(ConfigError, match=r"pip install 'scrubjay\[metric\]'"):
        metric("pml:CircleLoss")


def test_none_learns_nothing() -> None:
    made = metric("none")
    made.begin(4)
    assert list(made.state_dict()) == []
