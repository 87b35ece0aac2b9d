"""Time of a run whose network has a frozen first part, with and without cached activations.

The run is plain fine-tuning on drawn birds with the settings of recipes/aviary.toml and fewer species. It is compared
with the same run that computes the frozen part in every step. All runs give the same figures, to the bit.

    python benchmarks/speed/activations.py [--species 24]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from scrubjay.config import override
from scrubjay.experiments import run as experiment
from scrubjay.experiments.recipe import read
from scrubjay.experiments.run import ExperimentOptions

RECIPE = Path(__file__).parents[2] / "recipes" / "aviary.toml"
SAME = ("groups", "accuracy", "compatibility", "reindex", "curves")


def timed(options: ExperimentOptions, out: Path, activations: Path | None) -> tuple[float, dict[str, Any]]:
    began = time.perf_counter()
    result = experiment.run(options, out, activations=activations)
    return time.perf_counter() - began, {key: result[key] for key in SAME}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--species", type=int, default=24)
    species = parser.parse_args().species
    torch.set_num_threads(2)
    settings = [f"source.species={species}", f"stream.initial={species // 2}", f"stream.step={species // 4}"]
    values = {**read(RECIPE, settings), "method": {"name": "finetune"}}
    options = ExperimentOptions.parse(override(values, []), str(RECIPE))
    experiment.load_stream(options)  # the birds are drawn once, before any clock runs
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "activations"
        without, expected = timed(options, Path(folder) / "without", None)
        cold, first = timed(options, Path(folder) / "cold", kept)
        warm, second = timed(options, Path(folder) / "warm", kept)
        size = sum(file.stat().st_size for file in kept.iterdir()) / 2**20
    assert first == second == expected, "the figures differ"
    print(
        f"{species} species: without a cache {without:.1f} s; with an empty cache {cold:.1f} s "
        f"({without / cold:.1f} x), with a full cache {warm:.1f} s ({without / warm:.1f} x); {size:.0f} MiB; "
        "the same figures to the bit"
    )


if __name__ == "__main__":
    main()
