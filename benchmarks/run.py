"""Run the benchmarks against peers, each in its own process, and write docs/benchmarks.md and docs/benchmarks.svg.

    python benchmarks/run.py [--only evaluation gallery …] [--out docs]

A script of `benchmarks/speed/` that has a function `measure() -> list[Ratio]` gives rows of the table; `curve.py` gives
the cost curve. A script that fails leaves a line in the page instead of its rows, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import multiprocessing
import os
import platform
import re
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SPEED = Path(__file__).parent / "speed"
sys.path.insert(0, str(SPEED))

from ratios import Cost, Ratio, figure, table  # noqa: E402

PACKAGES = (
    "scrubjay",
    "torch",
    "numpy",
    "lancedb",
    "pytorch-metric-learning",
    "faiss-cpu",
    "torchmetrics",
    "onnxruntime",
)


def call(script: str, function: str) -> list[Any]:
    """Result of a function of a script; the process that calls this has nothing else to do."""
    return getattr(importlib.import_module(script), function)()


def apart(script: str, function: str) -> list[Any]:
    """As `call`, in a process of its own, so that memory and threads of one script do not reach the next."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, script, function).result()


def machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    name = model.group(1) if model else platform.machine()
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{name}, {os.cpu_count()} processors, {memory:.0f} GiB, {system}"


def versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def curve_table(costs: list[Cost]) -> str:
    """Seconds of each work at each size, and the exponent of N between the two largest sizes."""
    from math import log

    by_work: dict[str, dict[int, float]] = defaultdict(dict)
    for cost in costs:
        by_work[cost.work][cost.n] = cost.seconds
    sizes = sorted({cost.n for cost in costs})
    lines = [
        "| work, seconds | " + " | ".join(f"{n:,}" for n in sizes) + " | exponent of N |",
        "| --- |" + " ---: |" * (len(sizes) + 1),
    ]
    for work, row in by_work.items():
        small, large = sorted(row)[-2:]
        exponent = log(row[large] / row[small]) / log(large / small)
        cells = [figure(row[n]) if n in row else "—" for n in sizes]
        lines.append(f"| {work} | {' | '.join(cells)} | {exponent:.2f} |")
    return "\n".join(lines)


def plot(costs: list[Cost], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "scrubjay"
    from matplotlib import pyplot as plt

    figure_, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for work in dict.fromkeys(cost.work for cost in costs):
        points = [(cost.n, cost.seconds) for cost in costs if cost.work == work]
        axes.plot(*zip(*points, strict=True), marker="o", label=work)
    axes.set(xscale="log", yscale="log", xlabel="items", ylabel="seconds")
    axes.grid(alpha=0.3)
    axes.legend()
    figure_.savefig(path, metadata={"Date": None})


def command() -> str:
    return " ".join(["python benchmarks/run.py", *sys.argv[1:]])


def page(ratios: list[Ratio], costs: list[Cost], failures: list[str], minutes: float) -> str:
    load = "/".join(f"{each:.1f}" for each in os.getloadavg())
    failed = "".join(f"* {failure}\n" for failure in failures)
    return (
        "# Speed against peers\n\n"
        f"`{command()}`, {datetime.now(UTC):%Y-%m-%d}, {minutes:.0f} minutes: {machine()}; load at the end {load}.\n"
        f"{versions()}.\n\n"
        "Scrubjay and its peer do the same work in turns, in the same run. The ratio is scrubjay's figure over the "
        "peer's.\n\n"
        f"{table(ratios)}\n\n"
        + (f"Not measured:\n\n{failed}\n" if failures else "")
        + (
            f"## Cost against the number of items\n\n{curve_table(costs)}\n\n![Cost curves](benchmarks.svg)\n"
            if costs
            else ""
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="names of scripts")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    given = parser.parse_args()
    scripts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(SPEED.glob("*.py"))}
    chosen = [name for name in scripts if not given.only or name in given.only]
    ratios, costs, failures, began = [], [], [], time.perf_counter()
    for name in chosen:
        for function, results in (("measure", ratios), ("curve", costs)):
            if f"\ndef {function}(" not in scripts[name]:
                continue
            print(f"{name} …", flush=True)
            start = time.perf_counter()
            try:
                results.extend(apart(name, function))
            except Exception as error:
                failures.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}")
            print(f"  {time.perf_counter() - start:.0f} s", flush=True)
            text = page(ratios, costs, failures, (time.perf_counter() - began) / 60)
            (given.out / "benchmarks.md").write_text(
                text, encoding="utf-8"
            )  # what is measured stays if a later one ends
    if costs:
        plot(costs, given.out / "benchmarks.svg")
    print(text)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
