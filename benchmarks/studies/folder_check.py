"""How well the check of a folder finds altered copies and wrong labels, on photographs of known classes.

    python benchmarks/studies/folder_check.py TABLE [--classes 20] [--each 20]

TABLE is a CSV or Parquet file or a folder with one sub-folder for each class.
"""

from __future__ import annotations

import argparse
import io
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from scrubjay.checks.near_duplicates import SAME, thumbnail
from scrubjay.checks.wrong_labels import suspected
from scrubjay.data.images import ImageOptions, decode
from scrubjay.data.photos import labelled
from scrubjay.models.embedder import Embedder, NetworkOptions
from scrubjay.models.embedding import Encoder
from scrubjay.types import Sample

DRAWS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--each", type=int, default=20)
    arguments = parser.parse_args()
    by_class: dict[str, list[Sample]] = {}
    for sample, label in labelled(arguments.photos):
        by_class.setdefault(str(label), []).append(sample)
    classes = random.Random(0).sample(sorted(by_class), arguments.classes)
    samples = [sample for name in classes for sample in by_class[name][: arguments.each]]
    labels = [name for name in classes for _ in by_class[name][: arguments.each]]
    copies(samples)
    wrong_labels(samples, labels)


def copies(samples: Sequence[Sample]) -> None:
    """Share of altered copies, and number of pairs of different images, that count as nearly the same."""
    found = [(sample, values) for sample in samples if (values := thumbnail(sample)) is not None]
    values = np.stack([each for _, each in found])
    pairs = int((np.triu(values @ values.T, 1) >= SAME).sum())
    print(f"{len(found)} images, {pairs} pairs of different ones")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy.png"
        for name, alter in ALTERED.items():
            same = 0
            for sample, own in found:
                alter(decode(sample.path, box=sample.box, short_side=200)).save(path)
                other = thumbnail(Sample(path, 0))
                same += other is not None and float(other @ own) >= SAME
            print(f"{name:>16}: {same / len(found):.1%}")


def wrong_labels(samples: Sequence[Sample], labels: Sequence[str]) -> None:
    """Recall and precision of suspected labels, for several shares of labels that were exchanged."""
    encoder = Encoder(Embedder(NetworkOptions(features="stages")).eval(), ImageOptions())
    vectors, classes = encoder.embed_backbone(samples).vectors, sorted(set(labels))
    print(f"{'exchanged':>16}  recall  precision  suspected")
    for share in (0.0, 0.02, 0.05, 0.1, 0.2):
        rows = []
        for seed in range(DRAWS):
            draw, given = random.Random(seed), list(labels)
            wrong = set(draw.sample(range(len(given)), int(share * len(given))))
            for row in wrong:
                given[row] = draw.choice([name for name in classes if name != labels[row]])
            named = {each.row for each in suspected(given, vectors, len(given))}
            hit = len(named & wrong)
            rows.append((hit / max(1, len(wrong)), hit / max(1, len(named)), len(named)))
        recall, precision, number = np.mean(rows, axis=0)
        print(f"{share:>16.0%}  {recall:6.1%}  {precision:9.1%}  {number:9.1f}")


def _encoded(image: Image.Image) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=30)
    return Image.open(io.BytesIO(content.getvalue()))


def _trimmed(share: float) -> Callable[[Image.Image], Image.Image]:
    def trim(image: Image.Image) -> Image.Image:
        x, y = int(share * image.width), int(share * image.height)
        return image.crop((x, y, image.width - x, image.height - y))

    return trim


ALTERED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 30": _encoded,
    "a third the size": lambda image: image.resize((image.width // 3, image.height // 3)),
    "brighter by 40 %": lambda image: ImageEnhance.Brightness(image).enhance(1.4),
    "darker by 40 %": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.5),
    "grey": lambda image: ImageEnhance.Color(image).enhance(0),
    "2 % cut off": _trimmed(0.02),
    "4 % cut off": _trimmed(0.04),
    "turned by 2°": lambda image: image.rotate(2),
}

if __name__ == "__main__":
    main()
