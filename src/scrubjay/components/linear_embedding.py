"""Methods whose embedding is a linear map of the features, solved from the statistics after every session."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from scrubjay.closed_form.axes import leading
from scrubjay.closed_form.discriminant import Projection, aligned
from scrubjay.closed_form.statistics import Statistics
from scrubjay.components.accumulation import Accumulation
from scrubjay.components.halves import Halves
from scrubjay.components.verbs import Pass
from scrubjay.config import Config
from scrubjay.errors import DataError
from scrubjay.types import Session


class LinearEmbeddingOptions(Config):
    """Options that all of these methods have."""

    views: int = Field(4, ge=0)
    """Random crops of each training image that are used beside its centre crop."""
    align: bool = True
    """Rotate the axes so that embeddings lie close to those of the previous generation."""


class LinearEmbedding(Accumulation):
    """Accumulates statistics and, after every session, writes the map that `fit` gives for all of them."""

    def end(self, session: Session, images: Pass) -> None:
        """Add the statistics of the session's images, and solve for the map.

        Raises:
            DataError: there are too few classes, or their features are equal or not finite.
            SpaceError: the trunk is another one than that of the earlier sessions.
        """
        super().end(session, images)
        first = self.statistics is None
        self.accumulate(self._first_session(images) if first else self.session_of(images, self.options.views))
        self.solve(align=self.options.align and self.has_past)

    @property
    def aligned_over_one_trunk(self) -> bool:
        """Whether the axes are rotated to those of the generation before; see `closed_form.discriminant.aligned`."""
        return bool(self.options.align)

    def choose(self, fitted: Statistics, held_out: Statistics, crops: tuple[Tensor, Tensor]) -> None:
        """Choose the settings of the method, once, on the images of the first session; without settings do nothing.

        Args:
            fitted: statistics of one half of these images.
            held_out: statistics of the other half; all its classes are in `fitted`.
            crops: features (N, p) and labels int64 (N,) of centre crops of the other half.
        """

    def fit(self, total: Statistics) -> Projection:
        """The map from features to outputs for the statistics of all images; at most `network.dim` axes are kept."""
        raise NotImplementedError

    def solve(self, align: bool) -> None:
        """Write the map for the accumulated statistics into the network, and the class means into its head.

        Args:
            align: rotate the axes so that embeddings lie close to those that the network gives now.

        Raises:
            DataError: there are fewer than two classes, or their features are equal or not finite.
        """
        total = self.statistics
        assert total is not None
        _require_two_classes(total)
        projection = leading(self.fit(total), total, self.network.options.dim)
        self.set_projection(aligned(projection, self.projection, total) if align else projection)
        self.set_head(total.means)

    def _first_session(self, images: Pass) -> Statistics:
        """Statistics of the first session; calls `choose` with its two halves."""
        fitted, held_out = (self.accumulator(images) for _ in range(2))
        split = Halves()
        for features, labels, positions in self.features(images, self.options.views):
            first = split.halves(features, labels, positions)
            fitted.add(features[first], labels[first])
            held_out.add(features[~first], labels[~first])
        _require_two_classes(fitted.statistics())  # every class has an image in the first half
        self.choose(fitted.statistics(), held_out.statistics(), split.centre_crops())
        return fitted.statistics() + held_out.statistics()


def _require_two_classes(statistics: Statistics) -> None:
    number = len(statistics.labels)
    if number < 2:
        raise DataError(f"a metric needs at least two classes and there is {number}: add images of another class.")
