"""All errors of the library. Each message names the offending value and says what to do.

::

    ScrubjayError                 exit code 1: an error of the program or the machine
    ├── StorageError              the disk is full, a file cannot be written
    ├── CheckpointError           saved weights are damaged or do not fit
    ├── ServiceError              a service cannot be reached, or its answer cannot be read
    │   └── ServiceProblem        a service answered that it cannot do what it was asked
    └── UserError                 exit code 2: the caller can correct it
        ├── ConfigError           an option is unknown or out of range
        ├── DataError             a folder, table, class or stream is not as required
        │   └── ImageError        a file is not an image, or is refused
        ├── HubError              a repository of models cannot be reached, or lacks what was asked for
        ├── SpaceError            vectors of different embedding spaces cannot be compared
        └── CatalogueError        a catalogue is missing, empty, or in use
            ├── NotFoundError     a generation, item or class does not exist
            ├── InUseError        another process or thread writes to it
            ├── GateFailedError   a generation must not answer by what its gate measured
            └── ServingChangedError   another generation answers than the one that was decided on
"""

from __future__ import annotations

from collections.abc import Sequence


class ScrubjayError(Exception):
    """Base class of all errors; `exit_code` is the exit code of the command line."""

    exit_code = 1


class StorageError(ScrubjayError):
    """The disk is full, or a file or folder cannot be written."""


class CheckpointError(ScrubjayError):
    """Saved weights are damaged, incomplete, or belong to another network."""


class ServiceError(ScrubjayError):
    """A service cannot be reached, or its answer cannot be read."""


class ServiceProblem(ServiceError):  # noqa: N818  # the name that RFC 9457 gives it
    """A service answered that it cannot do what it was asked; `exit_code` is 2 where the caller can correct it.

    Attributes:
        status: status code of the answer.
        type: kind of problem, such as `/problems/image-refused`.
        title: the kind in words.
        detail: what is wrong in this case and what would be right.
        request_id: identity of the request, under which the log of the service tells more.
        retry_after: seconds after which the service asks to try again; None where it does not.
        errors: the fields of the request that are not as required, each with what is wrong with it.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        type: str = "about:blank",  # the member's name in RFC 9457
        title: str = "",
        request_id: str = "",
        retry_after: float | None = None,
        errors: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(f"{detail} (status {status}{f', request {request_id}' if request_id else ''})")
        self.status, self.type, self.title, self.detail = status, type, title, detail
        self.request_id, self.retry_after, self.errors = request_id, retry_after, tuple(errors)
        self.exit_code = 2 if status < 500 and status != 429 else 1


class UserError(ScrubjayError):
    """A mistake that the caller can correct."""

    exit_code = 2


class ConfigError(UserError):
    """An option is unknown, missing or out of range."""


class DataError(UserError):
    """A folder, table, class or stream is not as required."""


class ImageError(DataError):
    """A file is not an image, is truncated, or is larger than the limit."""


class HubError(UserError):
    """A repository of models cannot be reached, refuses access, or lacks what was asked for."""


class SpaceError(UserError):
    """Vectors of different embedding spaces cannot be compared."""


class CatalogueError(UserError):
    """A catalogue is missing, empty, or in use by another process."""


class NotFoundError(CatalogueError):
    """A catalogue has no generation, item or class of this name."""


class InUseError(CatalogueError):
    """Another process or thread writes to a folder; the same call succeeds when it has finished."""


class ServingChangedError(CatalogueError):
    """The serving generation was changed by somebody else after the state that a decision was based on."""


class GateFailedError(CatalogueError):
    """A generation must not answer queries by what its gate measured; `reasons` says why."""

    def __init__(self, message: str, reasons: tuple[str, ...]) -> None:
        super().__init__(message)
        self.reasons = reasons
