"""Images per second: the training loop compared with a bare PyTorch loop, embedding with a bare forward pass.

Both have the same network, optimizer, memory format, threads and decoded images in memory. Rounds alternate between
the two, and the median of the rounds' ratios is printed.

    python benchmarks/speed/throughput.py [--source grocery] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from ratios import Ratio, show

from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import Cache, ImageLoader, batches, eval_batches
from scrubjay.data.sampler import PKSampler
from scrubjay.data.sources import source
from scrubjay.data.stream import StreamOptions, split
from scrubjay.losses.cross_entropy import cross_entropy
from scrubjay.losses.metric.triplet import triplet
from scrubjay.methods.finetune import Finetune
from scrubjay.models.embedder import Network, NetworkOptions
from scrubjay.models.embedding import Encoder
from scrubjay.training import TrainingOptions, learn
from scrubjay.types import Session

IMAGES = ImageOptions(size=96, resize=112, scale=(0.4, 1.0))
TRAINING = TrainingOptions(epochs=1, schedule="constant", checkpoint_every=10_000)


def bare_training(network: Network, loader: ImageLoader, session: Session) -> int:
    network.head.grow(len(session.classes))
    network.train()
    fast = list(network.embedder.backbone.parameters())
    rest = [*network.embedder.projection.parameters(), *network.head.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": rest, "lr": TRAINING.head_lr}, {"params": fast, "lr": TRAINING.lr}],
        weight_decay=TRAINING.weight_decay,
    )
    plan = PKSampler([sample.label for sample in session.train], 16, 5, 0).epoch(0)
    images = 0
    for batch in batches(loader, plan):
        z, logits = network(batch.images)
        loss = cross_entropy(logits, batch.labels) + triplet(z, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        images += len(batch.labels)
    return images


def our_training(network: Network, loader: ImageLoader, session: Session, checkpoint: Path) -> int:
    return learn(Finetune(network), session, loader, TRAINING, 0, checkpoint).images


def bare_embedding(network: Network, session: Session, cache: Cache) -> int:
    network.eval()
    with torch.inference_mode():
        vectors = [network.embedder(batch.images) for batch in eval_batches(session.train, IMAGES, 64, cache)]
    return sum(map(len, vectors))


def our_embedding(network: Network, session: Session, cache: Cache) -> int:
    return len(Encoder(network.embedder, IMAGES).embed(session.train, cache).labels)


def speed(work, *arguments) -> float:
    began = time.perf_counter()
    images = work(*arguments)
    return images / (time.perf_counter() - began)


def compare(name: str, rounds: int, ours, bare) -> Ratio:
    pairs = []
    for number in range(rounds + 1):
        order = (ours, bare) if number % 2 else (bare, ours)
        first, second = order[0](), order[1]()
        pairs.append((first, second) if number % 2 else (second, first))
    mine, theirs = (statistics.median(column) for column in zip(*pairs[1:], strict=True))  # the first round warms up
    return Ratio(name, "bare PyTorch", mine, theirs, "images/s", more_is_better=True)


def measure(name: str = "aviary", rounds: int = 3) -> list[Ratio]:
    dataset = source(name).parse({}).load()
    session = split(dataset, StreamOptions(initial=41, step=10)).sessions[0]
    loader = ImageLoader(session.train, IMAGES, train=True)
    size = f"{name}, {len(session.train)} images, {IMAGES.size} px"
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "session.safetensors"
        training = compare(
            f"training, {size}",
            rounds,
            lambda: speed(our_training, Network(NetworkOptions()), loader, session, checkpoint),
            lambda: speed(bare_training, Network(NetworkOptions()), loader, session),
        )
    network = Network(NetworkOptions())
    embedding = compare(
        f"embedding, {size}",
        rounds,
        lambda: speed(our_embedding, network, session, loader.cache),
        lambda: speed(bare_embedding, network, session, loader.cache),
    )
    return [training, embedding]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", default="aviary")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    show(measure(given.source, given.rounds))


if __name__ == "__main__":
    main()
