"""A discriminant metric solved from accumulated statistics, for methods that learn in closed form."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from scrubjay.closed_form.discriminant import Weighting, aligned, solve
from scrubjay.closed_form.selection import DEFAULTS, Settings, choose
from scrubjay.closed_form.statistics import Statistics
from scrubjay.components.accumulation import Accumulation
from scrubjay.components.verbs import Pass
from scrubjay.config import Config
from scrubjay.types import Session

HELD_OUT = 2000
"""Largest number of images of the first session that the settings are chosen on."""


class MetricOptions(Config):
    """Options of the metric."""

    views: int = Field(4, ge=0)
    """Random crops of each training image that are used beside its centre crop."""
    prior: Annotated[float, Field(ge=0)] | Literal["first"] = "first"
    """κ: the covariance within classes of N feature vectors is shrunk towards its diagonal by κ/(κ + N); "first"
    chooses it on the first session's images."""
    residual: Annotated[float, Field(ge=0)] | Literal["first"] = "first"
    """ρ, weight of the axes beyond the discriminants; "first" chooses it on the first session's images."""
    weighting: Weighting = "equal"
    """Factor on the discriminant axes: equal, or with "plda" less for axes along which class means are uncertain."""
    align: bool = True
    """Rotate the axes so that embeddings lie close to those of the previous generation."""


class DiscriminantMetric(Accumulation):
    """Accumulates statistics and writes the metric that they give into the network.

    Attributes:
        settings: κ and ρ, float64 (2,); NaN before the first session.
    """

    options: MetricOptions
    settings: Tensor

    def make_settings(self) -> None:
        """Register the buffer of the settings; to be called once, when the method is made."""
        self.register_buffer("settings", torch.full((2,), torch.nan, dtype=torch.float64))

    def end(self, session: Session, images: Pass) -> None:
        """Add the statistics of the session's images, and solve for the metric.

        Raises:
            DataError: there are fewer than two classes, or their features are equal or not finite.
            SpaceError: the trunk is another one than that of the earlier sessions.
        """
        super().end(session, images)
        first = bool(self.settings.isnan().any())
        self.accumulate(self._first_session(images) if first else self.session_of(images, self.options.views))
        self.solve(align=self.options.align and self.has_past)

    def solve(self, align: bool) -> None:
        """Write the metric of the accumulated statistics into the network, and the class means into its head.

        Args:
            align: rotate the axes so that embeddings lie close to those that the network gives now.
        """
        total, dim = self.statistics, self.network.options.dim
        assert total is not None
        settings = Settings(*self.settings.tolist())
        solved = solve(total, settings.shrinkage(total), dim)
        projection = solved.projection(settings.residual, dim, self.options.weighting)
        self.set_projection(aligned(projection, self.projection, total) if align else projection)
        self.set_head(total.means)

    def _first_session(self, images: Pass) -> Statistics:
        """Statistics of the first session; sets `settings`, on half of its images where the options say so."""
        options = self.options
        fitted, held_out = (self.accumulator(images) for _ in range(2))
        split = _Halves()
        for features, labels, positions in self.features(images, options.views):
            first = split.halves(features, labels, positions)
            fitted.add(features[first], labels[first])
            held_out.add(features[~first], labels[~first])
        chosen = DEFAULTS
        if "first" in (options.prior, options.residual):
            chosen = choose(fitted.statistics(), *split.centre_crops(), self.network.options.dim, options.weighting)
        self.settings[0] = chosen.prior if options.prior == "first" else options.prior
        self.settings[1] = chosen.residual if options.residual == "first" else options.residual
        return fitted.statistics() + held_out.statistics()


class _Halves:
    """Assigns the images of each class to two halves in turn, and keeps the centre crops of the second half."""

    def __init__(self) -> None:
        self._first: dict[int, bool] = {}
        self._turn: Counter[int] = Counter()
        self._kept: list[tuple[Tensor, int]] = []

    def halves(self, features: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        """Which rows belong to images of the first half: bool (B,); the first row of an image is its centre crop."""
        for row, (label, position) in enumerate(zip(labels.tolist(), positions.tolist(), strict=True)):
            if position not in self._first:
                self._first[position] = self._turn[label] % 2 == 0
                self._turn[label] += 1
                if not self._first[position] and len(self._kept) < HELD_OUT:
                    self._kept.append((features[row], label))
        return torch.tensor([self._first[position] for position in positions.tolist()], dtype=torch.bool)

    def centre_crops(self) -> tuple[Tensor, Tensor]:
        """Features (N, p) and labels int64 (N,) of centre crops of the second half."""
        features = [row for row, _ in self._kept]
        labels = torch.tensor([label for _, label in self._kept], dtype=torch.int64)
        return torch.stack(features) if features else torch.empty(0, 0), labels
