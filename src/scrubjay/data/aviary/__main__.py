"""A worker process that draws a part of an album: `python -m scrubjay.data.aviary 1/2 folder=… species=… …`."""

import sys

from scrubjay.data.aviary.album import Album

part, parts = map(int, sys.argv[1].split("/"))
options = dict(argument.split("=", 1) for argument in sys.argv[2:])
Album(options.pop("folder"), **{key: int(value) for key, value in options.items()}).draw(part, parts)
