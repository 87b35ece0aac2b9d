"""RanPAC: ridge regression of the classes on random features of a fixed trunk.

z = normalize(R·B h),   h = max(W φ, 0),   B = Qᵀ (G + λI)⁻¹,   G = Σ_i h_i h_iᵀ,   Q = Σ_i h_i e_{c(i)}ᵀ

φ: trunk features, by default mean and standard deviation of every stage's map (`network.features`). W: random
directions, drawn once (`network.transform = "relu"`, `network.random_features`; the paper's 10,000 take 0.8 GB for each
of G and its factor, the default's 4,096 take 0.13 GB; `network.transform = "none"` is the paper's ablation without
them). e_c: the unit vector of class c. McDonnell et al., NeurIPS 2023.

The paper classifies by the largest of the scores B h. Here the vector of all scores is the embedding; with more classes
than `network.dim` it is projected to the axes along which scores are largest in the mean of squares. R: the rotation
that brings the coordinates closest to those of the previous generation (`align`).

λ is chosen in the first session, fitted on half of its images and with the smallest squared error on the other half,
and stays. The authors' code chooses it in every session on the images of that session alone, so that its result depends
on the order of the sessions. The paper also trains adapters in the first session; here the trunk stays as it is.
Keeps the counts and means of the classes and the scatter of h within classes, which determine G and Q.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from scrubjay.closed_form.statistics import Statistics
from scrubjay.components.ridge_embedding import RidgeEmbedding, RidgeOptions
from scrubjay.methods import Method, MethodOptions
from scrubjay.models.embedder import Network
from scrubjay.models.transform import Kind


class RanPACOptions(RidgeOptions, MethodOptions):
    """Options of the ridge regression."""


class RanPAC(RidgeEmbedding, Method):
    """Class scores of a ridge regression on random features as embedding."""

    Options = RanPACOptions
    options: RanPACOptions
    default_transform: ClassVar[Kind] = "relu"

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.make_penalty()

    def targets(self, statistics: Statistics) -> Tensor:
        """e_c of every class: float64 (C, C)."""
        return torch.eye(len(statistics.labels), dtype=torch.float64)
