"""Draws the line of generations for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scrubjay.generations.generation import Generation


def lines(
    generations: Sequence[Generation],
    answers: str | None,
    items: Mapping[str, int],
    turns: Sequence[tuple[str, str]],
) -> list[str]:
    """One line for each generation, children below their parents, and one for each change of the serving generation.

    Args:
        generations: oldest first.
        answers: name of the generation that answers queries.
        items: number of items that are found by vectors of each generation.
        turns: time and text of each change.
    """
    drawn: list[str] = []
    names = {generation.name for generation in generations}
    roots = [each for each in generations if each.parent not in names]
    for root in roots:
        _draw(root, generations, answers, items, 0, drawn)
    return drawn + [f"  {at}  {text}" for at, text in turns]


def _draw(
    generation: Generation,
    generations: Sequence[Generation],
    answers: str | None,
    items: Mapping[str, int],
    depth: int,
    drawn: list[str],
) -> None:
    mark = "●" if generation.name == answers else "○"
    tail = "  ← answers queries" if generation.name == answers else ""
    bridge = generation.info.bridges.get("to_parent")
    over = "" if bridge is None else f", bridge {bridge.chosen}"
    drawn.append(f"{'│ ' * depth}{mark} {described(generation)}; {items.get(generation.name, 0)} items{over}{tail}")
    children = [each for each in generations if each.parent == generation.name]
    for position, child in enumerate(children):
        # the last child continues the line of its parent; earlier children branch off
        _draw(child, generations, answers, items, depth + (position < len(children) - 1), drawn)


def described(generation: Generation) -> str:
    """Describes a generation in one line."""
    parent = f" from {generation.parent}" if generation.parent else ""
    new = generation.info.measured.get("new")
    figures = ""
    if new is not None and new["queries"]:
        figures = f"; new classes: recall@1 {new['recall']['1']:.1%}, mAP@R {new['map_at_r']:.1%}"
    method = generation.info.method["name"]
    return f"{generation.name}{parent} ({method}): {len(generation.classes)} classes{figures}"
