"""Compare methods: every method with every seed on one stream, one process for each run, and a leaderboard.

The runs lie in `runs/<method>-s<seed>`. Finished runs are loaded and interrupted ones are resumed. The methods of one
seed share the initial session: the first run that learns it with plain fine-tuning starts alone, and once its g0 is
measured the others copy it. Results that an older version wrote are evaluated again, without learning.
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

from scrubjay.config import override, read_json
from scrubjay.errors import ConfigError, UserError
from scrubjay.experiments.options import ExperimentOptions, load_stream
from scrubjay.experiments.recipe import Entry, resolve
from scrubjay.experiments.result import completed, is_current
from scrubjay.experiments.run_folder import changed_option, initial_config
from scrubjay.experiments.worker import Worker
from scrubjay.methods import method
from scrubjay.progress import track
from scrubjay.report.leaderboard import Board, Failure, board
from scrubjay.report.leaderboard_page import write_board
from scrubjay.report.runs import Result
from scrubjay.report.table import group_figure, percent

_POLL = 0.2  # seconds between two looks at the workers


@dataclass(frozen=True)
class Planned:
    """A run of the plan, finished or not.

    Attributes:
        label: name of its method, with the settings of its entry.
        seed: seed of the run.
        options: all options of the run.
        folder: folder of the run.
        own_start: its initial session is neither copied to other runs nor copied from one.
        initial: the options that its initial session depends on; runs in which they are equal may share it.
    """

    label: str
    seed: int
    options: ExperimentOptions
    folder: Path
    own_start: bool
    initial: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash(self.folder)

    @property
    def finished(self) -> bool:
        """Whether the run has a result, of this version or an older one."""
        return (self.folder / "result.json").exists()

    @property
    def is_current(self) -> bool:
        """Whether the run has a result with all figures of this version."""
        return self.finished and is_current(read_json(self.folder / "result.json"))

    @property
    def has_initial_session(self) -> bool:
        """Whether its g0 can be copied; the file that is looked for is written last."""
        return (self.folder / "measured" / "g0.json").exists()


def plan(
    values: Mapping[str, Any], entries: Sequence[Entry], seeds: Sequence[int], out: Path, where: str
) -> list[Planned]:
    """Plan every method with every seed. Options are checked as far as possible without running; nothing is written.

    A seed also sets the order of classes, where `stream.order` is "shuffle" and the recipe sets no `stream.seed`.

    Args:
        values: contents of a recipe.
        entries: the methods.
        seeds: the seeds.
        out: folder of the comparison.
        where: the recipe's name, for messages.

    Raises:
        ConfigError: an option or a method is unknown, or two entries would be the same run.
        UserError: a folder in `out` holds a run with other options.
        CheckpointError: the `config.json` of a run in `out` is damaged.
    """
    runs = [_planned(values, entry, seed, out, where) for entry in entries for seed in seeds]
    for run in runs:
        same = [rival.label for rival in runs if rival.folder == run.folder]
        if len(same) > 1:
            raise ConfigError(f"{same[0]} and {same[1]} with seed {run.seed} would be one run: leave one of them out.")
        key = changed_option(run.folder, run.options.model_dump(mode="json"))
        if key is not None:
            raise UserError(
                f"{run.folder}: holds a run with another {key}; give a new --out, or the same options to resume."
            )
    return runs


def _planned(values: Mapping[str, Any], entry: Entry, seed: int, out: Path, where: str) -> Planned:
    resolved = override(resolve(values, entry), [f"seed={seed}"])
    options = ExperimentOptions.parse(resolved, f"{where} with {entry.label}")
    safe = re.sub(r"[^\w.=+-]+", "_", entry.label)
    folder = out / "runs" / f"{safe}-s{seed}"
    initial = initial_config(options.model_dump(mode="json"))
    return Planned(entry.label, seed, options, folder, method(entry.name).own_start, initial)


def compare(runs: Sequence[Planned], out: Path, jobs: int, say: Callable[[str], None]) -> Board:
    """Complete all runs, `jobs` at a time, and write the leaderboard of the finished ones, also when interrupted.

    Args:
        runs: from `plan`.
        out: folder of the comparison.
        jobs: number of processes at a time; they share the cores.
        say: called with one line as each run ends.

    Returns:
        The leaderboard, which names the failed runs.

    Raises:
        ConfigError: there are fewer cores than jobs.
        DataError: the source cannot be divided into sessions as the options say.
    """
    threads = threads_each(jobs)
    unfinished = [run for run in runs if not run.finished]
    outdated = [run for run in runs if run.finished and not run.is_current]
    if unfinished:
        load_stream(unfinished[0].options)  # an error in the data is raised once, before any run starts
    done = len(runs) - len(unfinished) - len(outdated)
    if done:
        say(f"{done} of {len(runs)} runs are finished already.")
    failures = []
    try:
        with closing(_work(runs, [*unfinished, *outdated], jobs, threads, out / "activations")) as endings:
            for run, seconds, problem in track(endings, "runs", len(runs), done):
                done += 1
                say(f"{done} of {len(runs)}: {run.label}, seed {run.seed}: {seconds:.1f} s, {_outcome(run, problem)}")
                if problem is not None and not run.finished:
                    failures.append(Failure(run.label, run.seed, problem))
    finally:
        leaderboard = _board(runs, failures)
        if leaderboard.rows or leaderboard.failed:
            write_board(out, leaderboard)
    return leaderboard


def threads_each(jobs: int) -> int:
    """Threads of each of `jobs` processes: an equal share of the cores, or `OMP_NUM_THREADS` where that is less.

    Raises:
        ConfigError: there are fewer cores than jobs.
    """
    cores = os.cpu_count() or 1
    if not 1 <= jobs <= cores:
        raise ConfigError(f"--jobs {jobs}: this machine has {cores} cores; give 1 to {cores}.")
    limit = os.environ.get("OMP_NUM_THREADS", "")
    share = cores // jobs
    return min(share, int(limit)) if limit.isdecimal() and int(limit) else share


def _work(
    runs: Sequence[Planned], todo: Iterable[Planned], jobs: int, threads: int, activations: Path
) -> Generator[tuple[Planned, float, str | None], None, None]:
    """Run `todo`, and yield each run as it ends, with its seconds and what went wrong, or None."""
    waiting = list(todo)
    broken: set[Planned] = set()
    workers: dict[Planned, Worker] = {}
    try:
        while waiting or workers:
            for run in list(waiting):
                if len(workers) == jobs:
                    break
                ready, start = _start(run, runs, broken)
                if ready:
                    waiting.remove(run)
                    workers[run] = Worker(run.options, run.folder, start, activations, threads)
            time.sleep(_POLL)
            for run in [run for run, worker in workers.items() if worker.ended()]:
                seconds, problem = workers.pop(run).end()
                if problem is not None:
                    broken.add(run)
                yield run, seconds, problem
    finally:
        for worker in workers.values():
            worker.interrupt()
        for worker in workers.values():
            worker.end()


def _start(run: Planned, runs: Iterable[Planned], broken: Set[Planned]) -> tuple[bool, Path | None]:
    """Whether a run can begin, and the folder of the run whose initial session it copies, or None."""
    if run.own_start or run.has_initial_session:
        return True, None
    same = [rival for rival in runs if not rival.own_start and rival.initial == run.initial]
    for lead in same:
        if lead.has_initial_session:
            return True, lead.folder
    return run == next(rival for rival in same if rival not in broken), None


def _outcome(run: Planned, problem: str | None) -> str:
    if problem is not None and run.finished:
        return f"not evaluated again ({problem}); figures that its older result lacks are not measured"
    if problem is not None:
        return "failed"
    seen = read_json(run.folder / "result.json")["groups"][-1]["seen"]
    return f"seen mAP@R {percent(group_figure(seen, 'map_at_r'))} %"


def _board(runs: Iterable[Planned], failures: Sequence[Failure]) -> Board:
    finished: dict[str, list[Result]] = {}
    for run in runs:
        if run.finished:
            finished.setdefault(run.label, []).append(completed(read_json(run.folder / "result.json")))
    return board(finished, failures)
