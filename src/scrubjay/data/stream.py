"""A dataset as a sequence of sessions with disjoint classes, and the hash of a session's data."""

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
    """How classes are assigned to sessions. Classes that are named are taken out before others are counted."""

    initial: Annotated[int, Field(ge=2)] | Names
    """Number of classes in the initial session, or their names."""
    step: Annotated[int, Field(ge=1)] | tuple[Names, ...]
    """Number of classes in every increment (the last may have fewer), or a list of class names for each increment."""
    sessions: int | None = Field(None, ge=0)
    """Maximum number of increments; by default all classes are learned."""
    order: Literal["label", "shuffle"] = "label"
    """Order in which classes are learned: that of the dataset, or shuffled with `seed`."""
    seed: int = Field(0, ge=0)
    """Seed of the shuffle."""
    unseen: int = Field(0, ge=0)
    """Number of classes at the end of the order that are never learned; their test images serve zero-shot
    evaluation."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Sessions in order of learning.

    Attributes:
        name: name of the dataset.
        classes: class names by label: in the order of learning, the unseen ones last.
        sessions: the initial session and the increments; their classes are disjoint.
        unseen: test images of the classes that are never learned.
    """

    name: str
    classes: tuple[str, ...]
    sessions: tuple[Session, ...]
    unseen: tuple[Sample, ...] = ()


def split(dataset: Dataset, options: StreamOptions) -> Stream:
    """Assign the classes of a dataset to sessions; classes in no session and not in `unseen` are left out.

    Raises:
        DataError: the options ask for more classes than exist, a named class does not exist or is named twice, a class
            to learn has no training image, an unseen class has no test image, or the initial session has one class.
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
            raise DataError(f"{dataset.name}: the unseen class {name!r} has no test image; add some.")
    zero_shot = tuple(sample for name in unseen for sample in _test(samples[name]))
    return Stream(dataset.name, classes, tuple(sessions), zero_shot)


def extend(known: Sequence[str], dataset: Dataset, index: int, more_of_known: bool = False) -> Session:
    """The next session of an open-ended stream: all images of a dataset.

    Args:
        known: names of the classes learned so far, in the order of learning.
        dataset: the classes with their images.
        index: index of the new session; 0 for the initial one.
        more_of_known: the dataset may hold more images of known classes; they keep their labels.

    Raises:
        DataError: a class was already learned and `more_of_known` is not set, a new class has no training image, there
            is nothing to learn, or the initial session has fewer than two classes.
    """
    again = [name for name in dataset.classes if name in known]
    if again and not more_of_known:
        raise DataError(
            f"{dataset.name}: class {again[0]!r} is already learned, and only the method slda learns more images of "
            "known classes; rename it, or leave it out here: its images can be added to the gallery without learning."
        )
    new = tuple(name for name in dataset.classes if name not in known)
    samples = _by_class(dataset, (*known, *new))
    session = _session(dataset.name, index, new, len(known), samples, again)
    if not session.train:
        raise DataError(f"{dataset.name}: no training image; add some.")
    return session


def data_hash(samples: Iterable[Sample], root: Path) -> str:
    """Hash of samples in any order: path relative to `root`, label, split, box, and content of the file.

    A file that cannot be read is hashed as missing. Returns 32 hexadecimal digits.
    """
    entries = sorted(
        f"{_relative(sample.path, root)}\0{sample.label}\0{sample.split}\0{sample.box}\0{_content(sample.path)}"
        for sample in samples
    )
    return hashlib.blake2b("\n".join(entries).encode(errors="surrogateescape"), digest_size=16).hexdigest()


def _dealt(classes: Sequence[str], options: StreamOptions) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Class names of each session, and of the unseen classes."""
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
            f"there are {len(free)}" + (" that are not named" if named else "") + "; choose smaller numbers."
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
    """Samples of each class, relabelled by the position of their class in `classes`."""
    label = {name: number for number, name in enumerate(classes)}
    samples: dict[str, list[Sample]] = {name: [] for name in classes}
    for sample in dataset.samples:
        name = dataset.classes[sample.label]
        if name in label:
            samples[name].append(replace(sample, label=label[name]))
    return samples


def _session(
    name: str,
    index: int,
    classes: tuple[str, ...],
    first_label: int,
    samples: dict[str, list[Sample]],
    known: Sequence[str] = (),
) -> Session:
    if first_label == 0 and len(classes) < 2:
        raise DataError(f"{name}: the initial session has {len(classes)} class ({', '.join(classes)}); it needs two.")
    if not (classes or known):
        raise DataError(f"{name}: no class to learn; add a folder of images for each new class.")
    for new_class in classes:
        if all(sample.split == "test" for sample in samples[new_class]):
            raise DataError(f"{name}: class {new_class!r} has no training image; add some or leave it out.")
    all_samples = [sample for name_of_class in (*known, *classes) for sample in samples[name_of_class]]
    train = tuple(sample for sample in all_samples if sample.split == "train")
    return Session(index, classes, first_label, train, tuple(_test(all_samples)))


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
