from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrubjay.data.stream import StreamOptions, data_hash, extend, split
from scrubjay.errors import ConfigError, DataError
from scrubjay.types import Dataset, Sample


def dataset(*names: str, train: int = 2, test: int = 1) -> Dataset:
    samples = [
        Sample(Path(name, f"{part}{number}.jpg"), label, part)
        for label, name in enumerate(names)
        for part, count in (("train", train), ("test", test))
        for number in range(count)
    ]
    return Dataset("toys", Path(), names, tuple(samples))


LETTERS = dataset(*"abcdefghij")


def options(**values: Any) -> StreamOptions:
    return StreamOptions.parse(values)


def groups(**values: Any) -> list[str]:
    return ["".join(session.classes) for session in split(LETTERS, options(**values)).sessions]


def test_by_count() -> None:
    assert groups(initial=4, step=3) == ["abcd", "efg", "hij"]
    assert groups(initial=4, step=4) == ["abcd", "efgh", "ij"]
    assert groups(initial=4, step=2, sessions=2) == ["abcd", "ef", "gh"]
    assert groups(initial=4, step=2, sessions=9) == ["abcd", "ef", "gh", "ij"]
    assert groups(initial=4, step=2, sessions=0) == ["abcd"]
    assert groups(initial=10, step=2) == ["abcdefghij"]
    assert groups(initial=4, step=2, unseen=3) == ["abcd", "ef", "g"]


def test_by_name() -> None:
    assert groups(initial=["j", "a"], step=[["c"], ["b", "i"]]) == ["ja", "c", "bi"]
    assert groups(initial=["j", "a"], step=4) == ["ja", "bcde", "fghi"]
    assert groups(initial=3, step=[["a"], ["b", "j"]]) == ["cde", "a", "bj"]
    assert groups(initial=["j", "a"], step=[["c"], ["b"]], sessions=1) == ["ja", "c"]


def test_labels_follow_the_order_of_learning() -> None:
    stream = split(LETTERS, options(initial=["j", "a"], step=[["c"], ["b", "i"]], unseen=2))
    assert stream.name == "toys"
    assert stream.classes == ("j", "a", "c", "b", "i", "g", "h")
    assert [session.first_label for session in stream.sessions] == [0, 2, 3]
    assert [session.index for session in stream.sessions] == [0, 1, 2]
    everything = [sample for session in stream.sessions for sample in (*session.train, *session.test)]
    assert all(sample.path.parent.name == stream.classes[sample.label] for sample in [*everything, *stream.unseen])
    assert [(sample.label, sample.split) for sample in stream.unseen] == [(5, "test"), (6, "test")]


def test_shuffle_is_seeded() -> None:
    one, again, other = (
        split(LETTERS, options(initial=4, step=3, order="shuffle", seed=seed)).classes for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other
    assert one != LETTERS.classes
    assert sorted(one) == sorted(LETTERS.classes)


def test_samples_keep_their_other_fields() -> None:
    first = replace(LETTERS.samples[0], box=(1, 2, 3, 4), query=False)
    stream = split(replace(LETTERS, samples=(first, *LETTERS.samples[1:])), options(initial=["b", "a"], step=1))
    assert replace(first, label=1) in stream.sessions[0].train


@settings(deadline=None)
@given(st.integers(2, 30), st.integers(2, 12), st.integers(1, 9), st.integers(0, 5), st.booleans(), st.data())
def test_sessions_are_disjoint_and_complete(
    count: int, initial: int, step: int, unseen: int, shuffle: bool, data: st.DataObject
) -> None:
    if initial + unseen > count:
        initial, unseen = 2, min(unseen, count - 2)
    sessions = data.draw(st.none() | st.integers(0, 4))
    whole = dataset(*(f"c{number}" for number in range(count)))
    order = "shuffle" if shuffle else "label"
    stream = split(whole, options(initial=initial, step=step, unseen=unseen, order=order, sessions=sessions, seed=1))
    learned = [name for session in stream.sessions for name in session.classes]
    sizes = [len(session.classes) for session in stream.sessions]
    assert [session.first_label for session in stream.sessions] == [0, *accumulate(sizes)][:-1]
    assert len(set(stream.classes)) == len(stream.classes) == len(learned) + unseen
    assert list(stream.classes[: len(learned)]) == learned
    if sessions is None:
        assert len(learned) == count - unseen
    for session in stream.sessions:
        assert {sample.label for sample in session.train} == set(session.labels)
        assert all(sample.split == "train" for sample in session.train)
        assert all(sample.split == "test" for sample in session.test)
    served = [sample.path for session in stream.sessions for sample in (*session.train, *session.test)]
    expected = [sample.path for sample in whole.samples if whole.classes[sample.label] in learned]
    assert sorted(served) == sorted(expected)
    assert {sample.label for sample in stream.unseen} == set(range(len(learned), len(stream.classes)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"initial": 11, "step": 1},
            "initial = 11 and unseen = 0 need 11 classes, there are 10; choose smaller numbers",
        ),
        ({"initial": 8, "step": 1, "unseen": 3}, "need 11 classes, there are 10"),
        ({"initial": ["a", "b"], "step": 1, "unseen": 9}, "need 9 classes, there are 8 that are not named"),
        ({"initial": ["a", "bb"], "step": 1}, r"class 'bb' does not exist. Did you mean 'b'\?"),
        ({"initial": ["a", "quite other"], "step": 1}, "'quite other' does not exist. There are a, b, c, d, e, …"),
        ({"initial": ["a", "b"], "step": [["c"], ["a"]]}, "class 'a' is named twice; a class belongs to one session"),
        ({"initial": ["a", "b"], "step": [["c", "c"]]}, "class 'c' is named twice"),
        ({"initial": ["a"], "step": 1}, r"the initial session has 1 class \(a\); it needs two"),
    ],
)
def test_impossible_options_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(LETTERS, options(**values))


@pytest.mark.parametrize(
    "values",
    [
        {"initial": 1, "step": 1},
        {"initial": 2, "step": 0},
        {"initial": 2, "step": [[]]},
        {"initial": [], "step": 1},
        {"initial": 2, "step": 1, "order": "random"},
        {"initial": 2},
    ],
)
def test_options_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        options(**values)


def test_class_without_training_images() -> None:
    broken = replace(LETTERS, samples=tuple(s for s in LETTERS.samples if s.label != 4 or s.split == "test"))
    with pytest.raises(DataError, match="toys: class 'e' has no training image; add some or leave it out"):
        split(broken, options(initial=4, step=2))
    assert len(split(broken, options(initial=4, step=2, sessions=0)).sessions) == 1
    assert len(split(broken, options(initial=["a", "b"], step=[["c"]])).sessions) == 2


def test_unseen_class_without_test_images() -> None:
    with pytest.raises(DataError, match="the unseen class 'j' has no test image"):
        split(dataset(*"abcdefghij", test=0), options(initial=4, step=2, unseen=1))


def test_a_stream_continues_with_new_classes() -> None:
    session = extend(("x", "y"), dataset("a", "b"), 3)
    assert (session.index, session.classes, session.first_label, session.labels) == (3, ("a", "b"), 2, range(2, 4))
    assert [sample.label for sample in session.train] == [2, 2, 3, 3]
    assert [sample.label for sample in session.test] == [2, 3]
    assert extend(("x", "y"), dataset("a"), 1).classes == ("a",)
    assert extend((), dataset("a", "b"), 0).first_label == 0


def test_known_classes_cannot_continue_a_stream() -> None:
    with pytest.raises(DataError, match="toys: class 'b' is already learned, and only the method slda"):
        extend(("a", "b"), dataset("c", "b"), 1)
    with pytest.raises(DataError, match=r"the initial session has 1 class \(a\); it needs two"):
        extend((), dataset("a"), 0)
    with pytest.raises(DataError, match="class 'a' has no training image"):
        extend(("x", "y"), dataset("a", train=0), 1)
    with pytest.raises(DataError, match="no class to learn"):
        extend(("x", "y"), dataset(), 1)


def test_more_images_of_known_classes_keep_their_labels() -> None:
    session = extend(("a", "b", "x"), dataset("b", "c"), 2, more_of_known=True)
    assert (session.classes, session.first_label) == (("c",), 3)
    assert [sample.label for sample in session.train] == [1, 1, 3, 3]
    assert [sample.label for sample in session.test] == [1, 3]
    only_known = extend(("a", "b"), dataset("b"), 2, more_of_known=True)
    assert (only_known.classes, only_known.labels) == ((), range(2, 2))
    assert [sample.label for sample in only_known.train] == [1, 1]
    with pytest.raises(DataError, match="toys: no training image; add some"):
        extend(("a", "b"), dataset("b", train=0), 2, more_of_known=True)


def test_hash_tells_what_was_learned_from(tmp_path: Path) -> None:
    samples = []
    for number in range(3):
        path = tmp_path / "root" / "a" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]))
        samples.append(Sample(path, number))
    root = tmp_path / "root"
    expected = data_hash(samples, root)
    assert len(expected) == 32
    assert data_hash(samples[::-1], root) == expected
    first, *rest = samples
    for changed in (
        replace(first, label=7),
        replace(first, box=(0, 0, 1, 1)),
        replace(first, split="test"),
        replace(first, path=rest[0].path),
    ):
        assert data_hash([changed, *rest], root) != expected
    assert data_hash(rest, root) != expected
    root.rename(tmp_path / "moved")
    moved = [replace(sample, path=tmp_path / "moved" / sample.path.relative_to(root)) for sample in samples]
    assert data_hash(moved, tmp_path / "moved") == expected
    moved[0].path.write_bytes(b"other")
    assert data_hash(moved, tmp_path / "moved") != expected


def test_hash_of_a_file_that_is_gone(tmp_path: Path) -> None:
    gone = Sample(tmp_path / "gone.jpg", 0)
    first = data_hash([gone], tmp_path)
    assert data_hash([gone, Sample(Path("/elsewhere\0.jpg"), 1)], tmp_path) != first
    gone.path.write_bytes(b"back")
    assert data_hash([gone], tmp_path) != first


def test_importing_is_cheap() -> None:
    modules = "stream, images, sources.folder, sources.table, sources.grocery, sources.cub200, sources.stanford_dogs"
    imports = "; ".join(f"import scrubjay.data.{name}" for name in modules.split(", "))
    heavy = "{'torch', 'torchvision', 'timm', 'scipy', 'pyarrow', 'numpy'}"
    code = f"{imports}; import sys; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
