"""Stored statistics of learned classes: means, spread and a few embeddings of each."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

Spread = Literal["none", "radius", "shared", "class"]
Choice = Literal["herding", "random"]


class Memory(nn.Module):
    """Class means and, on request, spread and embeddings, as buffers; row c belongs to the class with label c.

    Its keys in a `state_dict` never change; loading a larger or smaller memory resizes this one. A class without
    statistics has the count 0 and a row of zeros. Statistics are computed in float64 and stored in float32.

    Args:
        dim: d of the embeddings.
        spread: "radius": one number r, r² = mean of tr(Σ_c)/d over the classes (PASS: Zhu et al., CVPR 2021);
            "shared": one covariance, pooled over the classes by their number of images; "class": one per class.
        budget: embeddings stored per class.
        choice: how they are selected: so that their mean is nearest to the class mean (herding: Rebuffi et al., iCaRL,
            CVPR 2017), or at random, with a generator seeded by the label.
        first_radius: compute the radius from the first session's classes only, as the authors' code of PASS does.

    Attributes: means: float32 (C, d) mean embedding μ_c, of a norm below 1 as the mean of unit vectors is. counts:
        int64 (C,), number of images of each class. radius: float32 () r, with spread "radius". covariance: float32 (d,
        d) or (C, d, d) Σ, with spread "shared" or "class"; divisor N − 1, zero for a single image. vectors: float32 (V,
        d) stored unit embeddings, with a budget. labels: int64 (V,) of `vectors`.
    """

    means: Tensor
    counts: Tensor
    radius: Tensor
    covariance: Tensor
    vectors: Tensor
    labels: Tensor

    def __init__(
        self,
        dim: int,
        spread: Spread = "none",
        budget: int = 0,
        choice: Choice = "herding",
        *,
        first_radius: bool = False,
    ) -> None:
        super().__init__()
        self.first_radius = first_radius
        self.spread, self.budget, self.choice = spread, budget, choice
        self.register_buffer("means", torch.zeros(0, dim))
        self.register_buffer("counts", torch.zeros(0, dtype=torch.int64))
        if spread == "radius":
            self.register_buffer("radius", torch.zeros(()))
        elif spread != "none":
            self.register_buffer("covariance", torch.zeros(*(() if spread == "shared" else (0,)), dim, dim))
        if budget:
            self.register_buffer("vectors", torch.zeros(0, dim))
            self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))

    @property
    def known(self) -> Tensor:
        """Labels of the classes with statistics, int64 (K,)."""
        return self.counts.nonzero().flatten()

    @property
    def nbytes(self) -> int:
        """Size of all buffers in bytes."""
        return sum(buffer.nbytes for buffer in self.buffers())

    @torch.no_grad()
    def keep(self, z: Tensor, labels: Tensor) -> None:
        """Compute the statistics of the classes in `labels`; earlier ones of the same classes are replaced.

        Args:
            z: (N, d) unit embeddings.
            labels: int64 (N,).
        """
        classes = [int(label) for label in torch.unique(labels)]
        if not classes:
            return
        self._grow(classes[-1] + 1)
        parts = {label: z[labels == label].double() for label in classes}
        self.counts[classes] = 0  # so that pooling below uses the other classes only
        self._keep_spread(parts)
        for label, part in parts.items():
            self.means[label] = part.mean(0).to(self.means)
            self.counts[label] = len(part)
        if self.budget:
            self._keep_vectors(parts)

    @torch.no_grad()
    def move(self, means: Tensor, vectors: Tensor | None = None) -> None:
        """Replace the stored means and embeddings by moved ones; `counts` and the spread are not changed.

        Means are stored as given; embeddings are normalised.

        Args:
            means: (C, d); rows of classes without statistics are ignored.
            vectors: (V, d), with a budget.
        """
        self.means[self.known] = means[self.known].to(self.means)
        if vectors is not None:
            self.vectors = normalize(vectors, dim=1).to(self.vectors)

    def _grow(self, classes: int) -> None:
        missing = classes - len(self.counts)
        if missing > 0:
            for name in ("means", "counts", *(["covariance"] if self.spread == "class" else [])):
                rows = getattr(self, name)
                setattr(self, name, torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]))

    def _keep_spread(self, parts: dict[int, Tensor]) -> None:
        if self.spread == "none":
            return
        new = {label: covariance(part) for label, part in parts.items()}
        if self.spread == "class":
            for label, value in new.items():
                self.covariance[label] = value.to(self.covariance)
        elif self.spread == "shared":
            old = int(self.counts.sum())
            pooled = torch.stack([len(part) * new[label] for label, part in parts.items()]).sum(0)
            total = (old * self.covariance.cpu().double()).to(pooled) + pooled
            self.covariance = (total / (old + sum(map(len, parts.values())))).to(self.covariance)
        else:
            old = len(self.known)
            if old and self.first_radius:
                return
            squares = old * float(self.radius) ** 2 + sum(float(value.trace()) / len(value) for value in new.values())
            self.radius.fill_((squares / (old + len(new))) ** 0.5)

    def _keep_vectors(self, parts: dict[int, Tensor]) -> None:
        others = ~torch.isin(self.labels, torch.tensor(list(parts), device=self.labels.device))
        vectors, labels = [self.vectors[others]], [self.labels[others]]
        for label, part in parts.items():
            selected = herded(part, self.budget) if self.choice == "herding" else drawn(len(part), self.budget, label)
            vectors.append(part[selected].to(self.vectors))
            labels.append(self.labels.new_full((len(selected),), label))
        self.vectors, self.labels = torch.cat(vectors), torch.cat(labels)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, own in list(self.named_buffers(recurse=False)):
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.ndim == own.ndim > 0 and stored.shape[1:] == own.shape[1:]:
                setattr(self, name, torch.empty_like(stored, device=own.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


def covariance(z: Tensor) -> Tensor:
    """Σ = Σ_i (z_i − μ)(z_i − μ)ᵀ / (N − 1): vectors (N, d) → (d, d); zeros for N = 1."""
    centred = z - z.mean(0)
    return centred.T @ centred / max(len(z) - 1, 1)


def herded(z: Tensor, budget: int) -> list[int]:
    """Positions of vectors, greedily ordered so that the mean of the first k is nearest to the mean of all.

    p_k = argmin_i ‖μ − (z_i + Σ_{j<k} z_{p_j})/k‖,   each i at most once

    Args:
        z: (N, d).
        budget: largest number of positions.

    Source: Rebuffi et al., iCaRL: Incremental Classifier and Representation Learning, CVPR 2017.
    """
    mean, total = z.mean(0), torch.zeros_like(z[0])
    selected: list[int] = []
    for k in range(1, min(budget, len(z)) + 1):
        distances = torch.linalg.vector_norm(mean - (z + total) / k, dim=1)
        distances[selected] = torch.inf
        selected.append(int(distances.argmin()))
        total = total + z[selected[-1]]
    return selected


def drawn(size: int, budget: int, seed: int) -> list[int]:
    """At most `budget` random positions below `size`, ascending, the same for the same seed."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:budget].tolist())
