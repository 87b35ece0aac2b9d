"""The vectors as they are: z ↦ z. What every other bridge has to beat."""

from __future__ import annotations

CHANGES_DIMENSION = False
