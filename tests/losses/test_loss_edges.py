"""What must hold for all losses alike: gradients, precision, and batches at the edge of sense."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from scrubjay.errors import ConfigError
from scrubjay.losses.adversarial import adversarial, deception
from scrubjay.losses.affinity import affinity
from scrubjay.losses.cross_entropy import cross_entropy
from scrubjay.losses.distillation import distillation
from scrubjay.losses.fecd import fecd
from scrubjay.losses.info_nce import info_nce
from scrubjay.losses.kl import kl
from scrubjay.losses.l2 import cosine, l2
from scrubjay.losses.layerwise import pod, squares
from scrubjay.losses.metric.contrastive import contrastive
from scrubjay.losses.metric.multi_similarity import multi_similarity
from scrubjay.losses.metric.proxy_anchor import proxy_anchor
from scrubjay.losses.metric.supcon import supcon
from scrubjay.losses.metric.triplet import triplet
from scrubjay.losses.mmd import mmd
from scrubjay.losses.projection import projection
from scrubjay.losses.quadratic import asymmetric, quadratic

D = 6
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

# (old, new, labels) -> loss; the columns of `old` and `new` serve as embeddings or as logits
LOSSES: dict[str, Loss] = {
    "cross_entropy": lambda o, n, y: cross_entropy(n, y + 2, first=2),
    "triplet": lambda o, n, y: triplet(n, y, 0.5),
    "triplet_semi_hard": lambda o, n, y: triplet(n, y, 0.5, "semi-hard"),
    "distillation": lambda o, n, y: distillation(o, n),
    "kl": lambda o, n, y: kl(o, n, 2.0, rescale=True),
    "l2": lambda o, n, y: l2(o, n),
    "cosine": lambda o, n, y: cosine(o, n),
    "mmd": lambda o, n, y: mmd(o, n, sigma=0.5),
    "mmd_heuristic": lambda o, n, y: mmd(o, n),
    "mmd_five": lambda o, n, y: mmd(o, n, kernels="five", sigma=0.5),
    "mmd_unbiased": lambda o, n, y: mmd(o, n, biased=False, sigma=0.5),
    "mmd_squared": lambda o, n, y: mmd(o, n, sigma=0.5, squared=True),
    "fecd": lambda o, n, y: fecd(o, n),
    "affinity": affinity,
    "adversarial": lambda o, n, y: adversarial(o[:, :2].log_softmax(1), n[:, :2].log_softmax(1)),
    "deception": lambda o, n, y: deception(n[:, :2].log_softmax(1)),
    "projection": lambda o, n, y: projection(o, n),
    "projection_norm": lambda o, n, y: projection(o, n, squared=False),
    "pod": lambda o, n, y: pod(o.reshape(-1, 1, 2, 3), n.reshape(-1, 1, 2, 3)),
    "squares": lambda o, n, y: squares(o.reshape(-1, 1, 2, 3), n.reshape(-1, 1, 2, 3)),
    "info_nce": info_nce,
    "quadratic": lambda o, n, y: quadratic(n, o, o.abs()),
    "asymmetric": lambda o, n, y: asymmetric(n, o, o.abs(), o + 1, a=2.0),
    "contrastive": lambda o, n, y: contrastive(n, y),
    "multi_similarity": lambda o, n, y: multi_similarity(n, y),
    "supcon": lambda o, n, y: supcon(n, y),
    "proxy_anchor": lambda o, n, y: proxy_anchor(n, y, torch.eye(4, D, dtype=n.dtype)),
}
HOLD_A_CONSTANT = {"affinity", "mmd_heuristic"}  # for the gradient, by definition: compared elsewhere
every_loss = pytest.mark.parametrize("name", LOSSES)


def batch(size: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    old, new = (normalize(torch.randn(size, D, generator=generator), dim=1).to(dtype) for _ in range(2))
    return old, new.requires_grad_(), torch.arange(size) % 3


def gradient(loss: Tensor, new: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(loss, new)
    return result


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - HOLD_A_CONSTANT))
def test_gradient_is_that_of_the_formula(name: str) -> None:
    old, new, labels = batch(7)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](old, x, labels), new)


def test_mmd_takes_sigma_as_a_constant() -> None:
    old, new, _ = batch(7)
    sigma = torch.pdist(torch.cat([old, new.detach()])).square().mean().sqrt().item()
    torch.testing.assert_close(gradient(mmd(old, new), new), gradient(mmd(old, new, sigma=sigma), new))


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_inputs_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    old, new, labels = batch(7, dtype)
    loss = LOSSES[name](old, new, labels)
    assert loss.dtype == torch.float32
    wide = new.detach().float().requires_grad_()
    expected = LOSSES[name](old.float(), wide, labels)
    # where the case itself takes a log-softmax in `dtype`, or adds 1 in it, its rounding remains
    torch.testing.assert_close(loss, expected, rtol=2e-2, atol=1e-3)
    slope = gradient(loss, new)
    assert slope.dtype == dtype
    torch.testing.assert_close(slope.float(), gradient(expected, wide), rtol=5e-2, atol=2e-2)


@every_loss
def test_autocast_changes_nothing(name: str) -> None:
    old, new, labels = batch(7, torch.float32)
    plain = LOSSES[name](old, new, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = LOSSES[name](old, new, labels)
    assert torch.equal(plain, inside)
    assert inside.dtype == torch.float32


def situations() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    old, new, labels = batch(7, torch.float32)
    alone = batch(1, torch.float32)
    nobody = batch(0, torch.float32)
    point = old[:1].expand(7, D).clone()
    return {
        "as before": (old, old.clone().requires_grad_(), labels),
        "one class": (old, new, torch.zeros_like(labels)),
        "each its own class": (old[:4], new.detach()[:4].clone().requires_grad_(), torch.arange(4)),
        "one image": alone,
        "no image": nobody,
        "all in one point": (point, point.clone().requires_grad_(), labels),
        "all zero": (torch.zeros(7, D), torch.zeros(7, D, requires_grad=True), labels),
    }


UNMOVED = "kl l2 mmd mmd_heuristic mmd_five mmd_unbiased mmd_squared fecd projection projection_norm pod squares"
ZERO = {  # the losses that are 0, and whose gradient is 0, in that situation
    "as before": f"{UNMOVED} quadratic asymmetric",
    "one class": "triplet triplet_semi_hard info_nce multi_similarity",
    "each its own class": "triplet triplet_semi_hard multi_similarity supcon",
    "one image": "triplet triplet_semi_hard mmd_unbiased fecd affinity info_nce contrastive multi_similarity supcon",
    "no image": " ".join(LOSSES),
    "all in one point": f"{UNMOVED} quadratic asymmetric",
    "all zero": f"{UNMOVED} quadratic asymmetric",
}


@every_loss
@pytest.mark.parametrize("situation", ZERO)
def test_edges_are_finite_and_as_documented(name: str, situation: str) -> None:
    old, new, labels = situations()[situation]
    loss = LOSSES[name](old, new, labels)
    slope = gradient(loss, new)
    assert torch.isfinite(loss)
    assert torch.isfinite(slope).all()
    if name in ZERO[situation].split():
        assert loss == 0
        torch.testing.assert_close(slope, torch.zeros_like(slope))


@pytest.mark.parametrize("loss", [distillation, kl])
def test_without_old_classes_there_is_nothing_to_keep(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    new = torch.empty(3, 0, requires_grad=True)
    value = loss(torch.empty(3, 0), new)
    assert value == 0
    assert gradient(value, new).shape == (3, 0)


@every_loss
def test_order_of_the_batch_does_not_matter(name: str) -> None:
    old, new, labels = batch(8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(LOSSES[name](old, new, labels), LOSSES[name](old[order], new[order], labels[order]))


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_mmd_refuses_a_sigma_that_is_no_distance(sigma: float) -> None:
    with pytest.raises(ConfigError, match=f"sigma = {sigma} is not above 0"):
        mmd(torch.eye(2), torch.eye(2), sigma=sigma)


def test_unknown_options_are_named() -> None:
    with pytest.raises(ConfigError, match="mining 'soft' is unknown"):
        triplet(torch.eye(2), torch.arange(2), mining="soft")
    with pytest.raises(ConfigError, match="kernels 'six' is unknown"):
        mmd(torch.eye(2), torch.eye(2), kernels="six")
