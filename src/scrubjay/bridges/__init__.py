"""Maps between the embedding spaces of two generations: one file a kind."""

from __future__ import annotations

from scrubjay.bridges._bridge import Bridge, compose
from scrubjay.bridges._files import learned, load, save
from scrubjay.bridges._fitter import Kind, fit
from scrubjay.bridges._paired import Judged
from scrubjay.bridges._selection import Choice, choose

__all__ = ["Bridge", "Choice", "Judged", "Kind", "choose", "compose", "fit", "learned", "load", "save"]
