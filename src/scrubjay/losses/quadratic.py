"""Quadratic penalties on parameter changes, weighted by importance."""

from __future__ import annotations

import torch
from torch import Tensor

from scrubjay.losses._precision import full_precision


@full_precision
def quadratic(theta: Tensor, anchor: Tensor, importance: Tensor) -> Tensor:
    """Weighted squared distance of one parameter tensor from its values after the previous session.

    L = Σ_i F_i (θ_i − θ*_i)²

    Summed over the tensors of a network it is the penalty of EWC with factor λ/2 (F: the diagonal of the Fisher
    information), of MAS with λ (F = Ω: sensitivity of the squared norm of the output) and of SI with c (F = Ω: path
    integral of the loss).

    Args:
        theta: θ, any shape.
        anchor: θ*, the same shape: the values after the previous session.
        importance: F ≥ 0, the same shape.

    Returns:
        Scalar ≥ 0; 0, with a gradient of 0, for θ = θ*.

    Source: EWC: Kirkpatrick et al., PNAS 2017; MAS: Aljundi et al., ECCV 2018; SI: Zenke et al., ICML 2017.
    """
    return (importance * (theta - anchor).square()).sum()


@full_precision
def asymmetric(
    theta: Tensor, anchor: Tensor, importance: Tensor, previous: Tensor, *, a: float, epsilon: float = 1e-4
) -> Tensor:
    """Asymmetric quadratic: steeper on the side of θ* that training did not visit.

    L = Σ_i f_i,   f_i = s_i (θ_i − θ*_i)²,   s_i as in `stiffness`

    Args:
        theta: θ, any shape.
        anchor: θ*, the same shape: the values after the previous session.
        importance: Ω ≥ 0, the same shape.
        previous: θ°, the same shape: the values before the previous session.
        a: overestimation, at least 1.
        epsilon: ε > 0, stiffness on the unvisited side where Ω_i = 0.

    Returns:
        Scalar ≥ 0; 0, with a gradient of 0, for θ = θ*.

    Source: Park et al., Continual Learning by Asymmetric Loss Approximation with Single-Side Overestimation
    (ALASSO), ICCV 2019.
    """
    s = stiffness(theta, anchor, importance, previous, a=a, epsilon=epsilon)
    return (s * (theta - anchor).square()).sum()


def stiffness(
    theta: Tensor, anchor: Tensor, importance: Tensor, previous: Tensor, *, a: float, epsilon: float = 1e-4
) -> Tensor:
    """Factor s of the asymmetric quadratic at every θ_i; the gradient of the penalty is 2 s_i (θ_i − θ*_i).

    s_i = Ω_i          where (θ_i − θ*_i)(θ°_i − θ*_i) > 0, the side that training came from
          a Ω_i + ε    elsewhere

    Args and source as for `asymmetric`.
    """
    visited = ((theta > anchor) & (previous > anchor)) | ((theta < anchor) & (previous < anchor))
    return torch.where(visited, importance, a * importance + epsilon)
