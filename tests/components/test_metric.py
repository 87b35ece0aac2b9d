from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from scrubjay import _compat as compat
from scrubjay import plugins
from scrubjay.components.metric import Metric, names
from scrubjay.errors import ConfigError
from scrubjay.losses import metric as losses
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
def test_losses_of_the_other_package_learn(name: str, dtype: torch.dtype) -> None:
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


def test_options_reach_the_loss_of_the_other_package() -> None:
    losses = compat.load("pytorch_metric_learning.losses")
    made = metric("pml:TripletMarginLoss", metric_options={"margin": 0.6})
    assert torch.equal(made(units(), LABELS), losses.TripletMarginLoss(margin=0.6)(units(), LABELS))
    centres = metric("pml:SubCenterArcFaceLoss", metric_options={"sub_centers": 4})
    centres.begin(3)
    assert [parameter.numel() for parameter in centres.parameters()] == [6 * 3 * 4]


@pytest.mark.parametrize("name", [*names(), "pml:CircleLoss", "pml:TripletMarginLoss"])
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
        (
            "pml:ManifoldLoss",
            {},
            r"metric 'pml:ManifoldLoss': .*'l'; set method\.metric_options to the arg",
        ),
    ],
)
def test_mistakes_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        metric(name, metric_options=options)
    assert "\n" not in str(caught.value)


def test_a_loss_of_other_things_is_refused() -> None:
    made = metric("pml:VICRegLoss")
    with pytest.raises(ConfigError, match=r"'pml:VICRegLoss' cannot be computed from embeddings and labels"):
        made(units(), LABELS)


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning.losses", None)
    with pytest.raises(ConfigError, match=r"pip install 'scrubjay\[metric\]'"):
        metric("pml:CircleLoss")


def test_none_learns_nothing() -> None:
    made = metric("none")
    made.begin(4)
    assert list(made.state_dict()) == []


def test_a_metric_loss_is_added_by_adding_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its proxies, and the options that it takes over from the method, are said in that file and nowhere else."""
    (tmp_path / "proxy_margin.py").write_text(
        '"""Mean distance to the proxies, less a margin."""\n'
        'FROM_METHOD = ("margin",)\n'
        "def proxy_margin(z, labels, proxies, margin=9.0, power=1):\n"
        "    return ((z - proxies[labels]).norm(dim=1) ** power).mean() - margin\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    known = plugins.names
    monkeypatch.setattr(plugins, "names", lambda role: sorted([*known(role), "proxy_margin"]))
    monkeypatch.delitem(sys.modules, "scrubjay.losses.metric.proxy_margin", raising=False)
    made = metric("proxy-margin", margin=0.25, metric_options={"power": 2})
    made.begin(3)
    assert made.proxies is not None
    expected = (units() - made.proxies[LABELS]).square().sum(1).mean() - 0.25
    torch.testing.assert_close(made(units(), LABELS), expected)
    with pytest.raises(ConfigError, match="Known: contrastive, multi-similarity, proxy-anchor, proxy-margin, supcon"):
        metric("proxy")


@pytest.mark.parametrize("name", plugins.names("losses.metric"))
def test_every_file_of_a_metric_loss_holds_a_function_of_its_name(name: str) -> None:
    function = plugins.load_function("losses.metric", name)
    assert function.__module__ == f"scrubjay.losses.metric.{name}"
    assert list(inspect.signature(function).parameters)[:2] == ["z", "labels"]
