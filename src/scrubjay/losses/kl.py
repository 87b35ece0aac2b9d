"""Kullback–Leibler distillation of the outputs."""

from __future__ import annotations

from torch import Tensor

from scrubjay.losses._precision import full_precision


@full_precision
def kl(old_logits: Tensor, new_logits: Tensor, temperature: float = 1.0, rescale: bool = False) -> Tensor:
    """KL divergence of the softened outputs from the teacher's; equals `distillation` minus the teacher's entropy.

    L = (1/B) Σ_i KL(p_i ‖ p'_i) = (1/B) Σ_i Σ_k p_ik (log p_ik − log p'_ik),
        p_i = softmax(l_o,i / T),   p'_i = softmax(l_n,i / T);   times T² if `rescale`

    Args:
        old_logits: (B, n) of the teacher, l_o.
        new_logits: (B, n) of the network being trained, l_n.
        temperature: T > 0.
        rescale: multiply by T², so that the size of the gradient hardly depends on T.

    Returns:
        Scalar ≥ 0, in nats; 0 where both outputs agree, for n = 0 and for B = 0.

    Source: Kullback and Leibler, On Information and Sufficiency, 1951; T and T²: Hinton et al., Distilling the
    Knowledge in a Neural Network, 2015.
    """
    log_p = (old_logits / temperature).log_softmax(1)
    log_q = (new_logits / temperature).log_softmax(1)
    divergence = (log_p.exp() * (log_p - log_q)).sum() / max(len(log_p), 1)
    return divergence * temperature**2 if rescale else divergence
