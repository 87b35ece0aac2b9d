"""Joint training, then a metric in closed form: the upper reference for methods that learn in closed form.

L = L_ce + L_triplet, over all classes learned so far;   z = normalize([Wᵀ(φ − ḡ), √ρ·Vᵀ(φ − ḡ)])

The trunk is trained as by `joint`, from the initial session on, through a projection of its own; after every session
the metric of `slda` is solved from the statistics of all images so far over the trained trunk.
Needs the old images; keeps the projection and the head that gradients go through.
"""

from __future__ import annotations

from typing import Any

from scrubjay.components.discriminant_metric import MetricOptions
from scrubjay.components.trained_trunk import TrainedTrunk
from scrubjay.methods import Method, MethodOptions
from scrubjay.models.embedder import Network


class JointSLDAOptions(MetricOptions, MethodOptions):
    """Options of the training and of the metric."""


class JointSLDA(TrainedTrunk, Method):
    """Joint training, then a discriminant metric from the statistics of all images."""

    Options = JointSLDAOptions
    options: JointSLDAOptions
    needs_old_images = True

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.make_settings()
