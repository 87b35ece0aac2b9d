"""Validation of the filters of a search."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from scrubjay.errors import DataError


def checked_filter(where: Mapping[str, Any] | None) -> dict[str, Any]:
    """The required metadata as a dict.

    Raises:
        DataError: a value has a type that metadata cannot have, or is not finite.
    """
    for key, value in (where or {}).items():
        if not isinstance(value, str | int | float | bool | None) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            raise DataError(f"where {key!r} is {value!r}; give text, a number, true/false or null.")
    return dict(where or {})


def checked_after(after: str | None) -> str | None:
    """The id after which a page begins.

    Raises:
        DataError: no item can have such an id.
    """
    if after is not None and ("\0" in after or not valid_unicode([after])):
        raise DataError(f"cursor {after!a}: no page ends with such an id; give the cursor of a page.")
    return after


def valid_unicode(texts: Iterable[str]) -> list[str]:
    r"""The texts that are valid Unicode; a text with a lone surrogate cannot be stored, so no item has it.

    >>> valid_unicode(["a", "\ud800"])
    ['a']
    """
    return [text for text in texts if text.encode(errors="replace").decode() == text]
