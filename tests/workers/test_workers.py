from __future__ import annotations

import warnings
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path

import pytest

from scrubjay.errors import ConfigError
from scrubjay.types import Sample
from scrubjay.workers import HERE, Chunk, Workers

pytestmark = pytest.mark.usefixtures("one_thread")
CHUNKS = [[Sample(Path(f"{number}/{name}.png"), number, box=(1, 2, 3, 4)) for name in "ab"] for number in range(9)]


class Named:
    """Names the images of a chunk."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def __call__(self, chunk: Chunk) -> bytes:
        return " ".join([self.prefix, *(f"{each.path.stem}{each.label}{each.box}" for each in chunk)]).encode()


EXPECTED = [f">> a{number}(1, 2, 3, 4) b{number}(1, 2, 3, 4)".encode() for number in range(9)]


def test_results_come_in_the_order_of_the_chunks() -> None:
    assert HERE.here
    assert list(HERE.run(Named, (">>",), CHUNKS)) == EXPECTED
    assert list(Workers(2).run(Named, (">>",), CHUNKS)) == EXPECTED
    assert not active_children()


def test_chunks_are_read_while_the_work_proceeds() -> None:
    read = []

    def coming() -> Iterator[Chunk]:
        for number in range(1000):
            read.append(number)
            yield CHUNKS[0]

    results = Workers(2).run(Named, (">>",), coming())
    assert next(results) == EXPECTED[0]
    results.close()
    assert len(read) < 20
    assert not active_children()


@pytest.mark.slow
def test_results_come_in_the_order_of_the_chunks_on_ray() -> None:
    pytest.importorskip("ray", reason="needs ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(Workers(2, "local").run(Named, (">>",), CHUNKS))
    assert found == EXPECTED


def test_refuses_to_work_without_a_process() -> None:
    with pytest.raises(ConfigError, match="processes = 0: give 1 process or more"):
        Workers(0)
