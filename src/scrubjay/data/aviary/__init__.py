"""An aviary without end: field-guide birds, drawn. Any number of species, the same birds for the same seed."""

from scrubjay.data.aviary.album import Album
from scrubjay.data.aviary.image import bird_image
from scrubjay.data.aviary.names import name

__all__ = ["REVISION", "Album", "bird_image", "name"]

REVISION = 2
"""Raised whenever the drawing changes, so that images drawn before are not mistaken for new ones."""
