"""Maps between the embedding spaces of two generations: one file a kind."""

from __future__ import annotations

from scrubjay.bridges._bridge import Bridge, compose
from scrubjay.bridges._choosing import Choice, choose
from scrubjay.bridges._files import learned, load, save
from scrubjay.bridges._judged import Judged
from scrubjay.bridges._kind import Kind, fit

__all__ = ["Bridge", "Choice", "Judged", "Kind", "choose", "compose", "fit", "learned", "load", "save"]
