"""Sufficient statistics of trunk features: per class the count and the mean, and the scatter within classes.

Statistics of two sets of images are merged exactly, and a set is removed exactly (Chan, Golub, LeVeque: Updating
formulae and a pairwise algorithm for computing sample variances, 1979). Everything is float64: sums in float32 depend
on the order of the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from scrubjay.errors import CheckpointError, DataError, SpaceError
from scrubjay.models.checkpoint import load_tensors, save_tensors

BLOCK = 4096
"""Rows that are held in memory until their scatter is added: one large matrix product is faster than many small."""
SMALLEST_VARIANCE = 1e-6
"""Smaller variances, as a share of the mean variance, are raised to it where features are divided by them."""
DAMAGED = "restore it from a copy"


@dataclass(frozen=True, slots=True)
class Statistics:
    """Sufficient statistics of a set of labelled feature vectors.

    With N_c vectors φ_i of class c, m_c is their mean and the scatter is S = Σ_c Σ_{i∈c} (φ_i − m_c)(φ_i − m_c)ᵀ.

    Attributes:
        era: identity of the trunk features; see `scrubjay.models.embedding.Encoder.era`.
        labels: int64 (C,), ascending.
        counts: int64 (C,), number of vectors of each class.
        means: float64 (C, p).
        scatter: float64 (p, p), symmetric.
    """

    era: str
    labels: Tensor
    counts: Tensor
    means: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, era: str, dim: int) -> Statistics:
        """Statistics of no vector.

        Args:
            era: identity of the trunk features.
            dim: p of the features.
        """
        none = torch.zeros(0, dtype=torch.int64)
        wide = torch.float64
        return cls(era, none, none, torch.zeros(0, dim, dtype=wide), torch.zeros(dim, dim, dtype=wide))

    @classmethod
    def of(cls, era: str, features: Tensor, labels: Tensor) -> Statistics:
        """Statistics of vectors that are in memory, computed in two passes.

        Args:
            era: identity of the trunk features.
            features: (N, p), any floating dtype.
            labels: int64 (N,).

        Raises:
            DataError: a feature is NaN or infinite.
        """
        wide = features.detach().cpu().double()
        if not bool(torch.isfinite(wide).all()):
            row = int((~torch.isfinite(wide)).any(1).nonzero()[0])
            raise DataError(
                f"the trunk's features of image {row} (class {int(labels[row])}) are not finite: the weights of the "
                "trunk are damaged or its training has diverged; use other weights, or lower training.lr."
            )
        classes, rows = torch.unique(labels.cpu(), return_inverse=True)
        counts = torch.bincount(rows, minlength=len(classes))
        means = wide.new_zeros(len(classes), wide.shape[1]).index_add_(0, rows, wide) / counts[:, None]
        return cls(era, classes, counts, means, _gram(wide - means[rows]))

    @property
    def dim(self) -> int:
        """Number of features p."""
        return self.scatter.shape[0]

    @property
    def total(self) -> int:
        """Number of vectors of all classes."""
        return int(self.counts.sum())

    @property
    def deviations(self) -> Tensor:
        """Standard deviation of each feature within classes, float64 (p,); see `SMALLEST_VARIANCE`."""
        variances = self.scatter.diagonal().clamp_min(0) / max(self.total, 1)
        smallest = SMALLEST_VARIANCE * float(variances.mean())
        return variances.clamp_min(smallest if smallest > 0 else 1.0).sqrt()

    def __add__(self, other: Statistics) -> Statistics:
        """The statistics of both sets of vectors together; a class may be in both.

        S = S_1 + S_2 + Σ_c (N_1c·N_2c/N_c)(m_1c − m_2c)(m_1c − m_2c)ᵀ

        Raises:
            SpaceError: the sets are of different eras.
        """
        self._check_era(other)
        labels = torch.unique(torch.cat([self.labels, other.labels]))
        (n1, m1), (n2, m2) = self._aligned(labels), other._aligned(labels)
        n = n1 + n2
        means = (n1[:, None] * m1 + n2[:, None] * m2) / n[:, None]
        scatter, both = self.scatter + other.scatter, (n1 > 0) & (n2 > 0)
        if bool(both.any()):
            scatter = scatter + _gram((n1 * n2 / n).sqrt()[both, None] * (m1 - m2)[both])
        return Statistics(self.era, labels, n.long(), means, scatter)

    def __sub__(self, other: Statistics) -> Statistics:
        """The statistics without a part of the vectors: the inverse of `+`. Classes without a vector left disappear.

        Raises:
            SpaceError: the sets are of different eras.
            DataError: a class of `other` is not in the set, or with fewer vectors.
        """
        self._check_era(other)
        n1, m1 = self._aligned(self.labels)
        n2, m2 = other._aligned(self.labels)
        unknown = other.labels[~torch.isin(other.labels, self.labels)]
        short = [*unknown.tolist(), *self.labels[n2 > n1].tolist()]
        if short:
            raise DataError(
                f"class {short[0]}: more images are to be removed from the statistics than they hold; "
                "remove only images that were learned, each once."
            )
        n = n1 - n2
        kept = n > 0
        means = (n1[:, None] * m1 - n2[:, None] * m2)[kept] / n[kept, None]
        between = _gram((n * n2 / n1)[kept].sqrt()[:, None] * (means - m2[kept]))
        return Statistics(self.era, self.labels[kept], n[kept].long(), means, self.scatter - other.scatter - between)

    def relabelled(self, labels: Mapping[int, int]) -> Statistics:
        """The same statistics under other labels, in ascending order of the new ones.

        Args:
            labels: from the label of every class to its new label; two classes cannot get the same one.

        Raises:
            DataError: a class has no new label, or two have the same.
        """
        missing = [label for label in self.labels.tolist() if label not in labels]
        if missing:
            raise DataError(f"class {missing[0]} has no new label; give every class one.")
        new = torch.tensor([labels[label] for label in self.labels.tolist()], dtype=torch.int64)
        if len(torch.unique(new)) < len(new):
            raise DataError("two classes have the same new label; merge them by adding their statistics.")
        order = torch.argsort(new)
        return replace(self, labels=new[order], counts=self.counts[order], means=self.means[order])

    def merged(self, labels: Mapping[int, int]) -> Statistics:
        """The same vectors under other labels; classes that get the same label become one class.

        Its mean is m = Σ N_c m_c / Σ N_c, and S gains Σ_c N_c (m_c − m)(m_c − m)ᵀ over the classes that are merged.

        Args:
            labels: from the label of every class to its new label.
        """
        new = torch.tensor([labels[label] for label in self.labels.tolist()], dtype=torch.int64)
        classes, rows = torch.unique(new, return_inverse=True)
        if len(classes) == len(new):
            return self.relabelled(labels)
        counts = torch.zeros(len(classes), dtype=torch.int64).index_add_(0, rows, self.counts)
        weighted = self.counts[:, None] * self.means
        means = self.means.new_zeros(len(classes), self.dim).index_add_(0, rows, weighted) / counts[:, None]
        moved = _gram(self.counts.double().sqrt()[:, None] * (self.means - means[rows]))
        return Statistics(self.era, classes, counts, means, self.scatter + moved)

    def to_tensors(self) -> dict[str, Tensor]:
        """Tensors by name, for a safetensors file.

        The scatter is kept in float64 as its lower triangle, p(p + 1)/2·8 bytes, or where the set has so few vectors
        that this is smaller, as a factor F (p, r) with S = F Fᵀ. Float32 would halve the file, and leave errors of
        1e-7 where a removal must be exact.
        """
        rank = self.total - len(self.labels)
        tensors = {"labels": self.labels, "counts": self.counts, "means": self.means}
        if 2 * rank < self.dim:
            tensors["factor"] = _factor(self.scatter, rank)
        else:
            rows, columns = torch.tril_indices(self.dim, self.dim)
            tensors["triangle"] = self.scatter[rows, columns]
        return tensors

    @classmethod
    def from_tensors(cls, era: str, tensors: Mapping[str, Tensor]) -> Statistics:
        """The inverse of `to_tensors`.

        Raises:
            KeyError, ValueError, RuntimeError: these are not the tensors of statistics.
        """
        labels, counts, means = (tensors[name] for name in ("labels", "counts", "means"))
        scatter = _scatter(tensors, means.shape[1])
        finite = bool(torch.isfinite(means).all()) and bool(torch.isfinite(scatter).all())
        if not (finite and len(means) == len(labels) == len(counts)):
            raise ValueError("its values are not finite, or of different shapes")
        return cls(era, labels, counts, means, scatter)

    def save(self, path: Path) -> None:
        """Write to a safetensors file, which appears whole or not at all; see `to_tensors`."""
        save_tensors(path, self.to_tensors(), {"era": self.era})

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        tensors, info = load_tensors(path, DAMAGED)
        try:
            return cls.from_tensors(str(info["era"]), tensors)
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            raise CheckpointError(f"{path}: holds no statistics ({error}): {DAMAGED}.") from None

    def _aligned(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Counts float64 (K,) and means (K, p) of these labels; zeros for classes that are not in the set."""
        counts = self.means.new_zeros(len(labels))
        means = self.means.new_zeros(len(labels), self.dim)
        known = torch.isin(self.labels, labels)
        rows = torch.searchsorted(labels, self.labels[known])
        counts[rows] = self.counts[known].double()
        means[rows] = self.means[known]
        return counts, means

    def _check_era(self, other: Statistics) -> None:
        if self.era != other.era or self.dim != other.dim:
            raise SpaceError(
                f"these statistics are of two trunks (eras {self.era}, {self.dim} features, and {other.era}, "
                f"{other.dim} features) and cannot be combined: learn both with the same trunk and image size."
            )


class Accumulator:
    """Collects the statistics of a stream of feature vectors, with `BLOCK` of them in memory at a time.

    Args:
        era: identity of the trunk features.
        dim: p of the features.
    """

    def __init__(self, era: str, dim: int) -> None:
        self._total = Statistics.empty(era, dim)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._rows = 0

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            features: (B, p), any floating dtype.
            labels: int64 (B,).

        Raises:
            DataError: a feature is NaN or infinite.
        """
        self._waiting.append((features, labels))
        self._rows += len(labels)
        if self._rows >= BLOCK:
            self._flush()

    def statistics(self) -> Statistics:
        """Statistics of everything that was added."""
        self._flush()
        return self._total

    def _flush(self) -> None:
        if self._rows:
            features = torch.cat([block for block, _ in self._waiting])
            labels = torch.cat([block for _, block in self._waiting])
            self._total = self._total + Statistics.of(self._total.era, features, labels)
        self._waiting, self._rows = [], 0


def _gram(rows: Tensor) -> Tensor:
    """RᵀR of rows float64 (N, p), exactly symmetric; only one triangle is computed, which takes half the time."""
    if not len(rows):
        return rows.new_zeros(rows.shape[1], rows.shape[1])
    triangle = torch.from_numpy(scipy.linalg.blas.dsyrk(1.0, rows.numpy().T, lower=1))
    return triangle.tril() + triangle.tril(-1).T


def _factor(scatter: Tensor, rank: int) -> Tensor:
    """F (p, r) with F Fᵀ = S for positive semidefinite S of at most this rank, by pivoted Cholesky decomposition."""
    if rank <= 0:
        return scatter.new_zeros(len(scatter), 0)
    lower, pivots, found, _ = scipy.linalg.lapack.dpstrf(scatter.numpy(), lower=1)
    factor = np.zeros((len(scatter), min(rank, found)))
    factor[pivots - 1] = np.tril(lower)[:, : factor.shape[1]]
    return torch.from_numpy(factor)


def _scatter(tensors: Mapping[str, Tensor], dim: int) -> Tensor:
    if "factor" in tensors:
        return _gram(tensors["factor"].T.contiguous())
    scatter = torch.zeros(dim, dim, dtype=torch.float64)
    rows, columns = torch.tril_indices(dim, dim)
    scatter[rows, columns] = tensors["triangle"]
    scatter[columns, rows] = tensors["triangle"]
    return scatter
