"""Methods whose embedding is a ridge regression of targets of the classes, solved from accumulated statistics."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from scrubjay.closed_form.discriminant import Projection
from scrubjay.closed_form.ridge import choose_penalty, regress
from scrubjay.closed_form.statistics import Statistics
from scrubjay.components.linear_embedding import LinearEmbedding, LinearEmbeddingOptions


class RidgeOptions(LinearEmbeddingOptions):
    """Options of the ridge regression."""

    penalty: Annotated[float, Field(gt=0)] | Literal["first"] = "first"
    """λ, weight of the squared norm of the map; "first" chooses it on the first session's images."""


class RidgeEmbedding(LinearEmbedding):
    """A ridge regression from features to the targets of their classes.

    Attributes:
        penalty: λ, float64 (); NaN before the first session.
    """

    options: RidgeOptions
    penalty: Tensor

    def make_penalty(self) -> None:
        """Register the buffer of λ; to be called once, when the method is made."""
        self.register_buffer("penalty", torch.tensor(torch.nan, dtype=torch.float64))

    def targets(self, statistics: Statistics) -> Tensor:
        """The target of every class: float64 (C, k)."""
        raise NotImplementedError

    def choose(self, fitted: Statistics, held_out: Statistics, crops: tuple[Tensor, Tensor]) -> None:
        """Set λ, where the options say so by the squared error on half of the first session's images."""
        given = self.options.penalty
        self.penalty.fill_(choose_penalty(fitted, held_out, self.targets) if given == "first" else given)

    def fit(self, total: Statistics) -> Projection:
        """The map B from features to targets."""
        return regress(total, self.targets(total), float(self.penalty))
