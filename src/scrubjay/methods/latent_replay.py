"""Latent replay: stored activations of old images train the last part of the trunk, under a metric in closed form.

L = L_ce + L_triplet, over all classes learned so far;   z = normalize(R·[Wᵀ(φ − ḡ), √ρ·Vᵀ(φ − ḡ)])

This method keeps features of old images, though not the images. The activations of the frozen part of the network
(`network.frozen`) are stored for every crop that is learned from, float16. In later sessions each batch of new images
is joined by stored activations of old classes, so the rest of the trunk is trained on all classes, as by `joint`; then
the metric of `slda` is solved from the statistics of all stored activations over the trunk as it is now.
R: the rotation that brings the embeddings of the old class means closest to where they were.

Latent replay: Pellegrini et al., Latent Replay for Real-Time Continual Learning, IROS 2020; with a metric in closed
form this project's own.
Keeps 2 bytes for each activation and crop: 5.3 kB with `frozen = "blocks.5"` of the default backbone at 96 pixels
(192·3·3 of the map, 928 features of the stages before it); and the projection and head that gradients go through.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from scrubjay.closed_form.statistics import Accumulator, Statistics
from scrubjay.components.discriminant_metric import MetricOptions
from scrubjay.components.latents import Latents
from scrubjay.components.trained_trunk import TrainedTrunk
from scrubjay.errors import ConfigError
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session


class LatentReplayOptions(MetricOptions, MethodOptions):
    """Options of the replay and of the metric."""

    replay_classes: int = Field(32, ge=1)
    """Old classes of which stored activations join each batch of new images."""
    replay_each: int = Field(5, ge=1)
    """Stored activations of each of these classes."""


class LatentReplay(TrainedTrunk, Method):
    """Training on new images and stored activations of old ones, then a discriminant metric."""

    Options = LatentReplayOptions
    options: LatentReplayOptions

    def __init__(self, network: Network, options: Any = None) -> None:
        if network.embedder.stem is None:
            raise ConfigError(
                "latent_replay stores activations of the network's frozen part, and nothing is frozen: set "
                'network.frozen, for instance to "blocks.5".'
            )
        super().__init__(network, options)
        self.make_settings()
        self.latents = Latents()

    @property
    def _first(self) -> int:
        """Batches have labels of all classes."""
        return 0

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy and metric loss over new images and stored activations of old ones."""
        activations, labels = self.network.embedder.prepare(batch.images), batch.labels
        if self.has_past:
            old, old_labels = self.latents.drawn(self.options.replay_classes, self.options.replay_each)
            activations, labels = torch.cat([activations, old.to(activations)]), torch.cat([labels, old_labels])
        z, logits = self.network(activations)
        return self.plasticity(z, logits, labels)

    def end(self, session: Session, images: Pass) -> None:
        """Store the activations of the session's images, and solve for the metric of all that are stored."""
        with torch.no_grad():
            for batch in images(self.options.views):
                self.latents.add(self.network.embedder.prepare(batch.images), batch.labels)
        super().end(session, images)

    @torch.no_grad()
    def _first_session(self, images: Pass) -> Statistics:
        collected = Accumulator(images.era, self.network.embedder.projection.in_features)
        for activations, labels in self.latents.batches():
            collected.add(self.network.embedder.features(activations).cpu().half(), labels.cpu())
        total = collected.statistics()
        self.choose(total, total, (total.means, total.labels))
        return total
