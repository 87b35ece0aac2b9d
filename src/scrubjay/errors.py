"""All errors of the library. Each message names the offending value and says what to do.

::

    ScrubjayError                 exit code 1: an error of the program or the machine
    ├── StorageError              the disk is full, a file cannot be written
    ├── CheckpointError           saved weights are damaged or do not fit
    └── UserError                 exit code 2: the caller can correct it
        ├── ConfigError           an option is unknown or out of range
        ├── DataError             a folder, table, class or stream is not as required
        │   └── ImageError        a file is not an image, or is refused
        ├── SpaceError            vectors of different embedding spaces cannot be compared
        └── CatalogueError        a catalogue is missing, empty, or in use
            ├── NotFoundError     a generation, item or class does not exist
            ├── InUseError        another process or thread writes to it
            ├── GateFailedError   a generation must not answer by what its gate measured
            └── ServingChangedError   another generation answers than the one that was decided on
"""


class ScrubjayError(Exception):
    """Base class of all errors; `exit_code` is the exit code of the command line."""

    exit_code = 1


class StorageError(ScrubjayError):
    """The disk is full, or a file or folder cannot be written."""


class CheckpointError(ScrubjayError):
    """Saved weights are damaged, incomplete, or belong to another network."""


class UserError(ScrubjayError):
    """A mistake that the caller can correct."""

    exit_code = 2


class ConfigError(UserError):
    """An option is unknown, missing or out of range."""


class DataError(UserError):
    """A folder, table, class or stream is not as required."""


class ImageError(DataError):
    """A file is not an image, is truncated, or is larger than the limit."""


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
