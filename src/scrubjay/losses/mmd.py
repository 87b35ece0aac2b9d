"""Maximum mean discrepancy between the embeddings before and now."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from scrubjay.errors import ConfigError
from scrubjay.losses._precision import full_precision

Kernels = Literal["one", "five"]

_FACTORS = {"one": (1.0,), "five": (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)}


@full_precision
def mmd(
    z_o: Tensor,
    z_n: Tensor,
    *,
    sigma: float | None = None,
    kernels: Kernels = "one",
    biased: bool = True,
    squared: bool = False,
) -> Tensor:
    """The cloud of embeddings stays the same cloud; which image went where does not count.

    L_mmd = √max(0, MMD²)

    biased:    MMD² = 1/B² Σ_ij h_ij                     (the paper; never negative but for rounding)
    unbiased:  MMD² = 1/(B(B−1)) Σ_{i≠j} h_ij            (may be negative; 0 for B = 1)
    h_ij = k(z_o,i, z_o,j) + k(z_n,i, z_n,j) − k(z_o,i, z_n,j) − k(z_n,i, z_o,j)
    k(a, b) = mean over c of exp(−‖a − b‖² / 2cσ²),   c ∈ {1} or {1/8, 1/4, 1/2, 1, 2}
    σ² = given, or the mean of ‖a − b‖² over all pairs of different places in the 2B pooled embeddings, a constant
         for the gradient

    The unbiased form leaves out the pairs i = j of the cross terms too, because z_o,i and z_n,i show the same image
    and are not independent; like the biased form it is exactly 0 where z_n = z_o, as at the first step of a session.

    The root has an infinite slope at 0. Where MMD² ≤ 0 the value and the gradient are set to 0: the biased MMD² is
    least there, so 0 is a subgradient, and a negative estimate says that there is nothing to mend. Only numbers above
    0 ever enter the root. In float32 the root is exact to a few per cent from displacements of about 1e-4 on.

    Args:
        z_o: (B, d) embeddings by the teacher.
        z_n: (B, d) embeddings of the same images by the network being trained.
        sigma: σ > 0, in units of distance; None takes it from the batch.
        kernels: one Gaussian, or the mean of five with DAN's bandwidths around σ².
        biased: which of the two estimates.
        squared: return MMD² itself (the unbiased estimate then as it is, negative or not).

    Returns:
        Scalar; 0, with a gradient of 0, for equal inputs and for B = 0.

    Raises:
        ConfigError: `sigma` is not above 0, or `kernels` is unknown.

    Source: Gretton et al., A Kernel Two-Sample Test, JMLR 2012, lemma 6 and equation 5; Chen et al., BMVC 2020; the
    bandwidths: Long et al., Learning Transferable Features with Deep Adaptation Networks, ICML 2015.
    """
    if sigma is not None and not sigma > 0:
        raise ConfigError(f"sigma = {sigma} is not above 0: give a distance, or None for that of the batch")
    if kernels not in _FACTORS:
        raise ConfigError(f"kernels {kernels!r} is unknown: choose 'one' or 'five'")
    B = len(z_o)
    # three products of one shape, not one of the pooled 2B: the same numbers at the same places of the vectorised exp
    # give the same bits, so that equal inputs give exactly 0
    oo, nn, on = _squared_distances(z_o, z_o), _squared_distances(z_n, z_n), _squared_distances(z_o, z_n)
    sigma2 = sigma**2 if sigma is not None else _mean_over_pairs(oo, nn, on)
    k_on = _kernel(on, sigma2, _FACTORS[kernels])
    h = (_kernel(oo, sigma2, _FACTORS[kernels]) - k_on) + (_kernel(nn, sigma2, _FACTORS[kernels]) - k_on)
    mmd2 = h.sum() / max(B * B, 1) if biased else (h.sum() - h.trace()) / max(B * (B - 1), 1)
    return mmd2 if squared else _root(mmd2)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    # by differences: the faster expansion ‖a‖² + ‖b‖² − 2a·b loses the small distances that matter here
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()


def _mean_over_pairs(oo: Tensor, nn: Tensor, on: Tensor) -> Tensor:
    places = 2 * len(on)
    total = oo.detach().sum() + nn.detach().sum() + 2 * on.detach().sum()
    return (total / max(places * (places - 1), 1)).clamp_min(1e-12)  # all in one point: every k is then exp(0)


def _kernel(d2: Tensor, sigma2: Tensor | float, factors: tuple[float, ...]) -> Tensor:
    return torch.stack([torch.exp(-d2 / (2 * c * sigma2)) for c in factors]).mean(0)


def _root(x: Tensor) -> Tensor:
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1).sqrt(), 0)
