"""A dataset as a sequence of sessions with disjoint classes, and the hash of what was learned from."""

from __future__ import annotations

import difflib
import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from scrubjay.config import Config
from scrubjay.errors import DataError
from scrubjay.types import Dataset, Sample, Session

Names = Annotated[tuple[str, ...], Field(min_length=1)]


class StreamOptions(Config):
    """How classes are dealt to sessions. Where names are given, numbers deal the classes that were not named."""

    initial: Annotated[int, Field(ge=2)] | Names
    """Number of classes of the initial session, or their names."""
    step: Annotated[int, Field(ge=1)] | tuple[Names, ...]
    """Number of classes of every increment (the last may have fewer), or the names of each one's."""
    sessions: int | None = Field(None, ge=0)
    """How many increments at most; by default, as many as there are classes for."""
    order: Literal["label", "shuffle"] = "label"
    """Classes come in the order of the dataset, or shuffled by `seed`."""
    seed: int = Field(0, ge=0)
    """Of the shuffle."""
    unseen: int = Field(0, ge=0)
    """Number of classes kept aside at the end: never learned, their test images are for zero-shot evaluation."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Sessions in order of learning.

    Attributes:
        name: of the dataset.
        classes: names by label: in the order of learning, the unseen ones last.
        sessions: the initial session and the increments; their classes are disjoint.
        unseen: test images of the classes that are never learned.
    """

    name: str
    classes: tuple[str, ...]
    sessions: tuple[Session, ...]
    unseen: tuple[Sample, ...] = ()


def split(dataset: Dataset, options: StreamOptions) -> Stream:
    """Deal the classes of a dataset to sessions; classes that no session and `unseen` take are left out.

    Raises:
        DataError: more classes are asked for than there are, a named class does not exist or is named twice, a class
            to learn has no training image or one kept unseen no test image, or the initial session has one class.
    """
    groups, unseen = _dealt(dataset.classes, options)
    classes = (*(name for group in groups for name in group), *unseen)
    samples = _by_class(dataset, classes)
    sessions: list[Session] = []
    first = 0
    for index, group in enumerate(groups):
        sessions.append(_session(dataset.name, index, group, first, samples))
        first += len(group)
    for name in unseen:
        if not _test(samples[name]):
            raise DataError(f"{dataset.name}: class {name!r} is kept unseen but has no test image; add some.")
    zero_shot = tuple(sample for name in unseen for sample in _test(samples[name]))
    return Stream(dataset.name, classes, tuple(sessions), zero_shot)


def extend(known: Sequence[str], dataset: Dataset, index: int) -> Session:
    """The next session of an open-ended stream: all classes of a dataset, none of which is known.

    Args:
        known: names of the classes learned so far, in the order of learning.
        dataset: the new classes.
        index: of the new session; 0 for the initial one.

    Raises:
        DataError: a class was already learned or has no training image, or there is one class where none is known.
    """
    for name in dataset.classes:
        if name in known:
            raise DataError(
                f"{dataset.name}: class {name!r} is already learned; rename it, or leave it out: its images "
                "can be added to the gallery without learning."
            )
    samples = _by_class(dataset, (*known, *dataset.classes))
    return _session(dataset.name, index, dataset.classes, len(known), samples)


def data_hash(samples: Iterable[Sample], root: Path) -> str:
    """Hash of what samples are, whatever their order: path below `root`, label, split, box and content of the file.

    A file that cannot be read counts as missing.
    """
    entries = sorted(
        f"{_relative(sample.path, root)}\0{sample.label}\0{sample.split}\0{sample.box}\0{_content(sample.path)}"
        for sample in samples
    )
    return hashlib.blake2b("\n".join(entries).encode(errors="surrogateescape"), digest_size=16).hexdigest()


def _dealt(classes: Sequence[str], options: StreamOptions) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Names of each session, and of the unseen classes."""
    named = [] if isinstance(options.initial, int) else list(options.initial)
    if not isinstance(options.step, int):
        named += [name for group in options.step for name in group]
    _check_named(named, classes)
    taken = set(named)
    free = [name for name in classes if name not in taken]
    if options.order == "shuffle":
        random.Random(options.seed).shuffle(free)
    number = options.initial if isinstance(options.initial, int) else 0
    if number + options.unseen > len(free):
        raise DataError(
            f"initial = {number} and unseen = {options.unseen} need {number + options.unseen} classes, "
            f"there are {len(free)}" + (" that are not named" if named else "") + "; lower them."
        )
    rest, unseen = free[number : len(free) - options.unseen], free[len(free) - options.unseen :]
    initial = tuple(free[:number]) if isinstance(options.initial, int) else options.initial
    return [initial, *islice(_increments(rest, options.step), options.sessions)], tuple(unseen)


def _increments(rest: list[str], step: int | tuple[tuple[str, ...], ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(step, int):
        return (tuple(rest[start : start + step]) for start in range(0, len(rest), step))
    return iter(step)


def _check_named(named: list[str], classes: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in named:
        if name not in classes:
            near = difflib.get_close_matches(name, classes, n=3)
            hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"There are {', '.join(classes[:5])}, …"
            raise DataError(f"class {name!r} does not exist. {hint}")
        if name in seen:
            raise DataError(f"class {name!r} is named twice; a class belongs to one session.")
        seen.add(name)


def _by_class(dataset: Dataset, classes: Sequence[str]) -> dict[str, list[Sample]]:
    """Samples of each class, with the labels that the classes have by their order."""
    label = {name: number for number, name in enumerate(classes)}
    samples: dict[str, list[Sample]] = {name: [] for name in classes}
    for sample in dataset.samples:
        name = dataset.classes[sample.label]
        if name in label:
            samples[name].append(replace(sample, label=label[name]))
    return samples


def _session(
    name: str, index: int, classes: tuple[str, ...], first_label: int, samples: dict[str, list[Sample]]
) -> Session:
    if first_label == 0 and len(classes) < 2:
        raise DataError(f"{name}: the initial session has {len(classes)} class ({', '.join(classes)}); it needs two.")
    if not classes:
        raise DataError(f"{name}: no class to learn; add a folder of images for one.")
    for learned in classes:
        if all(sample.split == "test" for sample in samples[learned]):
            raise DataError(f"{name}: class {learned!r} has no training image; add some or leave it out.")
    mine = [sample for learned in classes for sample in samples[learned]]
    train = tuple(sample for sample in mine if sample.split == "train")
    return Session(index, classes, first_label, train, tuple(_test(mine)))


def _test(samples: list[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.split == "test"]


def _relative(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except (OSError, ValueError):
        return "missing"
