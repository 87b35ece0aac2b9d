"""The one tree of errors. Each message names the value and the cure.

::

    ScrubjayError                 exit code 1: ours, or the machine's
    ├── StorageError              the disk is full, a file cannot be written
    ├── CheckpointError           saved weights are damaged or do not fit
    └── UserError                 exit code 2: the caller can mend it
        ├── ConfigError           an option is unknown or out of range
        ├── DataError             a folder, table, class or stream is not as needed
        │   └── ImageError        a file is no image, or one we refuse to decode
        ├── SpaceError            vectors of two embedding spaces were to be compared
        └── CatalogueError        a catalogue is missing, empty, or busy
"""


class ScrubjayError(Exception):
    """Root of the tree; `exit_code` is what the command line returns for it."""

    exit_code = 1


class StorageError(ScrubjayError):
    """The disk is full, or a file or folder cannot be written."""


class CheckpointError(ScrubjayError):
    """Saved weights are damaged, incomplete, or of another network."""


class UserError(ScrubjayError):
    """A mistake that the caller can mend."""

    exit_code = 2


class ConfigError(UserError):
    """An option is unknown, missing or out of range."""


class DataError(UserError):
    """A folder, table, class or stream is not as needed."""


class ImageError(DataError):
    """A file is no image, is truncated, or is larger than the limit."""


class SpaceError(UserError):
    """Vectors of two embedding spaces were to be compared."""


class CatalogueError(UserError):
    """A catalogue is missing, empty, or in use by another process."""
