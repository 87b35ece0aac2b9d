"""The service: a catalogue over HTTP, with a web page. It needs the extra `service`."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("scrubjay")
"""Version of the package."""
