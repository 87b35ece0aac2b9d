"""What the sources share in reading folders and lists; every problem is a DataError."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from scrubjay.errors import DataError

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm"}
)


def folder(path: Path) -> Path:
    """The absolute path of a folder that exists.

    Raises:
        DataError: it does not.
    """
    absolute = Path(os.path.abspath(path.expanduser()))
    if not absolute.is_dir():
        raise DataError(f"{path}: no such folder; give the folder that holds the images.")
    return absolute


def containing(root: Path, name: str, layout: str) -> Path:
    """The folder with the file `name`: `root`, or the only such folder at most two levels below it.

    Raises:
        DataError: there is none, or several.
    """
    root = folder(root)
    for pattern in (name, f"*/{name}", f"*/*/{name}"):
        found = sorted(root.glob(pattern))
        if len(found) > 1:
            raise DataError(f"{root}: {name} is in {len(found)} folders; give one of them: {found[0].parent}.")
        if found:
            return found[0].parent
    raise DataError(f"{root}: no {name} in it; give the folder of {layout}.")


def inside(root: Path, relative: str, where: str) -> Path:
    """`root / relative`, which must not leave `root`; `where` names the entry.

    Raises:
        DataError: it leaves it.
    """
    path = Path(os.path.normpath(root / relative))
    if not path.is_relative_to(root):
        raise DataError(f"{where}: path {relative!r} leads out of {root}; keep it inside.")
    return path


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text that are not empty, each with a name for it: file and number.

    Raises:
        DataError: the file is missing or no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; restore it from the published data set.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text in UTF-8; restore it from the published data set.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); mend its permissions.") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"{path}, line {number}", line.strip()


def subfolders(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        _unreadable(error)


def images_below(path: Path) -> list[Path]:
    """All image files under a folder, sorted. Hidden files and folders are left out, links are followed once.

    Raises:
        DataError: a folder cannot be read.
    """
    found: list[Path] = []
    visited: set[str] = set()
    for parent, folders, files in os.walk(path, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in visited else [name for name in folders if not name.startswith(".")]
        if real not in visited:
            found += [Path(parent, name) for name in files if _is_image(name)]
        visited.add(real)
    return sorted(found)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror}); mend its permissions.")
