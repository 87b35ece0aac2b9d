"""Maximum mean discrepancy between old and new embeddings."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from scrubjay.errors import ConfigError
from scrubjay.losses._precision import full_precision

Kernels = Literal["one", "five"]
Normalisation = Literal["pairs", "samples"]

_FACTORS = {"one": (1.0,), "five": (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)}


@full_precision
def mmd(
    z_o: Tensor,
    z_n: Tensor,
    *,
    sigma: float | None = None,
    kernels: Kernels = "one",
    biased: bool = True,
    normalisation: Normalisation = "pairs",
    squared: bool = False,
) -> Tensor:
    """Distance of the distributions of old and new embeddings; which image has which embedding does not matter.

    L_mmd = √max(0, MMD²)

    biased:    MMD² = 1/B² Σ_ij h_ij                     (the paper; never negative but for rounding)
    unbiased:  MMD² = 1/(B(B−1)) Σ_{i≠j} h_ij            (may be negative; 0 for B = 1)
    h_ij = k(z_o,i, z_o,j) + k(z_n,i, z_n,j) − k(z_o,i, z_n,j) − k(z_n,i, z_o,j)
    k(a, b) = mean over c of exp(−‖a − b‖² / 2cσ²),   c ∈ {1} or {1/8, 1/4, 1/2, 1, 2}
    σ² = given, or the mean of ‖a − b‖² over all pairs of distinct rows of the 2B pooled embeddings, a constant for the
         gradient

    Normalisation "samples" multiplies MMD² by B, and so the root by √B. The objective is also found written with 1/B in
    front of the bracket under the root, while its derivation, as the squared distance of two means, gives 1/B². The
    latter is meant: it does not grow with the batch. The other is offered for comparison.

    The unbiased form leaves out the pairs i = j of the cross terms too, because z_o,i and z_n,i show the same image
    and are not independent; like the biased form it is exactly 0 where z_n = z_o, as at the first step of a session.

    The root has an infinite slope at 0. Where MMD² ≤ 0 the value and the gradient are set to 0: the biased MMD² has
    its minimum there, so 0 is a subgradient, and a negative estimate means that no difference was found. Only numbers
    above 0 ever enter the root.

    Displacements of size δ change h_ij by about δ², below the resolution of float32 for δ = 1e-4. All sums are
    therefore computed in float64; the error of the result is that of the embeddings themselves, about 1e-7/δ in
    float32.

    Args:
        z_o: (B, d) embeddings by the teacher.
        z_n: (B, d) embeddings of the same images by the network being trained.
        sigma: σ > 0, in units of distance; None computes it from the batch.
        kernels: one Gaussian, or the mean of five with DAN's bandwidths around σ².
        biased: which of the two estimates.
        normalisation: "pairs" as above, or "samples" for B times that.
        squared: return MMD² itself (then the unbiased estimate may be negative).

    Returns:
        Scalar, float32 for float32 and narrower inputs; 0, with a gradient of 0, for equal inputs and for B = 0.

    Raises:
        ConfigError: `sigma` is not above 0, or `kernels` or `normalisation` is unknown.

    Source: Gretton et al., A Kernel Two-Sample Test, JMLR 2012, lemma 6 and equation 5; Chen et al., BMVC 2020; the
    bandwidths: Long et al., Learning Transferable Features with Deep Adaptation Networks, ICML 2015.
    """
    if sigma is not None and not sigma > 0:
        raise ConfigError(f"sigma = {sigma} is not above 0: give a distance, or None to compute it from the batch")
    if kernels not in _FACTORS:
        raise ConfigError(f"kernels {kernels!r} is unknown: choose 'one' or 'five'")
    if normalisation not in ("pairs", "samples"):
        raise ConfigError(f"normalisation {normalisation!r} is unknown: choose 'pairs' or 'samples'")
    B, dtype = len(z_o), z_n.dtype
    z_o, z_n = z_o.double(), z_n.double()
    # three products of one shape, not one of the pooled 2B: the same numbers at the same places of the vectorised exp
    # give the same bits, so that equal inputs give exactly 0
    oo, nn, on = _squared_distances(z_o, z_o), _squared_distances(z_n, z_n), _squared_distances(z_o, z_n)
    sigma2 = sigma**2 if sigma is not None else _mean_over_pairs(oo, nn, on)
    k_on = _kernel(on, sigma2, _FACTORS[kernels])
    h = (_kernel(oo, sigma2, _FACTORS[kernels]) - k_on) + (_kernel(nn, sigma2, _FACTORS[kernels]) - k_on)
    mmd2 = h.sum() / max(B * B, 1) if biased else (h.sum() - h.trace()) / max(B * (B - 1), 1)
    if normalisation == "samples":
        mmd2 = mmd2 * B
    return (mmd2 if squared else _root(mmd2)).to(dtype)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    # in float64 the fast expansion loses about 1e-16 ‖a‖², far below the squared distances that matter here
    return a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T


def _mean_over_pairs(oo: Tensor, nn: Tensor, on: Tensor) -> Tensor:
    rows = 2 * len(on)
    total = oo.detach().sum() + nn.detach().sum() + 2 * on.detach().sum()
    return (total / max(rows * (rows - 1), 1)).clamp_min(1e-12)  # where all rows are equal, every k is exp(0)


def _kernel(d2: Tensor, sigma2: Tensor | float, factors: tuple[float, ...]) -> Tensor:
    return torch.stack([torch.exp(-d2 / (2 * c * sigma2)) for c in factors]).mean(0)


def _root(x: Tensor) -> Tensor:
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1).sqrt(), 0)
