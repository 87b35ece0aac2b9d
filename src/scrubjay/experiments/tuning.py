"""Settings without old data: a method's weights chosen by what a new session's own training images say.

A quarter of each new class is held out. Every candidate learns the session from the rest, beginning at the generation
before it, which is also the teacher that the held-out images are moved against. Candidates are thinned out by
successive halving (Jamieson & Talwalkar, AISTATS 2016): a rung trains those that are left from the start, the worse
half leaves, and the next rung trains twice as long, so that the last has the epochs of a real run.

In the folder lie `config.json`, `start/` (a run of the sessions before, unless one was given), `trials/`, `tune.json`,
`tune.md` and `chosen.toml`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scrubjay.config import difference, read_json
from scrubjay.data.stream import Stream
from scrubjay.errors import ConfigError, DataError, UserError
from scrubjay.evaluation.tradeoff import place, spearman
from scrubjay.experiments import run as experiment
from scrubjay.experiments.run import ExperimentOptions
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

_LOSS = ("ce_over", "metric", "metric_options", "metric_weight", "margin", "mining")
"""Options of what learns the new classes."""
_PASSING = ("network.", "teacher.", "metric.")
"""What of a method's state is of the network, or of one session."""

Settings = Mapping[str, Any]


def score(figures: Settings, plain: Settings) -> float:
    """What a candidate is chosen by, from the figures of its trial and of plain fine-tuning for as many epochs.

    (learned · found · agreement)^⅓, with learned = min(1, plasticity / fine-tuning's) and found = min(1, cross-recall /
    that with the teacher on both sides)

    Learning is what costs stability, so that neither is worth anything alone: the product is largest where one more
    per cent of learning costs one per cent of stability. Found is what an index of old vectors needs; it is cut at 1,
    since new classes that are learned are found better in the old space too, which keeps no old class. It falls only
    where much is forgotten; agreement shows the movement before that.
    """
    learned = min(1.0, ratio(figures["plasticity"], plain["plasticity"]) or 0.0)
    found = min(1.0, ratio(figures["cross"], figures["cross_start"]) or 0.0)
    return math.cbrt(learned * found * figures["agreement"])


def halving(trials: Trials, field: Sequence[Candidate], epochs: int, peek: bool = False) -> list[dict[str, Any]]:
    """All rungs, each with its candidates, best first; of equals, that which was ahead before stays ahead.

    With `peek` the last rung's are measured with old data at once, which the choice does not depend on.
    """
    done = []
    left = list(field)
    for count, length in rungs(len(field), epochs):
        left = left[:count]
        plain = _plain(trials, length)
        rows = []
        for candidate in track(left, f"candidates, {_epochs(length)} each", count):
            figures = trials.figures(candidate.label, candidate.method, length, peek and length == epochs)
            rows.append((score(figures, plain), candidate, figures))
        rows.sort(key=lambda row: -row[0])
        left = [candidate for _, candidate, _ in rows]
        entries = [_entry(candidate, figures, value) for value, candidate, figures in rows]
        done.append({"epochs": length, "plain": plain, "candidates": entries})
    return done


def tune(
    options: ExperimentOptions,
    out: Path,
    asked: Iterable[str] = (),
    trials: int = TRIALS,
    session: int = 1,
    start: Path | None = None,
    peek: bool = False,
    activations: Path | None = None,
) -> dict[str, Any]:
    """Choose the weights of the options' method for one session. What is done in `out` is not done again.

    Args:
        options: of the run to come.
        out: folder of the whole.
        asked: options and their values; see `candidates`.
        trials: candidates at most.
        session: index of the session to learn, from 1.
        start: folder of a run that has learned the sessions before; none: they are learned in `out`, which is all that
            old images are needed for.
        peek: whether every candidate is measured with old and test images too, to see how good the choice is.
        activations: folder for those of the network's frozen part; none: `out`.

    Returns:
        What `tune.json` holds.

    Raises:
        UserError: something cannot be tuned, or `out` or `start` is of other options.
    """
    field = candidates(options.method, asked, trials, options.seed)
    stream, _ = experiment.load_stream(options)
    if not 1 <= session < len(stream.sessions):
        raise ConfigError(f"--session {session}: this stream has the sessions 1 to {len(stream.sessions) - 1} to tune.")
    training = options.training
    epochs = training.epochs if training.increment_epochs is None else training.increment_epochs
    if epochs < 1:
        raise ConfigError("training.increment_epochs = 0: a session without training has nothing to tune; raise it.")
    stream = replace(stream, sessions=stream.sessions[: session + 1], unseen=())
    activations = out / "activations" if activations is None else activations
    with locked(out):
        _claim(out, {"session": session, "start": start and str(start.resolve()), **options.model_dump(mode="json")})
        lineage, generation = _start(options, stream, out, start, activations)
        work = Trials(options, stream, lineage, generation, out / "trials", activations)
        done = halving(work, field, epochs, peek)
        found = {
            "name": options.name,
            "method": options.method["name"],
            "session": session,
            "seed": options.seed,
            "images": {"learned": len(work.split[0]), "held_out": len(work.split[1])},
            "chosen": done[-1]["candidates"][0]["settings"],
            "cost": _cost(done, len(field), epochs),
            "rungs": done,
            "peek": _peeked(work, field, done, epochs) if peek else None,
        }
        write_json(out / "tune.json", found)
        write_file(out / "tune.md", page(found).encode())
        write_file(out / "chosen.toml", snippet(found).encode())
    return found


def _plain(trials: Trials, epochs: int) -> dict[str, Any]:
    """Figures of fine-tuning with the same loss for the new classes, and nothing done after it."""
    same = {key: value for key, value in trials.options.method.items() if key in _LOSS}
    return trials.figures("finetune", {"name": "finetune", **same}, epochs)


def _entry(candidate: Candidate, figures: Settings, value: float) -> dict[str, Any]:
    kept = {key: figures[key] for key in ("plasticity", "cross", "cross_start", "agreement", "seconds")}
    return {"label": candidate.label, "settings": candidate.settings, "score": value, **kept}


def _cost(done: Sequence[Settings], count: int, epochs: int) -> dict[str, float]:
    """Of tuning, with its fine-tuning, and of training every candidate in full, in trainings and seconds of one core.

    The seconds of the latter are those of the last rung's candidates, times their number.
    """
    last = [each["seconds"] for each in done[-1]["candidates"]]
    trained = sum((len(rung["candidates"]) + 1) * rung["epochs"] for rung in done)
    seconds = sum(each["seconds"] for rung in done for each in (*rung["candidates"], rung["plain"]))
    return {
        "trainings": trained / epochs,
        "seconds": round(seconds, 3),
        "trainings_of_all": count,
        "seconds_of_all": round(count * sum(last) / len(last), 3),
    }


def _peeked(trials: Trials, field: Sequence[Candidate], done: Sequence[Settings], epochs: int) -> dict[str, Any]:
    """Every candidate in full, by the old data: what the choice lost against the best, and how the orders agree."""
    plain = _plain(trials, epochs)
    figures = [
        trials.figures(each.label, each.method, epochs, peek=True)
        for each in track(field, "candidates, with old data", len(field))
    ]
    seconds = sum(each["seconds"] + each["peek"]["seconds"] for each in figures)
    rows = [_entry(candidate, each, score(each, plain)) for candidate, each in zip(field, figures, strict=True)]
    table = oracle(rows, [each["peek"] for each in figures], done[-1]["candidates"][0]["label"])
    return {**table, "seconds": round(seconds, 3)}


def oracle(rows: Sequence[Settings], old: Sequence[Settings], chosen: str) -> dict[str, Any]:
    """The choice by old data, and how another choice does by it.

    Candidates are ordered by their distance to the corner of the leaderboard: √ Σ max(0, target − value)² over old
    kept, the old classes' mAP@R as a share of what it was; old gallery kept, that of old queries on the old gallery as
    a share of that on the gallery embedded anew; and seen, the mAP@R over all classes, as a share of the best
    candidate's, since no candidate sees what `joint` does.

    Args:
        rows: `label` and `score` of each candidate.
        old: `old`, `before`, `seen`, `old_gallery` and `old_gallery_anew` of each.
        chosen: label of the other choice.

    Raises:
        DataError: something could not be measured.
    """
    best = max(each["seen"] or 0.0 for each in old)
    judged = []
    for row, each in zip(rows, old, strict=True):
        shares = {
            "old_kept": ratio(each["old"], each["before"]),
            "seen_of_joint": ratio(each["seen"], best),
            "old_gallery_kept": ratio(each["old_gallery"], each["old_gallery_anew"]),
        }
        distance = corner(shares)
        if distance is None:
            raise DataError("old classes have no two test images, or nothing of them was found: leave --peek out.")
        seen = shares.pop("seen_of_joint")
        judged.append({**row, **shares, "seen_of_best": seen, "corner": distance})
    distances = [row["corner"] for row in judged]
    mine = [row["label"] for row in judged].index(chosen)
    first = distances.index(min(distances))
    return {
        "chosen": {"label": chosen, "corner": distances[mine], "rank": place(distances, mine)},
        "oracle": {"label": judged[first]["label"], "corner": distances[first]},
        "spearman": spearman([row["score"] for row in judged], [-each for each in distances]),
        "candidates": sorted(judged, key=lambda row: float(row["corner"])),
    }


def _start(
    options: ExperimentOptions, stream: Stream, out: Path, start: Path | None, activations: Path
) -> tuple[Lineage, Generation]:
    """The generation before the last session of the stream, which is learned where no run is given."""
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
    """Refuse a run on another stream or network, or one whose method left nothing for this one to go on with."""
    theirs, mine = read_json(start / "config.json"), options.model_dump(mode="json")
    for config in (theirs, mine):
        config["stream"] = {**config["stream"], "sessions": None}
    free = {"method": None, "name": None}
    key = difference({**theirs, **free}, {**mine, **free})
    if key is not None:
        raise UserError(f"{start}: began with another {key}; tune with the same options, or leave it out.")
    name = options.method["name"]
    if theirs["method"]["name"] == name:
        return
    own = [key for key in experiment.make_method(options).state_dict() if not key.startswith(_PASSING)]
    if own or method(name).own_start:
        raise UserError(
            f"{start}: is of {theirs['method']['name']}, and {name} keeps more of a session: give a run of {name}, "
            "or leave it out."
        )


def _claim(out: Path, mine: dict[str, Any]) -> None:
    path = out / "config.json"
    if not path.exists():
        write_json(path, mine)
        return
    key = difference(read_json(path), mine)
    if key is not None:
        raise UserError(f"{out}: was tuned with another {key}; give a new --out, or the same options to go on.")


def _epochs(length: int) -> str:
    return f"{length} epoch{'' if length == 1 else 's'}"
