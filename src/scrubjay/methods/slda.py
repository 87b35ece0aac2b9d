"""Streaming linear discriminant analysis: a metric in closed form over accumulated statistics of a fixed trunk.

    z = normalize(R·[Wᵀ(φ − ḡ), √ρ·Vᵀ(φ − ḡ)])

φ: features of the trunk, by default mean and standard deviation of every stage's map (`network.features`). W: Fisher's
discriminant axes; V: further axes of large variance within classes, weighted by ρ; ḡ: mean of the class means
(`closed_form/discriminant.py`). They are solved from the counts and means of the classes and the scatter within
classes, which are summed over the sessions, so the solution after the last session equals the solution on all images at
once, in any order, without an old image. R: the rotation that brings the new coordinates closest to those of the
previous generation, in the mean over all images learned so far, so that a gallery of the old generation stays
searchable; it changes no cosine within a generation.

Fisher 1936; as a classifier over a fixed network Deep SLDA (Hayes and Kanan, CVPR Workshops 2020); as an embedding with
residual axes and alignment this project's own. Each session costs one pass over its images: the centre crop and some
random crops of each.
Keeps p·(p + 1)/2·8 bytes for the scatter, and C·(p·8 + 16) bytes for the classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from scrubjay.closed_form.discriminant import Weighting, aligned, solve
from scrubjay.closed_form.selection import DEFAULTS, choose
from scrubjay.closed_form.statistics import Statistics
from scrubjay.components.accumulation import Accumulation
from scrubjay.components.halves import Halves
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Session


class SLDAOptions(MethodOptions):
    """Options of the metric."""

    views: int = Field(4, ge=0)
    """Random crops of each training image that are used beside its centre crop."""
    shrinkage: Annotated[float, Field(ge=0, le=1)] | Literal["first"] = "first"
    """γ, share of the diagonal in the covariance within classes; "first" chooses it on the first session's images."""
    residual: Annotated[float, Field(ge=0)] | Literal["first"] = "first"
    """ρ, weight of the axes beyond the discriminants; "first" chooses it on the first session's images."""
    weighting: Weighting = "equal"
    """Factor on the discriminant axes: equal, or with "plda" less for axes along which class means are uncertain."""
    align: bool = True
    """Rotate the axes so that embeddings lie close to those of the previous generation."""


class SLDA(Accumulation, Method):
    """A discriminant metric from the statistics of all sessions."""

    Options = SLDAOptions
    options: SLDAOptions
    settings: Tensor

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.register_buffer("settings", torch.full((2,), torch.nan, dtype=torch.float64))

    def end(self, session: Session, images: Pass) -> None:
        """Add the statistics of the session's images, and solve for the metric.

        Raises:
            DataError: there are fewer than two classes, or their features are equal or not finite.
            SpaceError: the trunk is another one than that of the earlier sessions.
        """
        super().end(session, images)
        if self.statistics is None:
            self.accumulate(self._first_session(images))
        else:
            self.accumulate(self.session_of(images, self.options.views))
        self.solve(align=self.options.align and self.has_past)

    def solve(self, align: bool) -> None:
        """Write the metric of the accumulated statistics into the network, and the class means into its head.

        Args:
            align: rotate the axes so that embeddings lie close to those that the network gives now.
        """
        total, dim = self.statistics, self.network.options.dim
        assert total is not None
        shrinkage, residual = self.settings.tolist()
        projection = solve(total, shrinkage, dim).projection(residual, dim, self.options.weighting)
        self.set_projection(aligned(projection, self.projection, total) if align else projection)
        self.set_head(total.means)

    def _first_session(self, images: Pass) -> Statistics:
        """Statistics of the first session; sets `settings`, on half of its images where the options say so."""
        options = self.options
        fitted, held_out = (self.accumulator(images) for _ in range(2))
        split = Halves()
        for features, labels, positions in self.features(images, options.views):
            first = split.halves(features, labels, positions)
            fitted.add(features[first], labels[first])
            held_out.add(features[~first], labels[~first])
        chosen = DEFAULTS
        if "first" in (options.shrinkage, options.residual):
            chosen = choose(fitted.statistics(), *split.centre_crops(), self.network.options.dim, options.weighting)
        self.settings[0] = chosen.shrinkage if options.shrinkage == "first" else options.shrinkage
        self.settings[1] = chosen.residual if options.residual == "first" else options.residual
        return fitted.statistics() + held_out.statistics()
