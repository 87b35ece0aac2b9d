"""Identity: z → z, vectors are compared unchanged. The baseline for every other bridge."""

from __future__ import annotations

from collections.abc import Sequence

from scrubjay.bridges._fitter import BridgeFitter, Vectors


class Identity(BridgeFitter):
    """The map that changes nothing."""

    rank = 0
    resizes = False
    min_strength_without_gallery = 0.0

    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """An empty set of tensors for each strength."""
        return [{} for _ in strengths]
