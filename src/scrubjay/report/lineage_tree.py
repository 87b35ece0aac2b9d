"""Draws the lineage of generations as a tree for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scrubjay.generations.generation import Generation


def lines(
    generations: Sequence[Generation],
    serving: str | None,
    items: Mapping[str, int],
    changes: Sequence[tuple[str, str]],
) -> list[str]:
    """One line for each generation, children below their parents, and one for each change of the serving generation.

    Args:
        generations: oldest first.
        serving: name of the generation that answers queries; None for none.
        items: number of items that are found by vectors of each generation.
        changes: time and description of each change of the serving generation.
    """
    tree: list[str] = []
    names = {generation.name for generation in generations}
    roots = [generation for generation in generations if generation.parent not in names]
    for root in roots:
        _draw(root, generations, serving, items, 0, tree)
    return tree + [f"  {at}  {text}" for at, text in changes]


def _draw(
    generation: Generation,
    generations: Sequence[Generation],
    serving: str | None,
    items: Mapping[str, int],
    depth: int,
    tree: list[str],
) -> None:
    """Append the lines of a generation and of its descendants to `tree`."""
    mark = "●" if generation.name == serving else "○"
    tail = "  ← answers queries" if generation.name == serving else ""
    bridge = generation.info.bridges.get("to_parent")
    bridge_text = "" if bridge is None else f", bridge {bridge.chosen}"
    line = f"{'│ ' * depth}{mark} {described(generation)}; {items.get(generation.name, 0)} items{bridge_text}{tail}"
    tree.append(line)
    children = [each for each in generations if each.parent == generation.name]
    for position, child in enumerate(children):
        # the last child continues the line of its parent; earlier children branch off
        _draw(child, generations, serving, items, depth + (position < len(children) - 1), tree)


def described(generation: Generation) -> str:
    """A description of a generation in one line."""
    parent = f" from {generation.parent}" if generation.parent else ""
    new = generation.info.measured.get("new")
    figures = ""
    if new is not None and new["queries"]:
        figures = f"; new classes: recall@1 {new['recall']['1']:.1%}, mAP@R {new['map_at_r']:.1%}"
    method = generation.info.method["name"]
    return f"{generation.name}{parent} ({method}): {len(set(generation.classes))} classes{figures}"
