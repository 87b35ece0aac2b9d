"""BridgePaths over lineages that are written by hand: a generation is its description and its bridges."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from scrubjay.bridges import Bridge, save
from scrubjay.errors import CheckpointError, SpaceError
from scrubjay.generations.bridge_paths import BridgePaths, space_of
from scrubjay.generations.lineage import Lineage
from scrubjay.models.embedder import NetworkOptions
from scrubjay.stores import Space

VECTORS = np.array([[1, 0], [0.6, 0.8], [0, -1]], dtype=np.float32)


def turn(degrees: float) -> Bridge:
    angle = np.radians(degrees)
    matrix = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Bridge("procrustes", {"weight": np.array(matrix, dtype=np.float32)})


def grown(folder: Path, parents: Mapping[str, str | None], bare: str = "", dims: Mapping[str, int] = {}) -> Lineage:
    """Generations by their parents; the way to a parent turns by `degrees`, the way back by three times that.

    The way back is no inverse, so that a test tells one from the other.
    """
    lines: dict[str, list[str]] = {}
    for name, parent in parents.items():
        lines[name] = [] if parent is None else [parent, *lines[parent]]
        network = NetworkOptions(dim=dims.get(name, 2))
        described = tiny.info(name, network, parent, line=tuple(lines[name]), fingerprint=f"print of {name}")
        (folder / name).mkdir(parents=True)
        (folder / name / "generation.json").write_text(described.model_dump_json())
        if parent is not None and name != bare:
            angle = degrees(name)
            save(folder / name / "bridges.safetensors", {"to_parent": turn(angle), "from_parent": turn(-3 * angle)})
    return Lineage(folder)


def degrees(name: str) -> float:
    return {"g1": 1.0, "g2": 7.0, "g3": 40.0, "g4": 23.0}[name]


def space(name: str) -> Space:
    return Space(f"{name}-x", 2, f"print of {name}", name)


LINE = {"g0": None, "g1": "g0", "g2": "g1", "g3": "g2"}
FORK = {"g0": None, "g1": "g0", "g2": "g0", "g3": "g2"}


@pytest.mark.parametrize(
    ("tree", "source", "target", "angle"),
    [
        (LINE, "g1", "g1", 0),
        (LINE, "g1", "g0", 1),
        (LINE, "g0", "g1", -3),
        (LINE, "g3", "g0", 40 + 7 + 1),
        (LINE, "g0", "g3", -3 - 21 - 120),
        (FORK, "g1", "g2", 1 - 21),
        (FORK, "g3", "g1", 40 + 7 - 3),
        (FORK, "g1", "g3", 1 - 21 - 120),
    ],
)
def test_bridges_are_composed_along_the_line(
    tmp_path: Path, tree: Mapping[str, str | None], source: str, target: str, angle: float
) -> None:
    found = BridgePaths(grown(tmp_path, tree)).bridge(source, target)(VECTORS)
    assert np.allclose(found, turn(angle)(VECTORS), atol=1e-5)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(0, 4), st.integers(0, 4))
def test_every_pair_of_a_tree_is_joined_by_what_lies_between(choices: list[int], one: int, other: int) -> None:
    import tempfile

    parents: dict[str, str | None] = {"g0": None}
    for number, choice in enumerate(choices, 1):
        parents[f"g{number}"] = f"g{choice % number}"
    source, target = (f"g{number % len(parents)}" for number in (one, other))

    def up(name: str) -> list[str]:
        parent = parents[name]
        return [name] if parent is None else [name, *up(parent)]

    expected = sum(degrees(name) for name in up(source) if name not in up(target))
    expected -= 3 * sum(degrees(name) for name in up(target) if name not in up(source))
    with tempfile.TemporaryDirectory() as folder:
        found = BridgePaths(grown(Path(folder), parents)).bridge(source, target)(VECTORS)
    assert np.allclose(found, turn(expected)(VECTORS), atol=1e-5)


@pytest.mark.parametrize(("source", "target", "angle"), [("g1", "g0", 1), ("g0", "g1", -3), ("g2", "g0", 8)])
def test_a_pruned_end_is_reached_and_left(tmp_path: Path, source: str, target: str, angle: float) -> None:
    """Probe images of a pruned generation may be kept as its vectors only: these must be carried on."""
    lineage = grown(tmp_path, {"g0": None, "g1": "g0", "g2": "g1"})
    shutil.rmtree(tmp_path / "g0")
    assert np.allclose(BridgePaths(lineage).bridge(source, target)(VECTORS), turn(angle)(VECTORS), atol=1e-5)


def test_siblings_are_joined_over_a_pruned_parent(tmp_path: Path) -> None:
    lineage = grown(tmp_path, FORK)
    shutil.rmtree(tmp_path / "g0")
    paths = BridgePaths(lineage)
    assert np.allclose(paths.bridge("g1", "g3")(VECTORS), turn(1 - 21 - 120)(VECTORS), atol=1e-5)
    assert [each.generation for each in paths.reachable("g1", [space(f"g{n}") for n in range(4)])] == [
        "g1",
        "g0",
        "g2",
        "g3",
    ]


@pytest.mark.parametrize("gone", [("g1",), ("g1", "g2"), ("g2",)])
def test_no_bridge_is_made_up_for_a_generation_that_held_it_and_is_gone(tmp_path: Path, gone: tuple[str, ...]) -> None:
    lineage = grown(tmp_path, LINE)
    for name in gone:
        shutil.rmtree(tmp_path / name)
    paths = BridgePaths(lineage)
    for source, target in (("g3", "g0"), ("g0", "g3")):
        with pytest.raises(SpaceError, match="the generation that holds it is missing"):
            paths.bridge(source, target)
    reached = [each.generation for each in paths.reachable("g3", [space(f"g{n}") for n in range(4)])]
    # a pruned generation's vectors are still reached by the bridges of its child, and nothing beyond it
    assert reached == {"g1": ["g3", "g2", "g1"], "g2": ["g3", "g2"]}[gone[-1]]


def test_a_generation_without_bridges_passes_vectors_on_as_they_are(tmp_path: Path) -> None:
    paths = BridgePaths(grown(tmp_path, LINE, bare="g2"))
    assert np.array_equal(paths.bridge("g2", "g1")(VECTORS), VECTORS)
    assert np.allclose(paths.bridge("g3", "g0")(VECTORS), turn(40 + 1)(VECTORS), atol=1e-5)


def test_without_bridges_spaces_of_different_size_are_not_joined(tmp_path: Path) -> None:
    paths = BridgePaths(grown(tmp_path, LINE, bare="g2", dims={"g2": 3, "g3": 3}))
    for source, target in (("g2", "g1"), ("g1", "g2"), ("g3", "g0")):
        with pytest.raises(SpaceError, match=r"g2 has no bridge .*another size"):
            paths.bridge(source, target)
    assert [each.generation for each in paths.reachable("g3", [space(f"g{n}") for n in range(4)])] == ["g3", "g2"]


def test_strangers_are_not_joined(tmp_path: Path) -> None:
    paths = BridgePaths(grown(tmp_path, {"g0": None, "g1": None}))
    with pytest.raises(SpaceError, match=r"g1 cannot be searched with queries of g0.*share no ancestor"):
        paths.bridge("g0", "g1")
    with pytest.raises(SpaceError, match="no generation 'g7'"):
        paths.bridge("g0", "g7")
    assert paths.reachable("g0", [space("g1"), space("g0"), space("g7")]) == [space("g0")]


def test_spaces_are_visited_from_near_to_far_the_younger_first(tmp_path: Path) -> None:
    lineage = grown(tmp_path, {"g0": None, "g1": "g0", "g2": "g0", "g3": "g1", "g4": "g3"})
    paths = BridgePaths(lineage)
    spaces = [space(f"g{number}") for number in range(5)]

    def order(name: str) -> list[str]:
        return [each.generation for each in paths.reachable(name, spaces)]

    assert order("g1") == ["g1", "g3", "g0", "g4", "g2"]
    assert order("g2") == ["g2", "g0", "g1", "g3", "g4"]
    assert order("g4") == ["g4", "g3", "g1", "g0", "g2"]


def test_foreign_vectors_are_not_visited(tmp_path: Path) -> None:
    lineage = grown(tmp_path, {"g0": None, "g1": "g0"})
    foreign = Space("g0-foreign", 2, "print of another g0", "g0")
    assert BridgePaths(lineage).reachable("g1", [foreign, space("g0"), space("g1")]) == [space("g1"), space("g0")]
    shutil.rmtree(tmp_path / "g0")
    assert BridgePaths(lineage).reachable("g1", [space("g0")]) == [space("g0")], (
        "of a pruned generation nothing else is known"
    )


def test_a_damaged_bridge_is_an_error_where_it_is_needed(tmp_path: Path) -> None:
    lineage = grown(tmp_path, {"g0": None, "g1": "g0"})
    (tmp_path / "g1" / "bridges.safetensors").write_bytes(b"noise")
    with pytest.raises(CheckpointError, match=r"g1/bridges\.safetensors"):
        BridgePaths(lineage).reachable("g1", [space("g1"), space("g0")])
    assert BridgePaths(lineage).reachable("g1", [space("g1")]) == [space("g1")]


def test_the_space_of_a_generation(tmp_path: Path) -> None:
    (generation,) = grown(tmp_path, {"g0": None}).generations()
    fingerprinted = replace(generation, info=generation.info.model_copy(update={"fingerprint": "0123456789abcdef"}))
    assert space_of(fingerprinted) == Space("g0-0123456789ab", 2, "0123456789abcdef", "g0")
