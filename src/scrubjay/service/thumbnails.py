"""Images of items as small JPEG files, kept in memory up to a limit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Thumbnails:
    """A cache of re-encoded images; those that were asked for least recently are dropped first.

    Args:
        limit: number of bytes that are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable) -> bytes | None:
        """A kept image; None if it is not kept."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: Hashable, content: bytes) -> None:
        """Keep an image, unless it is larger than the limit."""
        if len(content) > self._limit:
            return
        self._size += len(content) - len(self._kept.pop(key, b""))
        self._kept[key] = content
        while self._size > self._limit:
            self._size -= len(self._kept.popitem(last=False)[1])
