"""What each loss must do for any input."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from scrubjay.losses.affinity import affinity
from scrubjay.losses.distillation import distillation
from scrubjay.losses.fecd import fecd
from scrubjay.losses.kl import kl
from scrubjay.losses.l2 import cosine, l2
from scrubjay.losses.metric.multi_similarity import multi_similarity
from scrubjay.losses.metric.supcon import supcon
from scrubjay.losses.metric.triplet import triplet
from scrubjay.losses.mmd import mmd
from scrubjay.losses.projection import procrustes, projection

seeds = st.integers(0, 2**31)
sizes = st.integers(1, 9)
kernels = st.sampled_from(["one", "five"])
minings = st.sampled_from(["hard", "semi-hard"])
sigmas = st.none() | st.floats(0.05, 5)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def spheres(seed: int, size: int) -> tuple[Tensor, Tensor]:
    old, new = draw(seed, 2, size, 3)
    return normalize(old, dim=1), normalize(new, dim=1)


@given(seeds, sizes, kernels, sigmas)
def test_mmd_is_a_distance_of_distributions(seed: int, size: int, kernels: str, sigma: float | None) -> None:
    z_o, z_n = spheres(seed, size)
    shuffled = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    distance = mmd(z_o, z_n, kernels=kernels, sigma=sigma)
    assert 0 <= distance <= math.sqrt(2) + 1e-9  # the kernel is at most 1
    torch.testing.assert_close(distance, mmd(z_n, z_o, kernels=kernels, sigma=sigma))
    torch.testing.assert_close(distance, mmd(z_o, z_n[shuffled], kernels=kernels, sigma=sigma), rtol=1e-6, atol=1e-6)
    assert mmd(z_o, z_o, kernels=kernels, sigma=sigma) == 0
    assert mmd(z_o, z_o, kernels=kernels, sigma=sigma, biased=False) == 0
    assert mmd(z_o, z_o[shuffled], kernels=kernels, sigma=sigma, squared=True).abs() < 1e-12


@given(seeds, sizes, st.floats(0.5, 5), st.floats(-50, 50))
def test_distillation_is_least_where_nothing_changed(seed: int, size: int, T: float, shift: float) -> None:
    old, new = draw(seed, 2, size, 4)
    entropy = distillation(old, old, T)
    p = (old / T).softmax(1)
    torch.testing.assert_close(entropy, torch.special.entr(p).sum() / size)
    assert distillation(old, new, T) >= entropy - 1e-12
    torch.testing.assert_close(distillation(old, new, T), distillation(old + shift, new - 2 * shift, T))
    torch.testing.assert_close(kl(old, new, T), distillation(old, new, T) - entropy)


@given(seeds, sizes, st.floats(0, 1), minings)
def test_triplet(seed: int, size: int, margin: float, mining: str) -> None:
    z, _ = spheres(seed, size)
    labels = torch.randint(3, (size,), generator=torch.Generator().manual_seed(seed))
    loss = triplet(z, labels, margin, mining)
    assert 0 <= loss <= margin + 2
    assert loss <= triplet(z, labels, margin + 0.1, mining) + 1e-12
    Q = torch.linalg.qr(draw(seed, 3, 3)).Q
    torch.testing.assert_close(loss, triplet(z @ Q, 7 - labels, margin, mining))


@given(seeds, sizes)
def test_relations_ignore_a_common_rotation(seed: int, size: int) -> None:
    z_o, z_n = spheres(seed, size)
    labels = torch.arange(size) % 2
    Q = torch.linalg.qr(draw(seed, 3, 3)).Q
    for relation in (fecd(z_o, z_n @ Q) - fecd(z_o, z_n), fecd(z_o, z_o @ Q)):
        torch.testing.assert_close(relation, torch.zeros_like(relation), atol=1e-9, rtol=0)
    assert affinity(z_o, z_n, labels) >= -1e-12
    torch.testing.assert_close(projection(z_o, z_o @ Q @ procrustes(z_o @ Q, z_o)), z_o.new_zeros(()))


@given(seeds, sizes)
def test_procrustes_never_makes_it_worse(seed: int, size: int) -> None:
    z_o, z_n = spheres(seed, size)
    assert l2(z_o, z_n @ procrustes(z_n, z_o)) <= l2(z_o, z_n) + 1e-12
    torch.testing.assert_close(l2(z_o, z_n), 2 * cosine(z_o, z_n))


@given(seeds, st.integers(2, 9))
def test_metric_losses_are_never_negative_and_blind_to_names(seed: int, size: int) -> None:
    z, _ = spheres(seed, size)
    labels = torch.randint(3, (size,), generator=torch.Generator().manual_seed(seed))
    for loss in (multi_similarity, supcon):
        assert loss(z, labels) >= 0
        torch.testing.assert_close(loss(z, labels), loss(z, 40 - 3 * labels))
