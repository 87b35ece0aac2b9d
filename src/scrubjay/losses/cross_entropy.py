"""Cross-entropy over the classes that are being learned."""

from __future__ import annotations

from torch import Tensor

from scrubjay.losses._precision import full_precision


@full_precision
def cross_entropy(logits: Tensor, labels: Tensor, first: int = 0) -> Tensor:
    """Semantic-preserving loss: softmax over the new classes only.

    L_ce = −(1/B) Σ_i log softmax(l_i)_{y_i},   softmax over the columns j = first … C−1

    With `first` = n, the number of old classes, the old columns neither compete nor receive a gradient.

    Args:
        logits: (B, C) scores of all classes so far.
        labels: (B,) int64, numbers of columns of `logits`: first ≤ y_i < C.
        first: the first column that takes part.

    Returns:
        Scalar ≥ 0, in nats; 0, with a gradient of 0, for B = 0.

    Raises:
        RuntimeError: by torch, a label is below `first` or not below C (on CUDA: a device-side assertion).

    Source: Chen et al., On the Exploration of Incremental Learning for Fine-grained Image Retrieval, BMVC 2020.
    """
    surprise = -logits[:, first:].log_softmax(1)
    # cross_entropy of torch would silently skip a label that lies 100 below `first` (its ignore_index)
    return surprise.gather(1, (labels - first)[:, None]).sum() / max(len(labels), 1)
