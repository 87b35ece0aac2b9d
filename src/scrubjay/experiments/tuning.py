"""Tuning without old data: a method's weights are chosen with the new session's own training images.

A quarter of each new class is held out. Every candidate learns the session from the rest, starting from the generation
before it, which is also the teacher. Candidates are thinned out by successive halving (Jamieson & Talwalkar, AISTATS
2016): a rung trains the remaining candidates from the start, the worse half is dropped, and the next rung trains twice
as long, so that the last rung has the epochs of a real run.

The folder holds `config.json`, `start/` (a run of the sessions before, unless one was given), `trials/`, `tune.json`,
`tune.md` and `chosen.toml`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scrubjay.config import difference
from scrubjay.data.stream import Stream
from scrubjay.errors import ConfigError, DataError, UserError
from scrubjay.evaluation.tradeoff import place, spearman
from scrubjay.experiments import run as experiment
from scrubjay.experiments.options import ExperimentOptions, load_stream, make_method
from scrubjay.experiments.run_folder import METRIC_OPTIONS, claim, stored_config
from scrubjay.experiments.search_space import TRIALS, Candidate, candidates, rungs
from scrubjay.experiments.trial import Trials
from scrubjay.generations.generation import Generation
from scrubjay.generations.lineage import Lineage
from scrubjay.io.atomic import write_file, write_json
from scrubjay.io.locking import locked
from scrubjay.methods import method
from scrubjay.progress import track
from scrubjay.report.figures import corner, ratio
from scrubjay.report.tuning_summary import page, snippet

_TRANSIENT = ("network.", "teacher.", "metric.")
"""Prefixes of a method's state that belong to the network or to one session, and need not be passed on."""

Figures = Mapping[str, Any]


def score(figures: Figures, plain: Figures) -> float:
    """The score that candidates are ranked by, from the figures of a trial and of fine-tuning for as many epochs.

    (learned · cross · agreement)^⅓, with learned = min(1, plasticity / fine-tuning's plasticity) and cross = min(1,
    cross / cross_start): how well held-out images, embedded by the candidate, retrieve in the teacher's gallery,
    relative to the teacher's own queries.

    Plasticity costs stability, so that neither is worth anything alone: the product is largest where one more per cent
    of plasticity costs one per cent of stability. The cross score is what an index of old vectors needs. It is cut at
    1, because new classes that are learned are also retrieved better in the old space, which keeps no old class. It
    falls only where much is forgotten; agreement shows the movement before that.
    """
    learned = min(1.0, ratio(figures["plasticity"], plain["plasticity"]) or 0.0)
    cross = min(1.0, ratio(figures["cross"], figures["cross_start"]) or 0.0)
    return math.cbrt(learned * cross * figures["agreement"])


def halving(trials: Trials, field: Sequence[Candidate], epochs: int, peek: bool = False) -> list[dict[str, Any]]:
    """Run successive halving.

    Args:
        trials: what trains and evaluates the candidates.
        field: all candidates.
        epochs: epochs of the last rung.
        peek: whether the candidates of the last rung are evaluated on old data at once; the choice does not depend
            on it.

    Returns:
        All rungs, each with its candidates, best first; of equal scores, the one ranked first before stays first.
    """
    finished = []
    remaining = list(field)
    for count, length in rungs(len(field), epochs):
        remaining = remaining[:count]
        plain = _plain(trials, length)
        rows = []
        for candidate in track(remaining, f"candidates, {_epochs(length)} each", count):
            figures = trials.figures(candidate.label, candidate.method, length, peek and length == epochs)
            rows.append((score(figures, plain), candidate, figures))
        rows.sort(key=lambda row: -row[0])
        remaining = [candidate for _, candidate, _ in rows]
        entries = [_entry(candidate, figures, value) for value, candidate, figures in rows]
        finished.append({"epochs": length, "plain": plain, "candidates": entries})
    return finished


def tune(
    options: ExperimentOptions,
    out: Path,
    grid: Iterable[str] = (),
    trials: int = TRIALS,
    session: int = 1,
    start: Path | None = None,
    peek: bool = False,
    activations: Path | None = None,
) -> dict[str, Any]:
    """Choose the weights of the options' method for one session. Work that is complete in `out` is not repeated.

    Args:
        options: options of the run to come.
        out: folder of the tuning.
        grid: options and their values; see `candidates`.
        trials: largest number of candidates.
        session: index of the session to learn, from 1.
        start: folder of a run that has learned the sessions before; None: they are learned in `out`, the only step
            that needs old images.
        peek: whether every candidate is evaluated on old and test images too, to see how good the choice is.
        activations: folder of the activations of the network's frozen part; None: one in `out`.

    Returns:
        What `tune.json` holds.

    Raises:
        UserError: something cannot be tuned, or `out` or `start` has other options.
    """
    field = candidates(options.method, grid, trials, options.seed)
    stream, _ = load_stream(options)
    if not 1 <= session < len(stream.sessions):
        raise ConfigError(f"--session {session}: this stream has the sessions 1 to {len(stream.sessions) - 1} to tune.")
    training = options.training
    epochs = training.epochs if training.increment_epochs is None else training.increment_epochs
    if epochs < 1:
        raise ConfigError("training.increment_epochs = 0: a session without training has nothing to tune; raise it.")
    stream = replace(stream, sessions=stream.sessions[: session + 1], unseen=())
    activations = out / "activations" if activations is None else activations
    with locked(out):
        config = {"session": session, "start": start and str(start.resolve()), **options.model_dump(mode="json")}
        claim(out, config, "was tuned with")
        lineage, generation = _start(options, stream, out, start, activations)
        work = Trials(options, stream, lineage, generation, out / "trials", activations)
        finished = halving(work, field, epochs, peek)
        report = {
            "name": options.name,
            "method": options.method["name"],
            "session": session,
            "seed": options.seed,
            "images": {"learned": len(work.split[0]), "held_out": len(work.split[1])},
            "chosen": finished[-1]["candidates"][0]["settings"],
            "cost": _cost(finished, len(field), epochs),
            "rungs": finished,
            "peek": _peeked(work, field, finished, epochs) if peek else None,
        }
        write_json(out / "tune.json", report)
        write_file(out / "tune.md", page(report).encode())
        write_file(out / "chosen.toml", snippet(report).encode())
    return report


def _plain(trials: Trials, epochs: int) -> dict[str, Any]:
    """Figures of fine-tuning with the same loss for the new classes, and nothing against forgetting."""
    shared = {key: value for key, value in trials.options.method.items() if key in ("ce_over", *METRIC_OPTIONS)}
    return trials.figures("finetune", {"name": "finetune", **shared}, epochs)


def _entry(candidate: Candidate, figures: Figures, value: float) -> dict[str, Any]:
    shown = {key: figures[key] for key in ("plasticity", "cross", "cross_start", "agreement", "seconds")}
    return {"label": candidate.label, "settings": candidate.settings, "score": value, **shown}


def _cost(finished: Sequence[Figures], count: int, epochs: int) -> dict[str, float]:
    """Cost of tuning, fine-tuning included, and of training every candidate in full.

    Both in full trainings and in seconds; the seconds of the latter are the mean of the last rung's candidates, times
    the number of candidates.
    """
    last = [each["seconds"] for each in finished[-1]["candidates"]]
    trained = sum((len(rung["candidates"]) + 1) * rung["epochs"] for rung in finished)
    seconds = sum(each["seconds"] for rung in finished for each in (*rung["candidates"], rung["plain"]))
    return {
        "trainings": trained / epochs,
        "seconds": round(seconds, 3),
        "trainings_of_all": count,
        "seconds_of_all": round(count * sum(last) / len(last), 3),
    }


def _peeked(trials: Trials, field: Sequence[Candidate], finished: Sequence[Figures], epochs: int) -> dict[str, Any]:
    """Every candidate in full, evaluated on old data: how far the choice is from the best, and how the rankings agree.

    Trials of older versions have `old_gallery_reindexed` under another key, and lack `old_gallery_before`, which is the
    same for all candidates.
    """
    plain = _plain(trials, epochs)
    figures = [
        trials.figures(each.label, each.method, epochs, peek=True)
        for each in track(field, "candidates, with old data", len(field))
    ]
    old = [dict(each["peek"]) for each in figures]
    for each in old:
        if "old_gallery_anew" in each:
            each["old_gallery_reindexed"] = each.pop("old_gallery_anew")
        if "old_gallery_before" not in each:
            each["old_gallery_before"] = trials.old_gallery_before
    seconds = sum(each["seconds"] + each["peek"]["seconds"] for each in figures)
    rows = [_entry(candidate, each, score(each, plain)) for candidate, each in zip(field, figures, strict=True)]
    table = oracle(rows, old, finished[-1]["candidates"][0]["label"])
    return {**table, "seconds": round(seconds, 3)}


def oracle(rows: Sequence[Figures], old: Sequence[Figures], chosen: str) -> dict[str, Any]:
    """The choice that old data would make, and how another choice compares with it.

    Candidates are ordered by their distance to the corner of the leaderboard; see `report.figures.corner`. Its figure
    `seen_of_joint` is relative to the best candidate here, since no candidate sees the images that `joint` does.

    Args:
        rows: `label` and `score` of each candidate.
        old: `old`, `before`, `seen`, `old_gallery`, `old_gallery_reindexed` (the old gallery re-embedded by the
            candidate) and `old_gallery_before` (queries and gallery by the generation before) of each candidate, in
            mAP@R.
        chosen: label of the other choice.

    Raises:
        DataError: something could not be measured.
    """
    best = max(each["seen"] or 0.0 for each in old)
    ranked = []
    for row, each in zip(rows, old, strict=True):
        shares = {
            "old_kept": ratio(each["old"], each["before"]),
            "seen_of_joint": ratio(each["seen"], best),
            "old_gallery_kept": ratio(each["old_gallery"], each["old_gallery_reindexed"]),
            "old_gallery_absolute": ratio(each["old_gallery"], each["old_gallery_before"]),
        }
        distance = corner(shares)
        if distance is None:
            raise DataError("old classes have no two test images, or retrieve none of them: leave --peek out.")
        seen = shares.pop("seen_of_joint")
        ranked.append({**row, **shares, "seen_of_best": seen, "corner": distance})
    distances = [row["corner"] for row in ranked]
    own = [row["label"] for row in ranked].index(chosen)
    first = distances.index(min(distances))
    return {
        "chosen": {"label": chosen, "corner": distances[own], "rank": place(distances, own)},
        "oracle": {"label": ranked[first]["label"], "corner": distances[first]},
        "spearman": spearman([row["score"] for row in ranked], [-each for each in distances]),
        "candidates": sorted(ranked, key=lambda row: float(row["corner"])),
    }


def _start(
    options: ExperimentOptions, stream: Stream, out: Path, start: Path | None, activations: Path
) -> tuple[Lineage, Generation]:
    """The generation before the last session of the stream; it is learned where no run is given."""
    number = len(stream.sessions) - 2
    if start is None:
        start = out / "start"
        if not (start / "generations" / f"g{number}").exists():
            shorter = options.stream.model_copy(update={"sessions": number})
            experiment.run(options.model_copy(update={"stream": shorter}), start, activations=activations)
    else:
        _check_start(options, start)
    lineage = Lineage(start / "generations")
    generation = next((each for each in lineage.generations() if each.number == number), None)
    if generation is None:
        raise UserError(f"{start}: has no generation g{number}, where session {number + 1} begins; run it to there.")
    return lineage, generation


def _check_start(options: ExperimentOptions, start: Path) -> None:
    """Refuse a run on another stream or network, and one whose method stored nothing that this method needs."""
    stored, given = stored_config(start), options.model_dump(mode="json")
    for config in (stored, given):
        config["stream"] = {**config["stream"], "sessions": None}
    ignored = {"method": None, "name": None}
    key = difference({**stored, **ignored}, {**given, **ignored})
    if key is not None:
        raise UserError(f"{start}: began with another {key}; tune with the same options, or leave --start out.")
    name = options.method["name"]
    if stored["method"]["name"] == name:
        return
    needed = [key for key in make_method(options).state_dict() if not key.startswith(_TRANSIENT)]
    if needed or method(name).own_start:
        raise UserError(
            f"{start}: is a run of {stored['method']['name']}, and {name} stores more of a session: give a run of "
            f"{name}, or leave --start out."
        )


def _epochs(length: int) -> str:
    return f"{length} epoch{'' if length == 1 else 's'}"
