"""Knowledge distillation on the logits of the old classes."""

from __future__ import annotations

from torch import Tensor

from scrubjay.losses._precision import full_precision


@full_precision
def distillation(old_logits: Tensor, new_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """Cross entropy between the softened outputs of teacher and trained network over the n old classes.

    L_dist = −(1/B) Σ_i Σ_{k≤n} p_ik log p'_ik,   p_i = softmax(l_o,i / T),   p'_i = softmax(l_n,i / T)

    No factor T²: the gradient shrinks as 1/T² (at T = 2, a quarter of what a loss with the factor gives for the same
    weight). The minimum is not 0 but the entropy of p, reached where p' = p.

    Args:
        old_logits: (B, n) of the teacher, l_o.
        new_logits: (B, n) of the network being trained, l_n, the old classes only.
        temperature: T > 0.

    Returns:
        Scalar ≥ 0, in nats; 0, with a gradient of 0, for n = 0 or B = 0.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015; Li and Hoiem, Learning without
    Forgetting, ECCV 2016; in this form Chen et al., BMVC 2020.
    """
    p = (old_logits / temperature).softmax(1)
    log_p = (new_logits / temperature).log_softmax(1)
    return (p * -log_p).sum() / max(len(p), 1)
