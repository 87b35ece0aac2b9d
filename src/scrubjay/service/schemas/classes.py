"""Bodies about classes, and about teaching one."""

from __future__ import annotations

from pydantic import Field

from scrubjay.service.schemas.base import Body, Record
from scrubjay.service.schemas.items import Refused


class ClassRecord(Record):
    """A class: learned, or only a label of items."""

    name: str
    items: int
    """Number of items with this label."""
    learned_in: str | None
    """Generation that learned it first, on the line of the one that serves; None for a label that was not learned."""
    representative: list[str]
    """Ids of up to four items nearest to the middle of the class."""


class ClassList(Record):
    """All classes by name."""

    classes: list[ClassRecord]


class ClassName(Body):
    """The new name of a class."""

    name: str = Field(min_length=1, max_length=200)


class ClassTarget(Body):
    """The class that takes another one in."""

    into: str = Field(min_length=1, max_length=200)


class ClassChange(Record):
    """What renaming or merging changed."""

    name: str
    items: int
    """Number of items with the new label."""


class Confusion(Record):
    """Two classes that are found for each other."""

    classes: tuple[str, str]
    share: float
    """Share of their items whose nearest other item is of the other class."""
    pairs: list[tuple[str, str]]
    """Up to six pairs of items that cause it: an item, and the item of the other class that is nearest to it."""


class ConfusionList(Record):
    """The most confused pairs of classes, the worst first."""

    confusions: list[Confusion]
    items: int
    """Number of items that were compared."""


class Taught(Record):
    """A class was taught: a generation was made, and if its gate passed it answers queries."""

    name: str
    generation: str
    images: int
    """Number of images that were learned."""
    refused: list[Refused]
    serving: bool
    """Whether the new generation answers queries."""
    gate: list[str]
    """Why not; empty where it does."""
    seconds: float
