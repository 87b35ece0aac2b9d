"""Adversarial alignment: nobody can tell new embeddings from old ones."""

from __future__ import annotations

from torch import Tensor

from scrubjay.losses._precision import full_precision


@full_precision
def adversarial(log_D_o: Tensor, log_D_n: Tensor) -> Tensor:
    """What the discriminator D minimises, and, through a gradient reversal layer, the embedder maximises.

    L = −(1/B) Σ_i log D(GRL(z_n,i))_0 − (1/B) Σ_i log D(z_o,i)_1

    Args:
        log_D_o: (B, 2) log-probabilities that D gives the teacher's embeddings; column 0 "new", column 1 "old".
        log_D_n: (B, 2) log-probabilities that D gives the reversed embeddings of the network being trained.

    Returns:
        Scalar ≥ 0, in nats; 2 log 2 where D does not know; 0 for B = 0.

    Source: Pan et al., AdvBCT: Boundary-Aware Backward-Compatible Representation via Adversarial Learning, CVPR 2023.
    """
    return _mean(-log_D_o[:, 1]) + _mean(-log_D_n[:, 0])


@full_precision
def deception(log_D_n: Tensor) -> Tensor:
    """What the embedder minimises when it and the discriminator take turns: its embeddings pass for old ones.

    L = −(1/B) Σ_i log D(z_n,i)_1

    It keeps its gradient where D is sure, which the reversed form loses.

    Args:
        log_D_n: (B, 2) log-probabilities that D gives the embeddings of the network being trained.

    Returns:
        Scalar ≥ 0, in nats; 0 for B = 0.

    Source: Goodfellow et al., Generative Adversarial Nets, NeurIPS 2014 (the non-saturating form).
    """
    return _mean(-log_D_n[:, 1])


def _mean(terms: Tensor) -> Tensor:
    return terms.sum() / max(len(terms), 1)
