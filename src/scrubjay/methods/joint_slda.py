"""Joint training, then a metric in closed form: the upper reference for methods that learn in closed form.

L = L_ce + L_triplet, over all classes learned so far;   z = normalize([Wᵀ(φ − ḡ), √ρ·Vᵀ(φ − ḡ)])

The trunk is trained as by `joint`, from the initial session on, through a projection of its own; after every session
the metric of `slda` is solved from the statistics of all images so far over the trained trunk.
Needs the old images; keeps the projection and the head that gradients go through.
"""

from __future__ import annotations

import copy
from typing import Any

from scrubjay.components.discriminant_metric import DiscriminantMetric, MetricOptions
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Session


class JointSLDAOptions(MetricOptions, MethodOptions):
    """Options of the training and of the metric."""


class JointSLDA(DiscriminantMetric, Method):
    """Joint training, then a discriminant metric from the statistics of all images."""

    Options = JointSLDAOptions
    options: JointSLDAOptions
    needs_old_images = True
    honest_crops = False

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.make_settings()
        self.trained_projection = copy.deepcopy(network.embedder.projection)
        self.trained_head = copy.deepcopy(network.head)

    def begin(self, session: Session) -> None:
        """Go on with the projection and head that were trained, and let gradients reach the network."""
        self.network.embedder.projection.load_state_dict(self.trained_projection.state_dict())
        self.network.head.load_state_dict(self.trained_head.state_dict())
        super().begin(session)
        self.network.make_trainable()

    def end(self, session: Session, images: Pass) -> None:
        """Keep what was trained, and solve for the metric of all images; its statistics are of no use later."""
        self.trained_projection.load_state_dict(self.network.embedder.projection.state_dict())
        self.trained_head.load_state_dict(self.network.head.state_dict())
        super().end(session, images)
        self.statistics = self.session_statistics = None
