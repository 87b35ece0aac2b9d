"""Bridges: maps between the embedding spaces of two generations. Each kind of bridge has a file of its own."""

from __future__ import annotations

from scrubjay.bridges._bridge import Bridge, compose
from scrubjay.bridges._files import learned, load, save
from scrubjay.bridges._fitter import BridgeFitter, fit
from scrubjay.bridges._paired import PairedEmbeddings
from scrubjay.bridges._selection import Choice, choose

__all__ = [
    "Bridge",
    "BridgeFitter",
    "Choice",
    "PairedEmbeddings",
    "choose",
    "compose",
    "fit",
    "learned",
    "load",
    "save",
]
