"""Trunk features of probe images, which generations over one trunk share: computed once while a catalogue is open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import CheckpointError, ImageError
from scrubjay.models.embedding import Encoder
from scrubjay.types import Sample


class ProbeFeatures:
    """The features in memory: 16 kB an image with the default network."""

    def __init__(self) -> None:
        self._features: dict[tuple[object, ...], NDArray[np.float32]] = {}

    def of(self, encoder: Encoder, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Trunk features float32 (N, p) of the centre crops of probe images, in their order.

        Args:
            encoder: an encoder of the trunk.
            samples: the images.

        Raises:
            CheckpointError: an image cannot be read.
        """
        keys = [_key(encoder, sample) for sample in samples]
        new = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in self._features}
        if new:
            try:
                found = encoder.features(list(new.values()))
            except ImageError as error:  # none can be decoded
                raise CheckpointError(f"a probe image cannot be read: {error} Restore it from a copy.") from None
            if found.failures:
                path, reason = found.failures[0]
                raise CheckpointError(f"{path}: a probe image cannot be read ({reason}): restore it from a copy.")
            self._features |= dict(zip(new, found.features, strict=True))
        if not keys:
            return np.empty((0, encoder.embedder.projection.in_features), np.float32)
        return np.stack([self._features[key] for key in keys])


def _key(encoder: Encoder, sample: Sample) -> tuple[object, ...]:
    """Names an image as it is on disk: a probe image that was removed may leave its path to another one."""
    try:
        state = sample.path.stat()
    except OSError as error:
        raise CheckpointError(
            f"{sample.path}: a probe image cannot be read ({error.strerror}): restore it from a copy."
        ) from None
    return encoder.era, sample.path, sample.box, state.st_mtime_ns, state.st_size
