"""MMD against loops over numbers: its estimates, kernels and normalisations, and small displacements in float32."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from loss_loops import NEW, OLD, Z_N, Z_O, B, Vector, dist2, same, unit

from scrubjay.errors import ConfigError
from scrubjay.losses.mmd import mmd

KERNELS = pytest.mark.parametrize(
    ("kernels", "factors"), [("one", [1.0]), ("five", [0.125, 0.25, 0.5, 1.0, 2.0])], ids=["one", "five"]
)


def by_loops(
    old: list[Vector], new: list[Vector], sigma: float | None, factors: list[float], biased: bool, divisor: int
) -> float:
    pool = [*old, *new]
    between = [dist2(a, b) for i, a in enumerate(pool) for j, b in enumerate(pool) if i != j]
    sigma2 = sigma**2 if sigma else sum(between) / len(between)

    def k(a: Vector, b: Vector) -> float:
        return sum(math.exp(-dist2(a, b) / (2 * c * sigma2)) for c in factors) / len(factors)

    terms = []
    for i in range(len(old)):
        for j in range(len(old)):
            if biased or i != j:
                terms += [k(old[i], old[j]), k(new[i], new[j]), -k(old[i], new[j]), -k(new[i], old[j])]
    return math.fsum(terms) / divisor


@pytest.mark.parametrize("normalisation", ["pairs", "samples"])
@pytest.mark.parametrize("biased", [True, False])
@KERNELS
@pytest.mark.parametrize("sigma", [None, 0.7])
def test_mmd(sigma: float | None, kernels: Any, factors: list[float], biased: bool, normalisation: Any) -> None:
    divisor = B if biased else B - 1
    squared = by_loops(OLD, NEW, sigma, factors, biased, divisor * B if normalisation == "pairs" else divisor)
    options: dict[str, Any] = {"sigma": sigma, "kernels": kernels, "biased": biased, "normalisation": normalisation}
    same(mmd(Z_O, Z_N, squared=True, **options), squared)
    same(mmd(Z_O, Z_N, **options), math.sqrt(max(0.0, squared)))


def test_pairs_are_the_default() -> None:
    assert mmd(Z_O, Z_N) == mmd(Z_O, Z_N, normalisation="pairs")
    assert mmd(Z_O, Z_N, normalisation="samples").item() == pytest.approx(math.sqrt(B) * mmd(Z_O, Z_N).item())


@pytest.mark.parametrize("displacement", [1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("biased", [True, False])
@KERNELS
def test_small_displacements_in_float32(displacement: float, biased: bool, kernels: Any, factors: list[float]) -> None:
    """At 1e-4 a kernel's sum moves by 1e-8, which float32 cannot hold beside 1; the embeddings do hold the move."""
    size, dim = 12, 64
    z_o = unit(size, dim, seed=1)
    z_n = z_o + displacement * (unit(size, dim, seed=2) + unit(1, dim, seed=3))
    z_o, z_n = z_o.float(), z_n.float().requires_grad_()
    old, new = z_o.tolist(), z_n.tolist()
    expected = by_loops(old, new, 0.7, factors, biased, size * (size if biased else size - 1))
    squared = mmd(z_o, z_n, sigma=0.7, kernels=kernels, biased=biased, squared=True)
    assert squared.dtype == torch.float32
    assert squared.item() == pytest.approx(expected, rel=1e-5)
    root = mmd(z_o, z_n, sigma=0.7, kernels=kernels, biased=biased)
    assert root.item() == pytest.approx(math.sqrt(max(0.0, expected)), rel=1e-5)
    (gradient,) = torch.autograd.grad(root, z_n)
    wide = z_n.detach().double().requires_grad_()
    (precise,) = torch.autograd.grad(mmd(z_o.double(), wide, sigma=0.7, kernels=kernels, biased=biased), wide)
    torch.testing.assert_close(gradient.double(), precise, rtol=1e-5, atol=1e-8)


def test_unbiased_mmd_may_be_negative_and_its_root_is_then_0() -> None:
    z_o = torch.tensor([[0.0], [1.0]], requires_grad=True)
    z_n = torch.tensor([[1.0], [0.0]], requires_grad=True)
    assert mmd(z_o, z_n, sigma=1.0, biased=False, squared=True) < 0
    root = mmd(z_o, z_n, sigma=1.0, biased=False)
    assert root == 0
    assert not any(g.any() for g in torch.autograd.grad(root, [z_o, z_n]))


def test_an_unknown_normalisation_is_named() -> None:
    with pytest.raises(ConfigError, match="normalisation 'batch' is unknown: choose 'pairs' or 'samples'"):
        mmd(Z_O, Z_N, normalisation="batch")  # type: ignore[arg-type]
