"""Sources of images: one file per source. A source is a set of options with a method `load`."""

from __future__ import annotations

from abc import abstractmethod

from scrubjay import plugins
from scrubjay.config import Config
from scrubjay.types import Dataset


class Source(Config):
    """A data set to load images and classes from. Its fields are its options."""

    @abstractmethod
    def load(self) -> Dataset:
        """List the samples; no image is decoded.

        Raises:
            DataError: the layout on disk is not the expected one; the message names the missing part.
        """


def source(name: str) -> type[Source]:
    """The source in the file `name`.

    Raises:
        ConfigError: there is no such source; the known names are listed.
    """
    return plugins.load("data.sources", name, Source)
