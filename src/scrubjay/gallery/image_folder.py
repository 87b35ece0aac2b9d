"""Images of items that were sent to the catalogue instead of being read where they are: `shop/images/ab/<id>.jpg`.

A file holds the bytes as they were sent; its name is the content hash of these bytes, which is the id of the item.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from scrubjay.data.images import image_extension
from scrubjay.data.photos import bytes_hash
from scrubjay.errors import StorageError
from scrubjay.io.atomic import write_file


class ImageFolder:
    """The folder of such images.

    Args:
        folder: its path; it is created by the first image.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def put(self, content: bytes) -> Path:
        """Store an image; returns the path of its file. The same image again has no effect.

        Raises:
            ImageError: it is not an image of a known format; only its header is read.
            StorageError: the disk is full or the folder cannot be written.
        """
        name = bytes_hash(content)
        path = self.folder / name[:2] / f"{name}.{image_extension(content)}"
        if not path.exists():
            write_file(path, content)
        return path

    def remove(self, ids: Iterable[str]) -> int:
        """Delete the images of items; ids without an image here are ignored. Returns the number of deleted files.

        Raises:
            StorageError: a file cannot be deleted.
        """
        removed = 0
        for path in (path for name in ids if name.isalnum() for path in self.folder.glob(f"{name[:2]}/{name}.*")):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(f"{path}: could not be deleted ({error.strerror}): check its permissions.") from None
            removed += 1
        return removed

    def paths(self) -> list[Path]:
        """Paths of all images."""
        return sorted(self.folder.glob("[0-9a-f][0-9a-f]/[!.]*"))

    def unused(self, ids: Collection[str]) -> list[Path]:
        """Files whose item does not exist, left behind by interrupted work.

        Args:
            ids: ids of all items.
        """
        return [path for path in self.paths() if path.stem not in ids]
