"""Discriminant analysis over a trunk that is trained on in every session, with statistics carried from trunk to trunk.

L = L_ce + L_triplet + w·(1/p) Σ_j (φ'_j − φ_j)²/σ_j²;   z = normalize(R·[Wᵀ(φ' − ḡ), √ρ·Vᵀ(φ' − ḡ)])

The initial session trains the trunk as `slda` with `adapt = "first"` does. Every later session trains it on, on its
own images: φ are the features of an image by the trunk of the session before, φ' by the trunk being trained, σ_j the
standard deviation of feature j within the classes so far. Then the statistics of all earlier sessions are carried to
the new trunk by a linear map φ → φ' that is fitted on the session's images, with its penalty chosen on classes that are
left out (`closed_form/transport.py`), the statistics of the session's images are added, and the metric of `slda` is
solved. R: the rotation that brings the embeddings of all old images closest to where they were, by their second
moments. κ, ρ and the target are chosen on the features of the untouched trunk, which was not trained on the images.

Unlike with `slda` the result depends on the order of sessions, and carried moments are estimates: the map fits images
of new classes, and old ones move otherwise, so w keeps the trunk close to the one before. Every session has a trunk of
its own. So stored features of a gallery are of no use to the next generation, an older gallery is searched over bridges
until it is embedded again, and nothing can be removed from what was learned.

This project's own method. Related: dual projection, which maps statistics in closed form by ridge regression from trunk
to trunk (DPCR, ICML 2025).
Keeps p·(p + 1)/2·8 bytes for the scatter, C·(p + 2)·8 bytes for the classes, and the projection and head that
gradients go through.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from scrubjay.closed_form.discriminant import Projection, common_moment, rotation
from scrubjay.closed_form.statistics import Statistics
from scrubjay.closed_form.transport import FeatureMap, fit
from scrubjay.components.discriminant_metric import MetricOptions
from scrubjay.components.even_sample import EvenSample
from scrubjay.components.stored_statistics import StoredStatistics
from scrubjay.components.trained_trunk import TrainedTrunk
from scrubjay.errors import ConfigError
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session

PAIRS = 2000
"""Number of crops from which on only some images of a session take part in the fit of the map, evenly chosen."""


class CarriedSLDAOptions(MetricOptions, MethodOptions):
    """Options of training the trunk on, and of the metric."""

    weight: float = Field(1.0, ge=0)
    """w, weight of the squared distance of features to those of the trunk before, in units of their variance within
    classes."""


class CarriedSLDA(TrainedTrunk, Method):
    """Training on new images close to the trunk before, then a discriminant metric from carried statistics."""

    Options = CarriedSLDAOptions
    options: CarriedSLDAOptions
    uses_teacher = True

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.make_settings()
        self.carried = StoredStatistics()
        self._deviations = torch.ones(1)
        self._carrying: tuple[Statistics, FeatureMap] | None = None

    def begin(self, session: Session) -> None:
        """Make a teacher of the network with the metric before, and let gradients reach the network.

        Raises:
            ConfigError: earlier sessions were learned by another method.
        """
        if session.first_label > 0 and self.carried.empty:
            raise ConfigError(
                f"{session.first_label} classes were learned by a method that keeps no statistics for carried_slda, so "
                "they would be lost: go on with that method, or learn all classes again from the first session on."
            )
        before = {name: value.clone() for name, value in self.network.state_dict().items()}
        super().begin(session)
        self.teacher.load_state_dict(before)  # it was copied with the projection that is trained
        if self.has_past:
            self._deviations = self.carried.get("").deviations.float()

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on the distance to the features before."""
        embedder, activations = self.network.embedder, self.network.embedder.prepare(batch.images)
        features = embedder.features(activations)
        z = embedder.project(features)
        losses = self.plasticity(z, self.network.head(z), batch.labels)
        if self.has_past:
            with torch.no_grad():
                before = self.teacher.embedder.features(activations)
            moved = (features - before).float() / self._deviations.to(features.device)
            losses["l2"] = self.options.weight * moved.square().mean()
        return losses

    def end(self, session: Session, images: Pass) -> None:
        """Carry the statistics to the new trunk, add those of the session, solve for the metric, and keep them."""
        super().end(session, images)
        self._carrying = None

    @property
    def honest_crops(self) -> bool:
        """True: settings are chosen on features of the untouched trunk."""
        return True

    def solve(self, align: bool) -> None:
        """Write the metric into the network, and the class means into its head.

        Args:
            align: rotate the axes so that old images are embedded close to where they were, as far as their second
                moments and the map between the trunks tell.
        """
        super().solve(align=False)
        assert self.statistics is not None
        if align and self._carrying is not None:
            old, mapping = self._carrying
            layer = self.teacher.embedder.projection
            before = Projection(layer.weight.cpu().double(), layer.bias.cpu().double())
            moment = common_moment(mapping.before(self.projection), before, old)
            self.set_projection(self.projection.rotated(rotation(moment)))
            self.set_head(self.statistics.means)

    @torch.no_grad()
    def _first_session(self, images: Pass) -> Statistics:
        """Statistics of all images so far over the trunk as it is now."""
        if not self.has_past:
            self._choose_settings(images)
            total = self.session_of(images, self.options.views)
        else:
            total = self._carried_and_new(images)
        self.carried.put(total)
        return total

    def _carried_and_new(self, images: Pass) -> Statistics:
        """The statistics of earlier sessions, carried to the trunk as it is now, and those of the session's images."""
        session, pairs = self.accumulator(images), EvenSample(PAIRS)
        for batch in images(self.options.views):
            activations = self.network.embedder.prepare(batch.images)
            new, old = (each.embedder.features(activations).half().cpu() for each in (self.network, self.teacher))
            session.add(new, batch.labels.cpu())
            pairs.add(old, new, batch.labels.cpu())
        old, new, labels = pairs.columns()
        carried = self.carried.get("")
        mapping = fit(old, new, labels, carried.deviations)
        self._carrying = carried, mapping
        return mapping.transported(carried, images.era) + session.statistics()

    def _choose_settings(self, images: Pass) -> None:
        """Choose the settings of the metric on the features of the untouched trunk, which the teacher still has."""
        embedder = self.network.embedder
        trained = {name: value.clone() for name, value in embedder.state_dict().items()}
        embedder.load_state_dict(self.teacher.embedder.state_dict())
        super()._first_session(images)
        embedder.load_state_dict(trained)
