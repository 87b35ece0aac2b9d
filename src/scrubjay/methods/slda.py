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

from typing import Any

from scrubjay.components.discriminant_metric import DiscriminantMetric, MetricOptions
from scrubjay.methods import Method, MethodOptions
from scrubjay.models.embedder import Network


class SLDAOptions(MetricOptions, MethodOptions):
    """Options of the metric."""


class SLDA(DiscriminantMetric, Method):
    """A discriminant metric from the statistics of all sessions."""

    Options = SLDAOptions
    options: SLDAOptions

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.make_settings()
