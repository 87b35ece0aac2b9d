"""Adversarial losses of a discriminator that classifies embeddings as old or new."""

from __future__ import annotations

from torch import Tensor

from scrubjay.losses._precision import full_precision


@full_precision
def adversarial(log_D_o: Tensor, log_D_n: Tensor) -> Tensor:
    """Negative log-likelihood of the discriminator D; the embedder maximises it through a gradient reversal layer.

    L = −(1/B) Σ_i log D(GRL(z_n,i))_0 − (1/B) Σ_i log D(z_o,i)_1

    Args:
        log_D_o: (B, 2) log-probabilities of D for the teacher's embeddings; column 0 "new", column 1 "old".
        log_D_n: (B, 2) log-probabilities of D for the reversed embeddings of the network being trained.

    Returns:
        Scalar ≥ 0, in nats; 2 log 2 where D is undecided; 0 for B = 0.

    Source: Pan et al., AdvBCT: Boundary-Aware Backward-Compatible Representation via Adversarial Learning, CVPR 2023.
    """
    return _mean(-log_D_o[:, 1]) + _mean(-log_D_n[:, 0])


@full_precision
def deception(log_D_n: Tensor) -> Tensor:
    """Non-saturating loss of the embedder: its embeddings shall be classified as old.

    L = −(1/B) Σ_i log D(z_n,i)_1

    Its gradient does not vanish where D is certain, as that of the reversed form does.

    Args:
        log_D_n: (B, 2) log-probabilities of D for the embeddings of the network being trained.

    Returns:
        Scalar ≥ 0, in nats; 0 for B = 0.

    Source: Goodfellow et al., Generative Adversarial Nets, NeurIPS 2014 (the non-saturating form).
    """
    return _mean(-log_D_n[:, 1])


def _mean(terms: Tensor) -> Tensor:
    return terms.sum() / max(len(terms), 1)
