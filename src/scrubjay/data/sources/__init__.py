"""Sources of images: one file each. A source is a set of options with a `load`."""

from __future__ import annotations

from abc import abstractmethod

from scrubjay import plugins
from scrubjay.config import Config
from scrubjay.types import Dataset


class Source(Config):
    """Where images and their classes come from. Its fields are its options."""

    @abstractmethod
    def load(self) -> Dataset:
        """List the samples; no image is decoded.

        Raises:
            DataError: the layout on disk is not the one expected; the message names what is missing.
        """


def source(name: str) -> type[Source]:
    """The source in the file `name`.

    Raises:
        ConfigError: there is none; the known ones are listed.
    """
    return plugins.load("data.sources", name, Source)
