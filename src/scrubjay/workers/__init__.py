"""Runs a function on chunks of images in several processes of this machine, or on a Ray cluster.

The function is an object of a class that is made once in each process: a `Worker`. Its results do not depend on which
process computed them, and the chunk of a process that dies is computed by another one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scrubjay.errors import ConfigError
from scrubjay.types import Sample

Chunk = Sequence[Sample]
Worker = Callable[[Chunk], bytes]
"""Computes the result of a chunk, as bytes that can be sent between machines."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Where the work is done.

    Attributes:
        processes: number of processes; 1 without Ray is the calling process.
        ray: "local", or the address of a Ray cluster whose machines see the same paths; `processes` is then the number
            of its actors. None: this machine without Ray.

    Raises:
        ConfigError: there is no process.
    """

    processes: int = 1
    ray: str | None = None

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ConfigError(f"processes = {self.processes}: give 1 process or more.")

    @property
    def here(self) -> bool:
        """Whether the calling process does the work itself."""
        return self.processes == 1 and self.ray is None

    def run(
        self, make: Callable[..., Worker], arguments: tuple[Any, ...], chunks: Iterable[Chunk]
    ) -> Generator[bytes, None, None]:
        """The results of chunks, in their order. `chunks` is read while the work proceeds, some chunks ahead of it.

        Args:
            make: a class or function of a module, which makes a worker; it is called once in each process.
            arguments: its arguments; with Ray they are strings and numbers.
            chunks: lists of images, none of them empty.

        Returns:
            A generator; close it to stop before its end.

        Raises:
            ConfigError: Ray is asked for and not installed, or no cluster answers.
            StorageError: processes died repeatedly on the same chunk, or the cluster failed.
        """
        if self.ray is not None:
            from scrubjay.workers import cluster

            yield from _in_order(cluster.run(make, arguments, chunks, self.processes, self.ray))
        elif self.processes > 1:
            from scrubjay.workers import processes

            yield from (result for _, result in processes.run(make, arguments, chunks, self.processes))
        else:
            yield from map(make(*arguments), chunks)


HERE = Workers()
"""The calling process."""


def _in_order(numbered: Iterable[tuple[int, bytes]]) -> Generator[bytes, None, None]:
    waiting: dict[int, bytes] = {}
    wanted = 0
    for number, result in numbered:
        waiting[number] = result
        while wanted in waiting:
            yield waiting.pop(wanted)
            wanted += 1
