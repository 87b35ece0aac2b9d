"""Files that the service keeps of images that are no items: queries, and uploads that nobody has learned yet.

shop/unknown/<content>                          images of queries that matched nothing
shop/shadow/<content>-<number>.ppm              images that the shadow generation has still to answer
shop/uploads/<id>/{images,left_out}/<class>/…   images that were sent to be learned
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from scrubjay.data.photos import content_hash
from scrubjay.errors import ImageError
from scrubjay.types import Sample

UNKNOWN = "images of unknown queries"
SHADOW = "images that wait for a shadow answer"
UPLOADS = "images that were uploaded and not learned"


def sent_files(folder: Path, classes: Collection[str], contents: Collection[str]) -> dict[str, list[Path]]:
    """The files of the service that show images which are to be removed, by place; places without one are left out.

    Args:
        folder: folder of the catalogue.
        classes: names of classes.
        contents: content hashes of images.
    """
    found = {
        UNKNOWN: [path for path in sorted(folder.glob("unknown/*")) if path.name in contents],
        SHADOW: [path for path in sorted(folder.glob("shadow/*.ppm")) if path.name.partition("-")[0] in contents],
        UPLOADS: [path for path, name in _uploaded(folder / "uploads") if name in classes or _shows(path, contents)],
    }
    return {place: paths for place, paths in found.items() if paths}


def _uploaded(folder: Path) -> Iterator[tuple[Path, str]]:
    """Uploaded images with the names of their classes."""
    for root in sorted(path for kept in ("images", "left_out") for path in folder.glob(f"*/{kept}")):
        for path in sorted(root.rglob("*")):
            if path.is_file():
                parts = path.relative_to(root).parts
                yield path, parts[1] if parts[0] in ("train", "test") and len(parts) > 2 else parts[0]


def _shows(path: Path, contents: Collection[str]) -> bool:
    try:
        return content_hash(Sample(path, 0)) in contents
    except ImageError:  # another process has deleted it
        return False
