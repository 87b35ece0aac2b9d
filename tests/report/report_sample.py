"""Results with made-up figures, in the shape of `result.json`."""

from __future__ import annotations

import json
from typing import Any


def group(map_at_r: float, recall: float) -> dict[str, Any]:
    return {
        "recall": {"1": recall, "2": recall, "4": recall, "8": recall},
        "map": map_at_r,
        "map_at_r": map_at_r,
        "r_precision": map_at_r,
        "queries": 40,
        "skipped": 0,
    }


def result(method: str = "mmd", seed: int = 0, sessions: int = 3, score: float = 0.5, **changes: Any) -> dict[str, Any]:
    """A run whose every last figure follows from `score`: old + 0.01, new + 0.02, seen + 0; recall@1 is 0.2 higher."""
    steps = range(sessions)
    a = [[score + 0.1 * (t == j) if j <= t + 1 else None for j in steps] for t in steps]
    c = [[0.6 - 0.1 * (t - k) * (1 - score) if k <= t else None for k in steps] for t in steps]
    higher = [[value + 0.2 if value is not None else None for value in row] for row in c]
    figures = {
        "average": score,
        "average_incremental": score,
        "forgetting": 0.1 if sessions > 1 else None,
        "backward_transfer": -0.1 if sessions > 1 else None,
        "forward_transfer": None,
    }
    made = {
        "scrubjay": "0.1.0",
        "name": "demo",
        "method": method,
        "seed": seed,
        "config": {"name": "demo", "seed": seed, "method": {"name": method}, "stream": {"initial": 2, "seed": 0}},
        "versions": {"python": "3.11", "torch": "2.4"},
        "data": {"source": "aviary", "hash": ["abc", "def"], "classes": ["a <b>", 'c & "d"'], "broken": []},
        "sessions": [{"classes": [f"wren <{t}>", f"tit & {t}"], "train": 20, "test": 10} for t in steps],
        "groups": [
            {
                "old": group(score + 0.01, score + 0.21) if t else None,
                "new": group(score + 0.02, score + 0.22),
                "seen": group(score, score + 0.2),
                "unseen": None,
            }
            for t in steps
        ],
        "accuracy": {"recall@1": a, "map_at_r": a},
        "compatibility": {"recall@1": higher, "map_at_r": c},
        "continual": {"recall@1": figures, "map_at_r": figures},
        "reference": {"old": group(0.2, 0.3), "new": group(0.4, 0.5), "seen": group(0.1, 0.25), "unseen": None},
        "curves": {str(t): {"ce": [2.0, 1.5, 1.0], "mmd": [0.0, 0.1, None]} for t in steps},
        "phases": [
            {"session": t, "phase": phase, "seconds": 2.0, "images": 100, "images_per_second": 50.0}
            for t in steps
            for phase in ("learn", "embed")
        ],
    }
    loaded: dict[str, Any] = json.loads(json.dumps({**made, **changes}))
    return loaded
