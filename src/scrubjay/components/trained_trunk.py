"""A trunk that is trained in every session, under a discriminant metric that is solved again over all its features."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch.nn.functional as F

from scrubjay.closed_form.discriminant import rotation
from scrubjay.components.discriminant_metric import DiscriminantMetric
from scrubjay.components.verbs import Pass
from scrubjay.types import Session


class TrainedTrunk(DiscriminantMetric):
    """Trains the network by gradients, through a projection and a head of their own, then solves for the metric.

    Statistics of an earlier trunk are of no use, so those of a session must hold all images learned so far.

    Attributes:
        trained_projection: the projection that gradients go through.
        trained_head: the head that gradients go through.
        metric_head: the head of the metric: embeddings of the class means.
    """

    keeps_statistics: ClassVar[bool] = False

    def make_settings(self) -> None:
        """Register the settings, and copies of the projection and the head; to be called once."""
        super().make_settings()
        self.trained_projection = copy.deepcopy(self.network.embedder.projection)
        self.trained_head = copy.deepcopy(self.network.head)
        self.metric_head = copy.deepcopy(self.network.head)

    def begin(self, session: Session) -> None:
        """Go on with the projection and head that were trained, and let gradients reach the network."""
        self.network.embedder.projection.load_state_dict(self.trained_projection.state_dict())
        self.network.head.load_state_dict(self.trained_head.state_dict())
        super().begin(session)
        self.network.make_trainable()

    def end(self, session: Session, images: Pass) -> None:
        """Keep what was trained, and solve for the metric."""
        self.trained_projection.load_state_dict(self.network.embedder.projection.state_dict())
        self.trained_head.load_state_dict(self.network.head.state_dict())
        super().end(session, images)
        self.metric_head.load_state_dict(self.network.head.state_dict())
        self.statistics = self.session_statistics = None

    @property
    def honest_crops(self) -> bool:
        """False: the trunk was trained on the images that settings would be chosen on."""
        return False

    def solve(self, align: bool) -> None:
        """Write the metric into the network, and the class means into its head.

        Args:
            align: rotate the axes so that the class means are embedded close to where the metric before had them. The
                two trunks have no features in common, so all images cannot take part in the alignment.
        """
        super().solve(align=False)
        assert self.statistics is not None
        means, projection = self.statistics.means, self.projection
        old = self.metric_head.weight.detach().cpu().double()
        if align:
            new = F.normalize(projection(means[: len(old)]), dim=1)
            self.set_projection(projection.rotated(rotation(old.T @ new)))
            self.set_head(means)
