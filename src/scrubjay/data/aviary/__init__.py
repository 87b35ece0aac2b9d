"""An aviary without end: field-guide birds, drawn. Any number of species, the same birds for the same seed."""

from scrubjay.data.aviary.album import Album
from scrubjay.data.aviary.names import name
from scrubjay.data.aviary.picture import picture

__all__ = ["REVISION", "Album", "name", "picture"]

REVISION = 2
"""Raised whenever the drawing changes, so that pictures drawn before are not mistaken for new ones."""
