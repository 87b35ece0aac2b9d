"""The vectors as they are: z → z. What every other bridge has to beat."""

from __future__ import annotations

from collections.abc import Sequence

from scrubjay.bridges._fitter import Kind, Vectors


class Identity(Kind):
    """Nothing is done."""

    rank = 0
    resizes = False
    blind = 0.0

    def fit(self, source: Vectors, target: Vectors, strengths: Sequence[float]) -> list[dict[str, Vectors]]:
        """No tensors."""
        return [{} for _ in strengths]
