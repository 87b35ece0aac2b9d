"""Proxy-anchor loss: one learned proxy per class attracts its images and repels all others (Kim et al., CVPR 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from scrubjay.losses._precision import full_precision
from scrubjay.losses._softplus import softplus


@full_precision
def proxy_anchor(z: Tensor, labels: Tensor, proxies: Tensor, margin: float = 0.1, alpha: float = 32.0) -> Tensor:
    """Proxies as anchors: each is attracted to the images of its class and repelled from all others.

    L = (1/|C⁺|) Σ_{c∈C⁺} log[1 + Σ_{i : y_i = c} e^{−α(s_ci − δ)}]
        + (1/|C|) Σ_c log[1 + Σ_{i : y_i ≠ c} e^{α(s_ci + δ)}]
    s_ci = cosine of proxy c and z_i,   C: all classes,   C⁺: those in the batch

    Args:
        z: (B, d) unit embeddings.
        labels: (B,) int64, row indices of `proxies`.
        proxies: (C, d), of any norm.
        margin: δ, in units of cosine.
        alpha: α, sharpness.

    Returns:
        Scalar ≥ 0; 0, with a gradient of 0, for B = 0.

    Source: Kim et al., Proxy Anchor Loss for Deep Metric Learning, CVPR 2020.
    """
    s = normalize(proxies, dim=1) @ z.T
    own = torch.arange(len(proxies), device=labels.device)[:, None] == labels
    present = own.any(1).sum().clamp_min(1)
    pull = softplus(-alpha * (s - margin), own).sum() / present
    push = softplus(alpha * (s + margin), ~own).sum() / max(len(proxies), 1)
    return pull + push
