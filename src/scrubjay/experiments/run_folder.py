"""Which options a folder was made with, and whether the work in it fits the options given now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scrubjay.config import difference
from scrubjay.errors import CheckpointError, ConfigError, UserError
from scrubjay.experiments.options import ExperimentOptions
from scrubjay.io.atomic import write_json
from scrubjay.methods import method

METRIC_OPTIONS = ("metric", "metric_options", "metric_weight", "margin", "mining")
"""Options of every method that set the loss for new classes; of a method, only they affect the initial session."""

NOT_OPTIONS = ("session", "start")
"""Keys of a tuning folder's `config.json` that are not options of a run."""


def read_record(path: Path) -> dict[str, Any]:
    """The object in a JSON file that a run wrote.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or missing ({error}): delete it, and it is written again.") from None
    return record


def stored_config(folder: Path) -> dict[str, Any]:
    """The resolved options in a folder's `config.json`, under the option names of this version.

    A file of an older version may use former names of options and lack newer options, which then have their
    defaults. What this version cannot parse is returned as it was written.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    written = read_record(folder / "config.json")
    extra = {key: written[key] for key in NOT_OPTIONS if key in written}
    options = {key: value for key, value in written.items() if key not in NOT_OPTIONS}
    try:
        return {**extra, **ExperimentOptions.parse(options).model_dump(mode="json")}
    except ConfigError:
        return written


def changed_option(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The first option in which a folder's `config.json` differs from `config`; None where there is no such file."""
    if not (folder / "config.json").exists():
        return None
    return difference(stored_config(folder), config)


def claim(folder: Path, config: Mapping[str, Any], work: str = "holds a run with") -> None:
    """Write the options of new work into its folder, or check that the folder holds work with the same options.

    Args:
        folder: folder of a run or of a tuning.
        config: resolved options, JSON-able.
        work: how the message begins, as in "holds a run with".

    Raises:
        UserError: the folder holds work with other options.
        CheckpointError: its `config.json` is damaged.
    """
    if not (folder / "config.json").exists():
        write_json(folder / "config.json", dict(config))
        return
    key = changed_option(folder, config)
    if key is not None:
        raise UserError(f"{folder}: {work} another {key}; give a new --out, or the same options to resume.")


def initial_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that the initial session depends on.

    That is everything but the name of the run and the options that a method adds in later sessions.
    """
    shared = {key: config["method"].get(key) for key in METRIC_OPTIONS}
    return {**config, "name": None, "method": shared}


def check_initial_session(start: Path, options: ExperimentOptions) -> None:
    """Check that the initial session of another run can be used in place of learning it.

    Raises:
        UserError: that run has not finished its initial session, it had other options, or the method needs an
            initial session of its own.
    """
    if not (start / "measured" / "g0.json").exists():
        raise UserError(f"{start}: has not finished its initial session; run it first, or give no start.")
    kind = method(options.method["name"])
    if kind.own_start:
        raise UserError(f"method {options.method['name']!r} needs an initial session of its own; give no start.")
    key = difference(initial_config(stored_config(start)), initial_config(options.model_dump(mode="json")))
    if key is not None:
        raise UserError(f"{start}: began with another {key}; its initial session cannot be reused.")
