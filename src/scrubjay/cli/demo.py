"""The demo: four methods on one stream of drawn birds, then a catalogue, a gallery, a search and a report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console

from scrubjay.catalogue import Catalogue
from scrubjay.experiments import run as experiment
from scrubjay.experiments.run import ExperimentOptions
from scrubjay.experiments.sample_hits import retrievals
from scrubjay.methods import method
from scrubjay.report.html import write_report
from scrubjay.report.table import summary
from scrubjay.workspace.options import CatalogueOptions

METHODS = {"finetune": "fine-tuning", "mmd": "the paper", "slda": "closed form", "joint": "joint, all images"}
"""The methods in the order in which they run; the first learns the initial session for those trained by gradients."""

RECIPE: dict[str, Any] = {
    "name": "demo",
    "source": {"name": "aviary", "species": 48, "train": 16, "test": 10},
    "stream": {"initial": 24, "step": 8},
    "images": {"size": 96, "resize": 112, "scale": [0.4, 1.0], "views": 4},
    "network": {"frozen": "blocks.5"},
    "training": {"epochs": 10, "increment_epochs": 6, "lr": 1e-3, "increment_lr": 0.5},
}


def run_demo(out: Path, console: Console, working: Callable[[], AbstractContextManager[None]]) -> None:
    """Run the demo in `out`; what is complete there is not repeated.

    Args:
        out: folder of the runs, the catalogue and the report.
        console: where progress and results are printed.
        working: context in which long work shows live progress.

    Raises:
        ScrubjayError: a run or the catalogue fails.
    """
    console.print(
        "24 bird species first, 8 more in each of three sessions. Only joint sees images of old sessions again."
    )
    runs = {name: out / name for name in METHODS}
    results = {}
    with working():
        for name, folder in runs.items():
            start = None if method(name).own_start or name == "finetune" else runs["finetune"]
            results[name] = experiment.run(_options(name), folder, start, out / "activations")
            seen = results[name]["groups"][-1]["seen"]
            console.print(f"  {name:9} learned: recall@1 {seen['recall']['1']:.1%} among all 48 species")
        catalogue = _catalogue(out, runs["slda"])
        stream, root = experiment.load_stream(_options("slda"))
        added = catalogue.add([root / "train"])
    console.print(summary(list(results.values())))
    console.print("  " + "; ".join(f"{name}: {meaning}" for name, meaning in METHODS.items()), highlight=False)
    write_report(
        out / "report.html",
        list(results.values()),
        retrievals({name: runs[name] for name in ("finetune", "slda")}),
        title="New species in, none forgotten",
    )
    query = stream.sessions[0].test[0]
    _show(catalogue, query.path, stream.classes[query.label], console)
    console.print(f"The gallery holds {added.items} images.")
    console.print("\nNext:", highlight=False)
    for command in (
        f"scrubjay search {out / 'catalogue'} '{stream.sessions[-1].test[0].path}'",
        f"scrubjay status {out / 'catalogue'}",
        "scrubjay init shop && .venv/bin/scrubjay learn shop YOUR_PHOTOS --add",
    ):
        console.print(f"  .venv/bin/{command}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"and open {out / 'report.html'}", highlight=False, soft_wrap=True)


def _options(name: str) -> ExperimentOptions:
    return ExperimentOptions.parse({**RECIPE, "method": {"name": name}}, "demo")


def _catalogue(out: Path, run: Path) -> Catalogue:
    """The catalogue that starts from the generations of a run; it is created unless it exists."""
    folder = out / "catalogue"
    if (folder / "catalogue.json").exists():
        return Catalogue(folder)
    options = _options("slda")
    shared = {key: getattr(options, key) for key in CatalogueOptions.model_fields if hasattr(options, key)}
    return Catalogue.init(folder, CatalogueOptions(**shared), run)


def _show(catalogue: Catalogue, query: Path, name: str, console: Console) -> None:
    console.print(f"\nAn image of a {name} that is not in the gallery; the nearest items:")
    for hit in catalogue.search(query, k=4):
        console.print(f"  {hit.score:.3f}  {hit.label}", highlight=False)
