"""Reading of MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scrubjay.errors import DataError


def variables(path: Path, *names: str) -> dict[str, Any]:
    """Variables of a MATLAB file by name, as arrays.

    Raises:
        DataError: the file is missing, damaged, or does not hold them.
    """
    from scipy.io import loadmat

    try:
        with path.open("rb") as opened:
            content = loadmat(opened, variable_names=names)
        return {name: content[name] for name in names}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; restore it from the published data set.") from None
    except Exception as error:  # on a damaged file scipy raises errors of any type
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: {' and '.join(names)} cannot be read ({reason}); restore the file from the published data set."
        ) from None
