"""Learning without gradient steps: statistics of the trunk's features are accumulated session by session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from scrubjay.closed_form.crops import Crops
from scrubjay.closed_form.discriminant import Projection
from scrubjay.closed_form.statistics import Accumulator, Statistics
from scrubjay.components.verbs import Pass, Verbs
from scrubjay.errors import ConfigError
from scrubjay.types import Session


class Accumulation(Verbs):
    """Accumulates the statistics of trunk features, and trains no parameter.

    Attributes:
        statistics: statistics of all images learned so far; None before the first session. They are not part of the
            `state_dict`: they are stored by session, since images can be removed from them later.
        session_statistics: the last session's share of `statistics`.
        kept_features: where a list is set here, it holds the features of the last pass over a session's images and the
            positions of these, batch by batch.
        keeps_statistics: whether later sessions need the statistics of earlier ones.
    """

    own_start: ClassVar[bool] = True
    has_memory: ClassVar[bool] = True
    default_features: ClassVar[Literal["last", "stages"]] = "stages"
    keeps_statistics: ClassVar[bool] = True
    statistics: Statistics | None = None
    session_statistics: Statistics | None = None
    kept_features: list[tuple[Tensor, Tensor]] | None = None

    def begin(self, session: Session) -> None:
        """Grow the head, and freeze all parameters.

        Raises:
            ConfigError: earlier sessions were learned without their statistics.
        """
        if session.first_label > 0 and self.statistics is None and self.keeps_statistics:
            raise ConfigError(
                f"{session.first_label} classes were learned by a method that keeps no statistics of trunk features, "
                "so they would be lost: go on with that method, or learn all classes again from the first session on."
            )
        super().begin(session)
        self.requires_grad_(False)

    def accumulator(self, images: Pass) -> Accumulator:
        """An empty accumulator for features of these images."""
        return Accumulator(images.era, self.network.embedder.projection.in_features)

    def session_of(self, images: Pass, views: int) -> Statistics:
        """Statistics of a session's images; see `features`."""
        if self.kept_features is None:
            return images.statistics(views)
        collected = self.accumulator(images)
        for features, labels, _ in self.features(images, views):
            collected.add(features, labels)
        return collected.statistics()

    def accumulate(self, session: Statistics) -> Statistics:
        """Add the statistics of a session to those of the earlier ones.

        Returns:
            The statistics of all images learned so far.

        Raises:
            SpaceError: the features are of another trunk than those of the earlier sessions.
        """
        self.session_statistics = session
        self.statistics = session if self.statistics is None else self.statistics + session
        return self.statistics

    def features(self, images: Pass, views: int) -> Iterator[Crops]:
        """Batches of trunk features of a session's images.

        They are rounded to float16, as they may be stored, so that what was stored removes exactly what was added.

        Args:
            images: pass over the images.
            views: random crops of each image that are used beside its centre crop.
        """
        if self.kept_features is not None:
            self.kept_features.clear()
        for crops in images.features(views):
            if self.kept_features is not None:
                self.kept_features.append((crops.features, crops.positions))
            yield crops

    def solve(self, align: bool) -> None:
        """Write the metric of the accumulated statistics into the network, and the class means into its head.

        Args:
            align: rotate its axes so that embeddings lie close to those of the metric before.
        """
        raise NotImplementedError

    @property
    def projection(self) -> Projection:
        """The map from trunk features to embeddings before normalisation, as the network has it."""
        layer = self.network.embedder.projection
        return Projection(layer.weight.detach().cpu().double(), layer.bias.detach().cpu().double())

    @torch.no_grad()
    def set_projection(self, projection: Projection) -> None:
        """Write a map to at most d coordinates into the network; unused coordinates are 0."""
        layer = self.network.embedder.projection
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[: len(projection.bias)] = projection.weight.to(layer.weight)
        layer.bias[: len(projection.bias)] = projection.bias.to(layer.bias)

    @torch.no_grad()
    def set_head(self, means: Tensor) -> None:
        """Make the head a nearest class mean classifier: its rows are the embeddings of the class means, its bias is 0.

        Args:
            means: (C, p) mean trunk features of all classes.
        """
        head = self.network.head
        head.weight.copy_(self.network.embedder.project(means.to(head.weight)))
        head.bias.zero_()
