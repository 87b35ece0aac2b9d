"""A discriminant metric solved from accumulated statistics, for methods that learn in closed form."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from scrubjay.closed_form.discriminant import Projection, Target, Weighting
from scrubjay.closed_form.selection import DEFAULTS, Settings, choose
from scrubjay.closed_form.statistics import Statistics
from scrubjay.components.linear_embedding import LinearEmbedding, LinearEmbeddingOptions

TARGETS: tuple[Target, ...] = ("diagonal", "identity")


class MetricOptions(LinearEmbeddingOptions):
    """Options of the metric."""

    target: Target | Literal["first"] = "first"
    """What the covariance within classes is shrunk towards: its diagonal, or a multiple of the identity; "first"
    chooses it on the first session's images."""
    prior: Annotated[float, Field(ge=0)] | Literal["first"] = "first"
    """κ: the covariance within classes of N feature vectors is shrunk by κ/(κ + N); "first" chooses it on the first
    session's images."""
    residual: Annotated[float, Field(ge=0)] | Literal["first"] = "first"
    """ρ, weight of the axes beyond the discriminants; "first" chooses it on the first session's images."""
    weighting: Weighting = "equal"
    """Factor on the discriminant axes: equal, or with "plda" less for axes along which class means are uncertain."""


class DiscriminantMetric(LinearEmbedding):
    """Accumulates statistics and writes the metric that they give into the network.

    Attributes:
        settings: κ, ρ and the position of the target in `TARGETS`, float64 (3,); NaN before the first session.
    """

    options: MetricOptions
    settings: Tensor

    def make_settings(self) -> None:
        """Register the buffer of the settings; to be called once, when the method is made."""
        self.register_buffer("settings", torch.full((3,), torch.nan, dtype=torch.float64))

    def choose(self, fitted: Statistics, held_out: Statistics, crops: tuple[Tensor, Tensor]) -> None:
        """Set `settings`, where the options say so by the centre crops of half of the first session's images."""
        options, chosen = self.options, DEFAULTS
        if self.honest_crops and "first" in (options.prior, options.residual, options.target):
            chosen = choose(fitted, *crops, self.network.options.dim, options.weighting)
        self.settings[0] = chosen.prior if options.prior == "first" else options.prior
        self.settings[1] = chosen.residual if options.residual == "first" else options.residual
        self.settings[2] = TARGETS.index(chosen.target if options.target == "first" else options.target)

    @property
    def honest_crops(self) -> bool:
        """Whether the trunk was not trained on the images that settings are chosen on; otherwise defaults are used."""
        return True

    def fit(self, total: Statistics) -> Projection:
        """The discriminant metric of these statistics."""
        dim, (prior, residual, target) = self.network.options.dim, self.settings.tolist()
        solved = Settings(prior, residual, TARGETS[int(target)]).solve(total, dim)
        return solved.projection(residual, dim, self.options.weighting)
