"""Streaming linear discriminant analysis: a metric in closed form over accumulated statistics of a fixed trunk.

    z = normalize(R·[Wᵀ(φ − ḡ), √ρ·Vᵀ(φ − ḡ)])

φ: features of the trunk, by default mean and standard deviation of every stage's map (`network.features`). W: Fisher's
discriminant axes; V: further axes of large variance within classes, weighted by ρ; ḡ: mean of the class means
(`closed_form/discriminant.py`). They are solved from the counts and means of the classes and the scatter within
classes, which are summed over the sessions, so the solution after the last session equals the solution on all images at
once, in any order, without an old image. R: the rotation that brings the new coordinates closest to those of the
previous generation, in the mean over all images learned so far, so that a gallery of the old generation stays
searchable; it changes no cosine within a generation.

Fisher 1936. As a classifier over a fixed network: Deep SLDA (Hayes and Kanan, CVPR Workshops 2020). As an embedding,
with residual axes and alignment, this project's own. Each session costs one pass over its images: the centre crop and
some random crops of each.

The trunk is not trained, unless `adapt` says so: in the initial session, with L_ce + L_triplet over φ and a projection
that is solved for afterwards: first session adaptation (Panos et al. 2023). Later sessions never train it,
since statistics of another trunk could not be added. "auto" trains it on three quarters of the classes, treats the
others as new, and keeps the trained trunk only if it retrieves images of these better than the untouched one.
Keeps p·(p + 1)/2·8 bytes for the scatter, and C·(p·8 + 16) bytes for the classes.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from scrubjay.closed_form.selection import DEFAULTS
from scrubjay.components.discriminant_metric import DiscriminantMetric, MetricOptions
from scrubjay.components.halves import Halves
from scrubjay.evaluation.retrieval import evaluate_self
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session

logger = logging.getLogger(__name__)

HELD_OUT = 4
"""With adapt = "auto" one class in so many is not trained on, and stands for the classes of later sessions."""


class SLDAOptions(MetricOptions, MethodOptions):
    """Options of the metric, and of training the trunk in the first session."""

    adapt: Literal["never", "first", "auto"] = "never"
    """Whether the first session trains the trunk: never, always, or only where classes that were held out gain."""


class SLDA(DiscriminantMetric, Method):
    """A discriminant metric from the statistics of all sessions."""

    Options = SLDAOptions
    options: SLDAOptions

    def __init__(self, network: Network, options: Any = None) -> None:
        options = self.Options() if options is None else options
        self.uses_teacher = options.adapt == "auto"  # keeps the untouched trunk
        super().__init__(network, options)
        self.make_settings()
        self._adapted = False

    def begin(self, session: Session) -> None:
        """Grow the head; freeze all parameters, unless the trunk is trained in this session."""
        super().begin(session)
        self._adapted = not self.has_past and self.options.adapt != "never"
        if self._adapted:
            self.network.make_trainable()

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy and metric loss, of the classes that are trained on."""
        z, logits = self.network(batch.images)
        if self.options.adapt != "auto":
            return self.plasticity(z, logits, batch.labels)
        trained = ~_held_out(batch.labels)
        if not trained.any():
            return Losses(ce=0 * logits.sum())
        return self.plasticity(z[trained], logits[trained], batch.labels[trained])

    def end(self, session: Session, images: Pass) -> None:
        """Decide on the trunk where the options say so; add the session's statistics, and solve for the metric."""
        if self._adapted and self.options.adapt == "auto":
            self._adapted = self._keeps_trained_trunk(images)
        super().end(session, images)

    @property
    def honest_crops(self) -> bool:
        """False where the trunk was trained on the images that settings would be chosen on."""
        return not self._adapted

    def _keeps_trained_trunk(self, images: Pass) -> bool:
        """Compare the trained trunk with the untouched one, and load the better one."""
        trunk, untouched = self.network.embedder.backbone, self.teacher.embedder.backbone.state_dict()
        trained = {name: value.clone() for name, value in trunk.state_dict().items()}
        with_training = self._precision_of_held_out(images)
        trunk.load_state_dict(untouched)
        without = self._precision_of_held_out(images)
        logger.info("mAP@R of classes held out: %.3f with the trained trunk, %.3f untouched", with_training, without)
        if with_training > without:
            trunk.load_state_dict(trained)
        return with_training > without

    def _precision_of_held_out(self, images: Pass) -> float:
        """mAP@R of centre crops of classes that were not trained on, among those of all classes."""
        fitted, split = self.accumulator(images), Halves()
        for features, labels, positions in self.features(images, self.options.views):
            first = split.halves(features, labels, positions)
            fitted.add(features[first], labels[first])
        statistics, (crops, labels) = fitted.statistics(), split.centre_crops()
        if not len(labels):
            return 0.0
        metric = DEFAULTS.solve(statistics, self.network.options.dim)
        z = F.normalize(metric.projection(DEFAULTS.residual)(crops), dim=1).float().numpy()
        scores = evaluate_self(z, labels.numpy(), (1,), query_mask=_held_out(labels).numpy())
        return scores.map_at_r if scores.queries else 0.0


def _held_out(labels: Tensor) -> Tensor:
    """Which images are of classes that are not trained on: bool (N,)."""
    return labels % HELD_OUT == HELD_OUT - 1
