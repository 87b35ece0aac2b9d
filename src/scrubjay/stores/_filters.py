"""What a search may be asked to filter by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from scrubjay.errors import DataError


def wanted(where: Mapping[str, Any] | None) -> dict[str, Any]:
    """The metadata that items must have.

    Raises:
        DataError: a value is none that metadata can have.
    """
    for key, value in (where or {}).items():
        if not isinstance(value, str | int | float | bool | None) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            raise DataError(f"where {key!r} is {value!r}; give text, a number, true/false or null.")
    return dict(where or {})


def unicode(texts: Iterable[str]) -> list[str]:
    r"""Those that an item can have: none with half of a surrogate pair.

    >>> unicode(["a", "\ud800"])
    ['a']
    """
    return [text for text in texts if text.encode(errors="replace").decode() == text]
