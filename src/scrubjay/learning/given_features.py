"""Trunk features of images that a user gives again, where they were not kept when the images were learned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from scrubjay.closed_form.crops import Crops, features_of_crops
from scrubjay.data.loading import ImageLoader
from scrubjay.data.photos import content_hash, labelled
from scrubjay.models.embedding import Encoder
from scrubjay.models.folding import folded
from scrubjay.types import Sample


def given_features(encoder: Encoder, photos: Path, crops: Mapping[str, int]) -> dict[str, Tensor]:
    """Features float16 (V, p) of images in a folder or table by content hash; of the crops that were learned from.

    The random crops of an image depend on the name of its file, so they are those that were learned if the file has
    the same name. The features are those that were learned up to the rounding of another batch.

    Args:
        encoder: an encoder of the era of the statistics.
        photos: the folder or table.
        crops: V of each image that is asked for, by content hash.

    Raises:
        UserError: the path is missing or not as needed, or an image cannot be read.
    """
    wanted: dict[str, Sample] = {}
    for sample, _ in labelled(photos):
        wanted.setdefault(content_hash(sample), sample)
    strict = encoder.images.model_copy(update={"on_error": "raise"})
    features: dict[str, Tensor] = {}
    for count in sorted(set(crops.values())):
        names = [name for name in wanted if crops.get(name) == count]
        if names:
            loader = ImageLoader([wanted[name] for name in names], strict, train=False)
            found = Crops.joined(features_of_crops(folded(encoder.embedder), loader, count - 1))
            features |= dict(zip(names, found.features.view(len(names), count, -1), strict=True))
    return features
