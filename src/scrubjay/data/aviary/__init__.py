"""A generator of field-guide birds: any number of species, and the same images for the same seed."""

from scrubjay.data.aviary.album import Album
from scrubjay.data.aviary.image import bird_image
from scrubjay.data.aviary.names import name

__all__ = ["REVISION", "Album", "bird_image", "name"]

REVISION = 2
"""Version of the drawing: increased whenever it changes, so that images drawn by an older version are not reused."""
