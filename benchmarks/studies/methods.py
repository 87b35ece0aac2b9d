"""How long does a step of each method take, and what does it keep? `make docs` writes the answer to docs/methods.md.

The network is that of recipes/grocery.toml: EfficientNet-Lite0, all but its last block frozen, with cached activations;
a batch is 16 x 5 images of noise, since the time does not depend on their content. The steps of each method alternate
with steps of plain fine-tuning, the baseline, so that both meet the same load. A method in closed form makes no steps:
here it passes over ten batches, which is about one block of the accumulated statistics, and a tenth is a step.

With --text-only the page is generated from today's docstrings and the figures that it already contains.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from scrubjay import plugins
from scrubjay.closed_form.crops import Crops
from scrubjay.closed_form.statistics import Accumulator, Statistics
from scrubjay.components.accumulation import Accumulation
from scrubjay.components.trained_trunk import TrainedTrunk
from scrubjay.generations.lineage import _is_own
from scrubjay.methods import Method, method
from scrubjay.models.embedder import Network, NetworkOptions
from scrubjay.report.method_page import Cost, method_page, read_page
from scrubjay.types import Batch, Session

MEASURED = (
    "Time per step and bytes kept: `make docs`, one thread, EfficientNet-Lite0 with all but its last block frozen, 80 "
    "images per batch, median ratio to fine-tuning in the same run; bytes between the first two sessions, after 16 "
    "classes, besides the network itself. A step of a method in closed form is a pass over a batch: the features of "
    "its centre crops and of their random views, added to the statistics, whose scatter is counted as its triangle."
)
CLASSES, EACH, ROUNDS = 16, 5, 9
PASS = 10


class Noise:
    """A pass over one batch of noise `PASS` times, which is also each of its random views."""

    era = "noise"

    def __init__(self, batch: Batch, network: Network) -> None:
        self.batch, self.network = batch, network

    def __call__(self, views: int = 0) -> Iterator[Batch]:
        for _ in range(PASS * (1 + views)):
            yield self.batch

    @torch.no_grad()
    def features(self, views: int) -> Iterator[Crops]:
        for batch in self(views):
            yield Crops(self.network.embedder.features(batch.images).half(), batch.labels, batch.indices)

    def statistics(self, views: int) -> Statistics:
        collected = Accumulator(self.era, self.network.embedder.projection.in_features)
        for crops in self.features(views):
            collected.add(crops.features, crops.labels)
        return collected.statistics()


def loader(first: int, embedder: torch.nn.Module) -> Batch:
    """A batch of noise, as the frozen first layers return it."""
    images = torch.randint(256, (CLASSES * EACH, 3, 96, 96), dtype=torch.uint8)
    labels = torch.arange(first, first + CLASSES).repeat_interleave(EACH)
    return Batch(embedder.prepare(images), labels, torch.arange(len(labels)))


def in_second_session(name: str) -> tuple[Method, Batch, int]:
    """A method at the start of its second session, a batch of that session, and the bytes kept between the two."""
    torch.manual_seed(0)
    kind = method(name)
    options = NetworkOptions(frozen="blocks.5", features=kind.default_features, transform=kind.default_transform)
    learner = kind(Network(options), kind.Options())
    learner.network.freeze_batchnorm(True)
    first, second = (loader(label, learner.network.embedder) for label in (0, CLASSES))
    names = tuple(map(str, range(2 * CLASSES)))
    learner.begin(Session(0, names[:CLASSES], 0, ()))
    learner.eval()
    learner.end(Session(0, names[:CLASSES], 0, ()), Noise(first, learner.network))
    kept = sum(value.nbytes for key, value in learner.state_dict().items() if _is_own(key)) + statistics_size(learner)
    learner.begin(Session(1, names[CLASSES:], CLASSES, ()))
    learner.train()
    return learner, second, kept


def learns_in_closed_form(name: str) -> bool:
    """Whether a method has no gradient steps."""
    kind = method(name)
    return issubclass(kind, Accumulation) and not issubclass(kind, TrainedTrunk)


def statistics_size(learner: Method) -> int:
    """Bytes of the statistics that a method in closed form keeps."""
    kept = learner.statistics if isinstance(learner, Accumulation) else None
    if kept is None:
        return 0
    return kept.dim * (kept.dim + 1) // 2 * 8 + kept.means.nbytes + kept.counts.nbytes + kept.labels.nbytes


def stepper(name: str) -> tuple[Callable[[], object], int]:
    """A step of a method, or `PASS` steps of one in closed form; and the bytes that it keeps."""
    learner, batch, kept = in_second_session(name)
    if learns_in_closed_form(name):
        return functools.partial(learner.session_of, Noise(batch, learner.network), learner.options.views), kept
    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4) if trained else None

    def step() -> None:
        losses = learner(batch)
        if optimizer is not None:
            optimizer.zero_grad()
            losses.total.backward()
            optimizer.step()

    return step, kept


def seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def cost(name: str) -> Cost:
    (step, kept), (peer, _) = stepper(name), stepper("finetune")
    step(), peer()
    pairs = [(seconds(step), seconds(peer)) for _ in range(ROUNDS)]
    steps = PASS if learns_in_closed_form(name) else 1
    return Cost(statistics.median(mine / other for mine, other in pairs) / steps, kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, help="write the page of methods to this file")
    parser.add_argument("--text-only", action="store_true", help="keep the figures of the page; measure nothing")
    parser.add_argument("--only", metavar="A,B", help="measure these methods, and keep the other figures of the page")
    arguments = parser.parse_args()
    page: Path | None = arguments.page
    if arguments.text_only:
        if page is None:
            parser.error("--text-only needs --page: the file whose text is to be updated")
        page.write_text(method_page(*read_page(page.read_text(encoding="utf-8"))), encoding="utf-8")
        return
    torch.set_num_threads(1)
    costs, chosen = {}, plugins.names("methods")
    if arguments.only is not None:
        if page is None:
            parser.error("--only needs --page: the file whose other figures are kept")
        costs, chosen = read_page(page.read_text(encoding="utf-8"))[0], arguments.only.split(",")
    for name in chosen:
        costs[name] = cost(name)
        print(f"{name:15} {costs[name].step:5.2f} x fine-tuning, keeps {costs[name].kept:,} bytes", flush=True)
    if page is not None:
        page.write_text(method_page(costs, MEASURED), encoding="utf-8")


if __name__ == "__main__":
    main()
