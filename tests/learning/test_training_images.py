"""Each image is learned once, and what is stored of it belongs to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from scrubjay.data.photos import content_hash
from scrubjay.errors import DataError
from scrubjay.learning.training_images import training_images, without_known
from scrubjay.types import Sample, Session

NAMES = ("apple", "pear", "fig")


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """More pears, and figs."""
    return Session(1, ("fig",), 2, samples(tmp_path, "train", 4), samples(tmp_path, "test", 1))


def samples(root: Path, split: str, number: int) -> tuple[Sample, ...]:
    first = 0 if split == "train" else 50
    return tuple(
        Sample(tiny.paint(root / split / NAMES[label] / f"{seed}.png", label, seed), label)
        for label in (1, 2)
        for seed in range(first, first + number)
    )


def test_known_and_repeated_images_are_left_out(session: Session, tmp_path: Path) -> None:
    known = {content_hash(session.train[0]), content_hash(session.test[1])}
    repeated = replace(session.train[5], path=tiny.paint(tmp_path / "copy.png", 2, 1))
    unreadable = Sample(tmp_path / "gone.png", 2)
    left, number = without_known(
        replace(session, train=(*session.train, repeated, unreadable)), NAMES, known | {"of another image"}
    )
    assert left.train == (*session.train[1:], unreadable), "what cannot be read is reported where it is read"
    assert left.test == session.test[:1]
    assert number == 3


def test_what_leaves_nothing_to_learn_is_refused(session: Session) -> None:
    known = [content_hash(sample) for sample in session.train]
    with pytest.raises(DataError, match="all 8 training images were learned before; there is nothing to learn"):
        without_known(session, NAMES, known)
    with pytest.raises(DataError, match="class 'fig': all of its training images were learned before"):
        without_known(session, NAMES, known[4:])
    assert len(without_known(session, NAMES, known[:4])[0].train) == 4, "a known class may come without new images"


def test_features_belong_to_their_images(session: Session) -> None:
    blocks = [
        (torch.arange(12).view(6, 2).half(), torch.tensor([0, 0, 1, 1, 2, 2])),
        (torch.ones(2, 2).half(), torch.tensor([3, 3])),
    ]
    stored = training_images(session.train[:4], blocks)
    assert stored.hashes == tuple(map(content_hash, session.train[:4]))
    assert stored.labels.tolist() == [1, 1, 1, 1]
    assert stored.features is not None
    assert stored.features.tolist()[1] == [[4, 5], [6, 7]]
    reordered = training_images(session.train[:4], blocks[::-1]).features
    assert reordered is not None
    assert torch.equal(reordered, stored.features)
    assert training_images(session.train, None).features is None
    with pytest.raises(DataError, match="could not be read a second time"):
        training_images(session.train[:3], [(torch.ones(4, 2).half(), torch.tensor([0, 0, 2, 2]))])
