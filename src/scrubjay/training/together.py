"""Training in one process or in several that compute each step together; the result is the same up to rounding.

Rank 0 does everything else: it reads and writes the files, begins and ends sessions, and measures. The others are sent
the work of a session, take part in its steps, and keep nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from scrubjay.errors import ConfigError
from scrubjay.training.fit import Fit, Work
from scrubjay.workers.ranks import Group, joined, launched, leading

Result = tuple[dict[str, list[float]], int]


def train(work: Work, checkpoint: Path | None, processes: int) -> Result:
    """Train in the processes of a launcher, in `processes` that are started here, or in this one alone.

    Args:
        work: what is trained; the method is changed in place.
        checkpoint: see `Fit.run`.
        processes: number of processes, this one included; of no effect under a launcher.

    Raises:
        ConfigError: there are more processes than GPUs, or than images in a batch.
        ScrubjayError: another process failed or died.
    """
    if launched() > 1:
        group = joined()
        group.sent(work)
        return Fit(work, group).run(checkpoint)
    if processes == 1:
        return Fit(work).run(checkpoint)
    gpus = torch.cuda.device_count() if work.options.device == "auto" else 0
    if 0 < gpus < processes:
        raise ConfigError(f"{processes} processes need a GPU each, and there are {gpus}: take fewer processes.")
    with leading(processes, follow) as group:
        group.sent(work)
        result = Fit(work, group).run(checkpoint)
        group.sent(None)
    return result


def follow(group: Group) -> None:
    """Take part in training, until rank 0 sends None."""
    while (work := group.sent()) is not None:
        torch.manual_seed(work.seed)  # of a GPU's generator; rank 0 was seeded likewise
        Fit(work, group).run(None)


def under_launcher(command: Callable[[], None]) -> None:
    """Run a command in rank 0 of the processes that a launcher started; the others follow it."""
    group = joined()
    if group.rank > 0:
        try:
            follow(group)
        except RuntimeError:  # rank 0 ended with an error, which it reports
            sys.exit(1)
        return
    try:
        command()
    except SystemExit as end:
        if end.code:
            raise
    group.sent(None)
