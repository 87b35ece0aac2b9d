"""Images, sessions and networks small enough to learn in milliseconds, and retrieval figures by plain loops."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from scrubjay.components.session_images import SessionImages
from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import ImageLoader
from scrubjay.generations.generation import GenerationInfo, SessionRecord
from scrubjay.methods import Method, method
from scrubjay.methods.latent_replay import LatentReplay
from scrubjay.models.embedder import Network, NetworkOptions
from scrubjay.training import TrainingOptions, seeded
from scrubjay.types import Batch, Sample, Session

IMAGES = ImageOptions(size=32, resize=36, scale=(0.5, 1.0))
NETWORK = NetworkOptions(backbone="test_resnet", pretrained=False, dim=8)
TRAINING = TrainingOptions(epochs=2, classes_per_batch=2, images_per_class=2, device="cpu", lr=1e-3, warmup=1)

TINY = [
    *("--set", "network.backbone=test_resnet", "--set", "network.pretrained=false", "--set", "network.dim=8"),
    *("--set", "images.size=32", "--set", "images.resize=36"),
    *("--set", "training.epochs=1", "--set", "training.classes_per_batch=2", "--set", "training.device=cpu"),
]
Call = Callable[..., tuple[int, str, str]]


def paint(path: Path, hue: int, seed: int, side: int = 40) -> Path:
    """A noisy image whose stripes tell its class."""
    noise = np.random.default_rng([hue, seed]).integers(0, 120, (side, side, 3))
    noise[:: 2 + hue, :, hue % 3] += 120
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path)
    return path


def photos(root: Path, *names: str, each: int = 4) -> Path:
    """A folder with a sub-folder of images for every name."""
    for name in names:
        for number in range(each):
            paint(root / name / f"{number}.png", sum(os.fsencode(name)) % 13, number)
    return root


def session(root: Path, index: int, first: int, classes: int = 2, each: int = 4, tests: int = 0) -> Session:
    """Images on disk of new classes with the labels from `first` on."""

    def samples(split: Literal["train", "test"], number: int) -> tuple[Sample, ...]:
        return tuple(
            Sample(paint(root / split / f"class{label}" / f"{seed}.png", label, seed + 100 * (split == "test")), label)
            for label in range(first, first + classes)
            for seed in range(number)
        )

    names = tuple(f"class{label}" for label in range(first, first + classes))
    return Session(index, names, first, samples("train", each), samples("test", tests))


def two_sessions(root: Path) -> tuple[Session, Session]:
    return session(root, 0, 0), session(root, 1, 2)


def tree(root: Path, classes: int, train: int = 4, test: int = 3) -> Path:
    """A folder source with train and test images."""
    for label in range(classes):
        for split, number, offset in (("train", train, 0), ("test", test, 100)):
            for seed in range(number):
                paint(root / split / f"class{label}" / f"{seed}.png", label, seed + offset)
    return root


def learner(name: str | type[Method] = "finetune", network: NetworkOptions = NETWORK, **options: Any) -> Method:
    """A method around a fresh network, always the same one; a part of it is frozen for a method that needs that."""
    kind = method(name) if isinstance(name, str) else name
    if issubclass(kind, LatentReplay) and network.frozen is None:
        network = network.model_copy(update={"frozen": "layer2"})
    with seeded(0):
        return kind(Network(network), kind.Options.parse(options))


def loader(samples: Sequence[Sample], images: ImageOptions = IMAGES) -> ImageLoader:
    return ImageLoader(samples, images, train=True)


def batch(samples: Sequence[Sample]) -> Batch:
    return ImageLoader(samples, IMAGES, train=False).__getitems__(range(len(samples)))


def session_images(learner: Method, samples: Sequence[Sample]) -> SessionImages:
    """A pass over images, as a method is given it at the end of a session."""
    return SessionImages(learner.network, loader(samples).of(samples, train=False))


def record(classes: Iterable[str] = (), fingerprint: str = "-", **changes: Any) -> SessionRecord:
    """What a learner would report about a session, with as little in it as possible."""
    return SessionRecord(
        fingerprint=fingerprint, classes=tuple(classes), method={"name": "finetune"}, seed=0, data_hash="-", **changes
    )


def info(name: str, network: NetworkOptions = NETWORK, parent: str | None = None, **changes: Any) -> GenerationInfo:
    """The description of a generation, with as little in it as possible."""
    described = {"name": name, "parent": parent, "created": "-", "network": network, "versions": {}}
    return GenerationInfo(**{**dict(record()), **described, **changes})


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Equal names and bits."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def retrieval_by_loops(
    queries: Iterable[tuple[np.ndarray, int, int]], gallery: Sequence[tuple[np.ndarray, int, int]], favour: float = 0.0
) -> dict[str, float]:
    """recall@k and mAP@R of (vector, label, id); an item with a query's id is left out of its ranking.

    Scores of relevant items are raised by `favour`: see `agrees`.
    """
    figures: dict[str, list[float]] = {}
    for vector, label, own in queries:

        def score(item: tuple[np.ndarray, int, int], vector: np.ndarray = vector, label: int = label) -> float:
            return float(vector @ item[0]) + favour * (item[1] == label)

        ranked = sorted((item for item in gallery if item[2] != own), key=score, reverse=True)
        relevant = [other == label for _, other, _ in ranked]
        total = sum(relevant)
        if not total:
            continue
        for k in (1, 2, 4, 8):
            figures.setdefault(f"recall@{k}", []).append(float(any(relevant[:k])))
        precisions = [sum(relevant[: rank + 1]) / (rank + 1) for rank in range(total) if relevant[rank]]
        figures.setdefault("map_at_r", []).append(sum(precisions) / total)
    return {name: sum(values) / len(values) for name, values in figures.items()}


def agrees(
    value: float,
    name: str,
    queries: Sequence[tuple[np.ndarray, int, int]],
    gallery: Sequence[tuple[np.ndarray, int, int]],
) -> bool:
    """Whether a figure is that of `retrieval_by_loops`, in whichever order scores come that rounding may exchange.

    Embeddings of a trained network can score so nearly alike that their order depends on the processor.
    """
    rounding = 1e-6
    low, high = (retrieval_by_loops(queries, gallery, favour)[name] for favour in (-rounding, rounding))
    return low - 1e-9 <= value <= high + 1e-9
