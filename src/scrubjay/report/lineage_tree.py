"""The line of generations, drawn for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scrubjay.generations.lineage import Generation


def lines(
    generations: Sequence[Generation],
    answers: str | None,
    items: Mapping[str, int],
    turns: Sequence[tuple[str, str]],
) -> list[str]:
    """A line for each generation, children under their parents, and one for each change of what answers.

    Args:
        generations: oldest first.
        answers: name of the one that answers queries.
        items: how many are found by vectors of each.
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
    bridge = generation.info.get("bridges", {}).get("to_parent", {}).get("chosen")
    over = f", bridge {bridge}" if bridge else ""
    drawn.append(f"{'│ ' * depth}{mark} {described(generation)}; {items.get(generation.name, 0)} items{over}{tail}")
    children = [each for each in generations if each.parent == generation.name]
    for position, child in enumerate(children):
        # the last child goes on the line of its parent: what was tried and left stands aside
        _draw(child, generations, answers, items, depth + (position < len(children) - 1), drawn)


def described(generation: Generation) -> str:
    """One line on a generation."""
    info = generation.info
    parent = f" from {info['parent']}" if info["parent"] else ""
    new = info.get("measured", {}).get("new")
    figures = (
        f"; new classes: recall@1 {new['recall']['1']:.1%}, mAP@R {new['map_at_r']:.1%}"
        if new and new["queries"]
        else ""
    )
    return f"{generation.name}{parent} ({info['method']['name']}): {len(generation.classes)} classes{figures}"
