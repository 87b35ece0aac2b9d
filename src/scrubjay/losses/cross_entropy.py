"""Cross entropy over the new classes, or over all."""

from __future__ import annotations

from torch import Tensor

from scrubjay.losses._precision import full_precision


@full_precision
def cross_entropy(logits: Tensor, labels: Tensor, first: int = 0) -> Tensor:
    """Cross entropy with a softmax over the columns from `first` on (the "semantic-preserving loss").

    L_ce = −(1/B) Σ_i log softmax(l_i)_{y_i},   softmax over the columns j = first … C−1

    With `first` = n, the number of old classes, the softmax runs over the new classes only, and the logits of old
    classes get no gradient; with `first` = 0 it runs over all n + m classes. Descriptions of the objective differ in
    this; the former preserves the old rows of the head.

    Args:
        logits: (B, C) scores of all classes so far.
        labels: (B,) int64, column indices of `logits`: first ≤ y_i < C.
        first: the first column that the softmax includes.

    Returns:
        Scalar ≥ 0, in nats; 0, with a gradient of 0, for B = 0.

    Raises:
        RuntimeError: raised by torch where a label is below `first` or not below C (on CUDA: a device-side assertion).

    Source: Chen et al., On the Exploration of Incremental Learning for Fine-grained Image Retrieval, BMVC 2020.
    """
    nll = -logits[:, first:].log_softmax(1)
    # torch's cross_entropy would silently skip a label that lies 100 below `first` (its ignore_index)
    return nll.gather(1, (labels - first)[:, None]).sum() / max(len(labels), 1)
