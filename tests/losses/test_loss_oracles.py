"""Losses of pytorch-metric-learning that have the same definition."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from scrubjay.losses.metric.contrastive import contrastive
from scrubjay.losses.metric.multi_similarity import multi_similarity
from scrubjay.losses.metric.proxy_anchor import proxy_anchor
from scrubjay.losses.metric.supcon import supcon
from scrubjay.losses.metric.triplet import triplet

peer = pytest.importorskip("pytorch_metric_learning")
from pytorch_metric_learning import distances, losses, miners, reducers  # noqa: E402

Metric = Callable[[Tensor, Tensor], Tensor]


def agree(ours: Metric, theirs: Metric, labels: Tensor) -> None:
    generator = torch.Generator().manual_seed(len(labels))
    z = normalize(torch.randn(len(labels), 16, generator=generator), dim=1).double().requires_grad_()
    mine, other = ours(z, labels), theirs(z, labels)
    torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)
    # theirs normalises inside: compare what is tangent to the sphere
    (a,), (b,) = torch.autograd.grad(mine, z), torch.autograd.grad(other, z)
    a, b = (g - (g * z).sum(1, keepdim=True) * z for g in (a, b))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


batches = pytest.mark.parametrize(
    "labels",
    [torch.arange(8).repeat_interleave(4), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])],
    ids=["P×K", "uneven"],
)


@batches
def test_triplet(labels: Tensor) -> None:
    cosine = distances.CosineSimilarity()
    loss = losses.TripletMarginLoss(0.2, distance=cosine, reducer=reducers.MeanReducer())
    miner = miners.BatchHardMiner(distance=cosine)
    agree(triplet, lambda z, y: loss(z, y, miner(z, y)), labels)


@batches
@pytest.mark.parametrize("epsilon", [0.1, None])
def test_multi_similarity(labels: Tensor, epsilon: float | None) -> None:
    loss = losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)
    miner = miners.MultiSimilarityMiner(epsilon) if epsilon else lambda z, y: None
    agree(lambda z, y: multi_similarity(z, y, epsilon=epsilon), lambda z, y: loss(z, y, miner(z, y)), labels)


@batches
def test_supcon(labels: Tensor) -> None:
    agree(supcon, losses.SupConLoss(temperature=0.1, reducer=reducers.MeanReducer()), labels)


@batches
def test_proxy_anchor(labels: Tensor) -> None:
    loss = losses.ProxyAnchorLoss(num_classes=9, embedding_size=16, margin=0.1, alpha=32).double()
    agree(lambda z, y: proxy_anchor(z, y, loss.proxies), loss, labels)


@batches
def test_contrastive(labels: Tensor) -> None:
    """Its terms are |d − m|, not squared: those are compared whose square is the same."""
    squared = distances.LpDistance(power=2)
    pull = losses.ContrastiveLoss(pos_margin=0, neg_margin=0, distance=squared, reducer=reducers.MeanReducer())
    agree(lambda z, y: 2 * contrastive(z, y, margin=1e-9), pull, labels)
