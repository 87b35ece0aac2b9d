"""The vectors as they are: z → z. What every other bridge has to beat."""

from __future__ import annotations

from scrubjay.bridges._kind import Kind, Vectors


class Identity(Kind):
    """No map at all."""

    rank = 0
    resizes = False

    def fit(self, source: Vectors, target: Vectors, strength: float) -> dict[str, Vectors]:
        """No tensors."""
        return {}
