"""Methods against one another: every method with every seed on one stream, a process a run, and a leaderboard.

Runs lie in `runs/<method>-s<seed>`. What is finished is loaded, what was cut goes on. The methods of one seed share
the initial session: the first that learns it plainly goes ahead, and once its g0 is measured the others take it over.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scrubjay.config import difference, override, read_json
from scrubjay.errors import ConfigError, UserError
from scrubjay.experiments import run as experiment
from scrubjay.experiments.recipe import Entry, resolve
from scrubjay.experiments.run import ExperimentOptions, initial, stored_options
from scrubjay.experiments.worker import Worker
from scrubjay.methods import method
from scrubjay.progress import track
from scrubjay.report.leaderboard import Board, Failure, board
from scrubjay.report.leaderboard_page import write_board
from scrubjay.report.runs import Result
from scrubjay.report.table import group_figure, percent

_LOOK = 0.2  # seconds between two looks at the workers


@dataclass(frozen=True)
class Planned:
    """A run of the plan, done or not.

    Attributes:
        label: of its method, with its own settings.
        seed: of the run.
        options: all of them.
        folder: of the run.
        own_start: its initial session is neither given to others nor taken over.
        begun: what its initial session depends on; runs that agree in it may share one.
    """

    label: str
    seed: int
    options: ExperimentOptions
    folder: Path
    own_start: bool
    begun: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash(self.folder)

    @property
    def finished(self) -> bool:
        return (self.folder / "result.json").exists()

    @property
    def started(self) -> bool:
        """Whether its g0 can be taken over; its description is written last."""
        return (self.folder / "measured" / "g0.json").exists()


def plan(
    values: Mapping[str, Any], entries: Sequence[Entry], seeds: Sequence[int], out: Path, where: str
) -> list[Planned]:
    """Every method with every seed, checked as far as that goes without running; nothing is written.

    Args:
        values: of a recipe.
        entries: the methods.
        seeds: of the runs.
        out: folder of the whole.
        where: the recipe's name, for messages.

    Raises:
        ConfigError: an option or a method is unknown, or one is there twice.
        UserError: a folder of `out` holds a run with other options.
    """
    runs = [_planned(values, entry, seed, out, where) for entry in entries for seed in seeds]
    for run in runs:
        same = [other.label for other in runs if other.folder == run.folder]
        if len(same) > 1:
            raise ConfigError(f"{same[0]} and {same[1]} with seed {run.seed} would be one run: leave one of them out.")
        if (run.folder / "config.json").exists():
            key = difference(stored_options(run.folder / "config.json"), run.options.model_dump(mode="json"))
            if key is not None:
                raise UserError(
                    f"{run.folder}: holds a run with another {key}; give a new --out, or the same options to go on."
                )
    return runs


def _planned(values: Mapping[str, Any], entry: Entry, seed: int, out: Path, where: str) -> Planned:
    resolved = override(resolve(values, entry), [f"seed={seed}"])
    options = ExperimentOptions.parse(resolved, f"{where} with {entry.label}")
    safe = re.sub(r"[^\w.=+-]+", "_", entry.label)
    folder = out / "runs" / f"{safe}-s{seed}"
    begun = initial(options.model_dump(mode="json"))
    return Planned(entry.label, seed, options, folder, method(entry.name).own_start, begun)


def compare(runs: Sequence[Planned], out: Path, jobs: int, say: Callable[[str], None]) -> Board:
    """Run what is not finished, `jobs` at a time, and write the leaderboard of what then is, also when interrupted.

    Args:
        runs: from `plan`.
        out: folder of the whole.
        jobs: processes at a time; they share the cores.
        say: takes a line as each run ends.

    Returns:
        The leaderboard, which names the failed runs.

    Raises:
        ConfigError: there are not as many cores as jobs.
        DataError: the stream cannot be made of the source.
    """
    threads = threads_each(jobs)
    missing = [run for run in runs if not run.finished]
    done, failures = len(runs) - len(missing), []
    if missing:
        experiment.load_stream(missing[0].options)  # what is wrong with it is said once, and before any run
    if done:
        say(f"{done} of {len(runs)} runs are finished already.")
    try:
        with closing(_work(runs, missing, jobs, threads, out / "activations")) as endings:
            for run, seconds, problem in track(endings, "runs", len(runs), done):
                done += 1
                say(f"{done} of {len(runs)}: {run.label}, seed {run.seed}: {seconds:.1f} s, {_outcome(run, problem)}")
                if problem is not None:
                    failures.append(Failure(run.label, run.seed, problem))
    finally:
        made = _board(runs, failures)
        if made.rows or made.failed:
            write_board(out, made)
    return made


def threads_each(jobs: int) -> int:
    """Threads of each of `jobs` processes: an equal share of the cores, or `OMP_NUM_THREADS` where that is less.

    Raises:
        ConfigError: there are not as many cores as jobs.
    """
    cores = os.cpu_count() or 1
    if not 1 <= jobs <= cores:
        raise ConfigError(f"--jobs {jobs}: this machine has {cores} cores; give 1 to {cores}.")
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores // jobs, int(asked)) if asked.isdecimal() and int(asked) else cores // jobs


def _work(
    runs: Sequence[Planned], missing: Iterable[Planned], jobs: int, threads: int, activations: Path
) -> Generator[tuple[Planned, float, str | None], None, None]:
    """The runs in the order in which they end, with their seconds and what went wrong."""
    waiting = list(missing)
    broken: set[Planned] = set()
    going: dict[Planned, Worker] = {}
    try:
        while waiting or going:
            for run in list(waiting):
                if len(going) == jobs:
                    break
                ready, start = _start(run, runs, broken)
                if ready:
                    waiting.remove(run)
                    going[run] = Worker(run.options, run.folder, start, activations, threads)
            time.sleep(_LOOK)
            for run in [run for run, worker in going.items() if worker.ended()]:
                seconds, problem = going.pop(run).end()
                if problem is not None:
                    broken.add(run)
                yield run, seconds, problem
    finally:
        for worker in going.values():
            worker.interrupt()
        for worker in going.values():
            worker.end()


def _start(run: Planned, runs: Iterable[Planned], broken: Set[Planned]) -> tuple[bool, Path | None]:
    """Whether a run can begin, and the folder of the one whose initial session it takes over."""
    if run.own_start or run.started:
        return True, None
    begun = initial(run.options.model_dump(mode="json"))
    same = [other for other in runs if not other.own_start and initial(other.options.model_dump(mode="json")) == begun]
    for lead in same:
        if lead.started:
            return True, lead.folder
    return run == next(other for other in same if other not in broken), None


def _outcome(run: Planned, problem: str | None) -> str:
    if problem is not None:
        return "failed"
    seen = read_json(run.folder / "result.json")["groups"][-1]["seen"]
    return f"seen mAP@R {percent(group_figure(seen, 'map_at_r'))} %"


def _board(runs: Iterable[Planned], failures: Sequence[Failure]) -> Board:
    finished: dict[str, list[Result]] = {}
    for run in runs:
        if run.finished:
            finished.setdefault(run.label, []).append(read_json(run.folder / "result.json"))
    return board(finished, failures)
