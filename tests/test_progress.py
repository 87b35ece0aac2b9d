from __future__ import annotations

import io

from rich.console import Console

from scrubjay.progress import live, shown, track


class Lines:
    """A display that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def add_task(self, description: str, *, total: int, completed: int) -> str:
        self.told.append(("begin", description, total, completed))
        return description

    def advance(self, task: str, /) -> None:
        self.told.append(("advance", task))

    def remove_task(self, task: str, /) -> None:
        self.told.append(("end", task))


def test_tracking_without_a_display_is_silent() -> None:
    assert list(track([1, 2], "count", 2)) == [1, 2]


def test_a_display_is_told_of_every_item_and_of_the_end() -> None:
    display = Lines()
    with shown(display):
        assert list(track("ab", "letters", 5, 3)) == ["a", "b"]
        left = track("ab", "left", 2)
        next(left)
        left.close()  # type: ignore[attr-defined]
    assert list(track("c", "unseen", 1)) == ["c"]
    assert display.told == [
        ("begin", "letters", 5, 3),
        ("advance", "letters"),
        ("advance", "letters"),
        ("end", "letters"),
        ("begin", "left", 2, 0),
        ("end", "left"),
    ]


def test_a_terminal_shows_it() -> None:
    output = io.StringIO()
    with live(Console(file=output, force_terminal=True, width=80)):
        assert list(track(range(2), "embed", 2)) == [0, 1]
    assert "embed" in output.getvalue()
