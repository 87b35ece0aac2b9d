"""Figures of the benchmarks: comparisons with a peer, and costs at several sizes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """What scrubjay and a peer took for the same work in the same run.

    Attributes:
        name: what was measured, with its size.
        peer: name of the peer; empty where there is none.
        ours: figure of scrubjay.
        theirs: figure of the peer; None where there is none, or where it could not run.
        unit: unit of both figures, such as "ms" or "items/s".
        more_is_better: a larger figure is better.
    """

    name: str
    peer: str
    ours: float
    theirs: float | None
    unit: str
    more_is_better: bool = False

    def row(self) -> str:
        theirs = "—" if self.theirs is None else figure(self.theirs)
        ratio = "—" if self.theirs is None else f"{self.ours / self.theirs:.2f}"
        better = "higher" if self.more_is_better else "lower"
        return (
            f"| {self.name} | {figure(self.ours)} | {theirs} | {self.peer or '—'} | {self.unit} | {ratio} | {better} |"
        )


@dataclass(frozen=True)
class Cost:
    """Seconds that some work took at one size.

    Attributes:
        work: name of the work.
        n: number of items or images.
        seconds: wall-clock seconds for all of them; of one query for a search.
    """

    work: str
    n: int
    seconds: float


def figure(value: float) -> str:
    """A number with three significant digits, and thousands separators."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(ratios: Iterable[Ratio]) -> str:
    """A Markdown table."""
    head = (
        "| what | scrubjay | peer | name of the peer | unit | scrubjay / peer | better |\n"
        "| --- | ---: | ---: | --- | --- | ---: | --- |"
    )
    return "\n".join([head, *(ratio.row() for ratio in ratios)])


def show(ratios: Iterable[Ratio]) -> None:
    print(table(ratios), flush=True)


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 5) -> tuple[float, float]:
    """Median seconds of two calls, which take turns so that both meet the same load; the first round warms up."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds + 1)][1:]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)
