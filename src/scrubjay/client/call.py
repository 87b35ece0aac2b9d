"""One request to the service as a value, which the synchronous and the asynchronous client send alike."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from scrubjay.errors import DataError, ServiceError

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)

Image = str | Path | bytes | IO[bytes]
"""An image file: its path, its content, or an open binary file, which is read to its end."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body.

    Attributes:
        field: name of the form field.
        content: text; or the bytes of a file, or its path, of which no more than a block is held in memory.
        name: file name; None for a field of text.
    """

    field: str
    content: str | bytes | Path
    name: str | None = None

    def as_form(self) -> tuple[str, tuple[str | None, Any]]:
        """The part as `httpx` takes it; a file is opened anew, so that a request can be sent again."""
        content = self.content
        if isinstance(content, Path):
            return self.field, (self.name, LateFile(content))
        return self.field, (self.name, content.encode() if isinstance(content, str) else content)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and how its answer is read.

    Attributes:
        method: GET, POST, PATCH or DELETE.
        template: path with `{names}`, as in the OpenAPI document.
        read: turns the body of a successful answer into the result.
        path: values of the names in `template`.
        query: parameters of the query string; None leaves one out, a list repeats it.
        body: body that is sent as JSON.
        parts: parts of a multipart body; `body` and `parts` exclude each other.
        repeatable: whether the request may be sent again when it is unknown whether it was carried out.
        slow: whether the answer may take minutes.
    """

    method: str
    template: str
    read: Callable[[bytes], T]
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str | int | Sequence[str] | None] = field(default_factory=dict)
    body: BaseModel | None = None
    parts: tuple[Part, ...] = ()
    repeatable: bool = True
    slow: bool = False

    @property
    def url(self) -> str:
        """The path with its values in place, percent-encoded: `/` and `.` too, which a server would give a meaning."""
        values = {name: quote(value, safe="").replace(".", "%2E") for name, value in self.path.items()}
        return self.template.format_map(values)

    def arguments(self) -> dict[str, Any]:
        """Arguments of `httpx.Client.request`, made anew for every attempt.

        Raises:
            DataError: a file cannot be opened.
        """
        query = {name: value for name, value in self.query.items() if value is not None}
        arguments: dict[str, Any] = {"method": self.method, "url": self.url, "params": query}
        if self.parts:
            arguments["files"] = [part.as_form() for part in self.parts]
        elif self.body is not None:
            arguments["content"] = self.body.model_dump_json(exclude_unset=True)
            arguments["headers"] = {"Content-Type": "application/json"}
        return arguments


def answer_of(model: type[Model]) -> Callable[[bytes], Model]:
    """How an answer of this model is read."""

    def read(content: bytes) -> Model:
        try:
            return model.model_validate_json(content)
        except ValueError as error:
            raise ServiceError(
                f"the answer of the service is not a {model.__name__}: {error}. Do client and service have one version?"
            ) from None

    return read


def raw(content: bytes) -> bytes:
    """The answer as it is, such as the content of an image file."""
    return content


def nothing(_: bytes) -> None:
    """The answer of a request that answers nothing."""


def file_part(field: str, image: Image, name: str | None = None, number: int = 0) -> Part:
    """A file as a part of a multipart body.

    Args:
        field: name of the form field.
        image: the file.
        name: file name; None for that of the file itself.
        number: tells files without a name apart.

    Raises:
        DataError: there is no file at a path.
    """
    if isinstance(image, str | Path):
        path = Path(image)
        if not path.is_file():
            raise DataError(f"{path}: no such file; give the path of an image file.")
        return Part(field, path, name or path.name)
    if isinstance(image, bytes):
        return Part(field, image, name or f"image-{number}")
    own = getattr(image, "name", None)
    return Part(field, image.read(), name or (os.path.basename(own) if isinstance(own, str) else f"image-{number}"))


def content_of(image: Image) -> bytes:
    """The bytes of an image file.

    Raises:
        DataError: the file cannot be read.
    """
    if isinstance(image, bytes):
        return image
    if not isinstance(image, str | Path):
        return image.read()
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise DataError(f"{image}: cannot be read: {error.strerror}; give the path of an image file.") from None


class LateFile(io.RawIOBase):
    """A file that is opened when its first bytes are read and closed after its last: thousands fit in one request.

    Args:
        path: the file.

    Raises:
        DataError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._file = path, None  # type: Path, IO[bytes] | None
        try:
            self._size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}; check the path.") from None
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; only the next `read` opens the file."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._end()
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, and never more than the file had when the request was begun."""
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except OSError as error:
                raise DataError(f"{self._path}: cannot be read: {error.strerror}; check the path.") from None
            self._file.seek(self._at)
        left = self._size - self._at
        content = self._file.read(left if size < 0 else min(size, left))
        self._at += len(content)
        if not content or self._at >= self._size:
            self._end()
        return content

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
