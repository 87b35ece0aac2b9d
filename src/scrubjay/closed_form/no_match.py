"""Decides whether an image is of a learned class: relative Mahalanobis distance over class statistics.

With class means m_k, their mean ḡ, the covariance Σ within classes and B = (1/C) Σ_k (m_k − ḡ)(m_k − ḡ)ᵀ between them,
the score of class k for trunk features φ is

    r_k(φ) = (φ − ḡ)ᵀ (Σ + τB)⁻¹ (φ − ḡ) − (φ − m_k)ᵀ Σ⁻¹ (φ − m_k),

up to a constant twice the log-likelihood ratio of "an image of class k" to "an image of a class never seen", for
normally distributed images and classes (Ioffe: Probabilistic linear discriminant analysis, ECCV 2006). With τ = 1 it is
the relative Mahalanobis distance (Ren et al.: A simple fix to Mahalanobis distance for improving near-OOD detection,
2021). The cosines of an embedding ignore how far an image lies from all class means, and tell learned classes from
others less well (`benchmarks/studies/no_match.py`).

The score depends on inner products ⟨a, b⟩ = (a − ḡ)ᵀ Σ⁻¹ (b − ḡ) only. With P_k = ⟨φ, m_k⟩ and G_jk = ⟨m_j, m_k⟩, both
centred on the mean over classes,

    r_k = 2P_k − G_kk − P (G + C/τ·I)⁻¹ Pᵀ.

So leaving a class out means dropping its row of P and G, without another decomposition of Σ; `left_out_scores` also
takes the scatter of the class out of Σ, where its features are known.

What a threshold from left-out classes means: an image of a class that was never learned is called a match with about
the configured probability, on average over such classes, *if a class never learned is like a learned class that is
left out*. Nothing is claimed where this does not hold: new classes with closer relatives among the learned classes
than these have among each other are called a match more often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scrubjay.closed_form.discriminant import cholesky, shrunk_covariance
from scrubjay.closed_form.statistics import Statistics

NEW_CLASS_SPREAD = 0.3
"""τ: variance between classes never learned along the axes that separate the learned ones, relative to these. It is
below 1, because the axes were chosen to separate the learned classes; 0.1 to 1 change AUROC by less than 0.005."""
LEFT_OUT_CLASSES = 200
"""Largest number of classes that are left out, one at a time; more would not move a quantile."""
MIN_CLASSES = 3
"""Smallest number of classes of which one can be left out: the score compares at least two."""


def covariance_root(statistics: Statistics, shrinkage: float) -> Tensor:
    """The lower Cholesky factor of the covariance that scores are computed with: float64 (p, p).

    Args:
        statistics: statistics of at least one class.
        shrinkage: γ of the metric.

    Raises:
        DataError: it is not positive definite.
    """
    return cholesky(shrunk_covariance(statistics, shrinkage))


@dataclass(frozen=True, slots=True)
class ClassModel:
    """The learned classes as normal distributions of trunk features with one covariance.

    Attributes:
        labels: int64 (C,), ascending.
        weight: float64 (C, p), (m_k − ḡ)ᵀ Σ⁻¹ for each class.
        offset: float64 (C,), with ⟨φ, m_k⟩ = weight_k·φ + offset_k.
        gram: float64 (C, C), ⟨m_j, m_k⟩.
    """

    labels: Tensor
    weight: Tensor
    offset: Tensor
    gram: Tensor

    @classmethod
    def of(cls, statistics: Statistics, root: Tensor) -> ClassModel:
        """The model of the classes of these statistics.

        Args:
            statistics: statistics of at least one class.
            root: float64 (p, p), their `covariance_root`.
        """
        centre = statistics.means.mean(0)
        weight = torch.cholesky_solve((statistics.means - centre).T, root).T
        return cls(statistics.labels, weight, -weight @ centre, weight @ (statistics.means - centre).T)

    def scores(self, features: Tensor) -> Tensor:
        """r_k of images for each class: float64 (N, C).

        Args:
            features: trunk features (N, p).
        """
        return _scores(self._products(features), self.gram)

    def own_scores(self, features: Tensor, labels: Tensor) -> Tensor:
        """r_k of images for their own class: float64 (N,).

        Args:
            features: trunk features (N, p).
            labels: int64 (N,), each one of the model.
        """
        rows = torch.searchsorted(self.labels, labels)
        return self.scores(features).gather(1, rows[:, None])[:, 0]

    def left_out_scores(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The best scores of images when the mean of their class is left out; its scatter remains in Σ.

        Args:
            features: trunk features (N, p) of images that are not in the statistics.
            labels: int64 (N,), each one of the model.

        Returns:
            float64 (M,) and int64 (M,), scores and labels of the images of at most `LEFT_OUT_CLASSES` classes, class
            after class; none where there are fewer than `MIN_CLASSES` classes.
        """
        products = self._products(features)
        scores, of = [products.new_empty(0)], [labels.new_empty(0)]
        for label, row in _left_out(self.labels, labels):
            others = torch.arange(len(self.labels)) != row
            images = labels == label
            scores.append(_scores(products[images][:, others], self.gram[others][:, others]).amax(1))
            of.append(labels[images])
        return torch.cat(scores), torch.cat(of)

    def _products(self, features: Tensor) -> Tensor:
        return features.double() @ self.weight.T + self.offset


def left_out_scores(
    statistics: Statistics, root: Tensor, shrinkage: float, features: Tensor, labels: Tensor, scored: Tensor
) -> tuple[Tensor, Tensor]:
    """The best scores of learned images, each as if no image of its class had been learned.

    With the features R of a class relative to its mean, times √((1 − γ)/N), what remains of the covariance is
    (Σ − R Rᵀ)·N/(N − N_c), and by the Woodbury identity

        ⟨a, b⟩' = (N − N_c)/N·(⟨a, b⟩ + ⟨a, R⟩ (I − ⟨R, R⟩)⁻¹ ⟨R, b⟩).

    Only the diagonal that Σ is shrunk towards stays that of all classes.

    Args:
        statistics: statistics of all images.
        root: float64 (p, p), their `covariance_root` with this shrinkage.
        shrinkage: γ of the metric.
        features: trunk features (N, p) of all images of the classes that are scored, as they are in the statistics.
        labels: int64 (N,).
        scored: bool (N,), which rows are scored; the centre crops of the images.

    Returns:
        Scores and labels as from `ClassModel.left_out_scores`.
    """
    centre = statistics.means.mean(0)
    means = torch.linalg.solve_triangular(root, (statistics.means - centre).T, upper=False)
    scores, of = [means.new_empty(0)], [labels.new_empty(0)]
    for label, row in _left_out(statistics.labels, labels):
        member, others = labels == label, torch.arange(len(statistics.labels)) != row
        learned = torch.linalg.solve_triangular(root, (features[member].double() - centre).T, upper=False)
        scatter = (learned - means[:, row, None]) * ((1 - shrinkage) / statistics.total) ** 0.5
        rest = 1 - int(statistics.counts[row]) / statistics.total
        images = learned[:, scored[member]]
        products = _without(images, means[:, others], scatter) * rest
        gram = _without(means[:, others], means[:, others], scatter) * rest
        scores.append(_scores(products, gram).amax(1))
        of.append(labels[member & scored])
    return torch.cat(scores), torch.cat(of)


def _without(a: Tensor, b: Tensor, scatter: Tensor) -> Tensor:
    """aᵀ (I − R Rᵀ)⁻¹ b for a (p, N), b (p, M) and R = scatter (p, r)."""
    inner = torch.eye(scatter.shape[1], dtype=scatter.dtype) - scatter.T @ scatter
    product: Tensor = a.T @ b + (a.T @ scatter) @ torch.linalg.solve(inner, scatter.T @ b)
    return product


def _left_out(classes: Tensor, labels: Tensor) -> Iterator[tuple[int, int]]:
    """Label and row of each class that is left out: those with images, or a fixed random choice of them."""
    if len(classes) < MIN_CLASSES:
        return
    present = torch.unique(labels)
    order = torch.randperm(len(present), generator=torch.Generator().manual_seed(0))[:LEFT_OUT_CLASSES]
    for label in present[order.sort().values].tolist():
        yield label, int(torch.searchsorted(classes, label))


def _scores(products: Tensor, gram: Tensor) -> Tensor:
    """r_k (N, C) from inner products of images with class means (N, C), and of class means (C, C), in any centring."""
    mean = gram.mean(0)
    products = products - products.mean(1, keepdim=True) - (mean - mean.mean())
    gram = gram - mean - mean[:, None] + mean.mean()
    inner = gram + torch.eye(len(gram), dtype=gram.dtype) * (len(gram) / NEW_CLASS_SPREAD)
    background = (products * torch.linalg.solve(inner, products.T).T).sum(1, keepdim=True)
    scores: Tensor = 2 * products - gram.diagonal() - background
    return scores


def left_out_threshold(scores: Tensor, labels: Tensor, false_match_rate: float) -> float:
    """The score that an image has to exceed to count as one of a learned class.

    The (1 − α)(n + 1)/n quantile of the scores of left-out images, where every class counts equally. Images of a class
    resemble each other, so n is their effective number α(1 − α)/v, with v the variance of the share of images above the
    (1 − α) quantile, as estimated from the classes (the design effect of cluster sampling; Kish, Survey Sampling,
    1965). As with n independent images (`scrubjay.gallery.calibration.conformal_threshold`), the quantile is raised for
    its own error.

    Args:
        scores: float64 (N,), from `left_out_scores`.
        labels: int64 (N,), classes of the images.
        false_match_rate: α in 0 … 1.

    Returns:
        The threshold; infinite where there are too few images for α (N < 1/α − 1). Where there are enough images, but
        of too few classes, it is the largest score. One of K + 1 classes is above all others with a probability of
        1/(K + 1), so with fewer than 1/α − 1 classes more than a share of α may still be called a match.
    """
    if len(scores) < 1 / false_match_rate - 1 - 1e-9:
        return math.inf
    classes, rows = torch.unique(labels.cpu(), return_inverse=True)
    counts = torch.bincount(rows)
    ordered, order = scores.sort()
    shares = (1 / (counts[rows] * len(classes)).double())[order].cumsum(0)
    quantile = _quantile(ordered, shares, 1 - false_match_rate)
    above = torch.zeros(len(classes), dtype=torch.float64).index_add_(0, rows, (scores > quantile).double()) / counts
    effective = float(len(scores))
    if len(classes) > 1:
        variance = max(float(above.var()) / len(classes), 1e-12)
        effective = min(effective, max(float(len(classes)), false_match_rate * (1 - false_match_rate) / variance))
    return _quantile(ordered, shares, (1 - false_match_rate) * (effective + 1) / effective)


def _quantile(ordered: Tensor, shares: Tensor, level: float) -> float:
    """The smallest score up to which the cumulative share reaches a level; the largest score where none does."""
    position = int(torch.searchsorted(shares, level - 1e-9))
    return float(ordered[min(position, len(ordered) - 1)])
