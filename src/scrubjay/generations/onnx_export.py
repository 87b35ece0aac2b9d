"""Writes a generation's embedder as an ONNX file, pixels in and unit vectors out, verified on real images.

Input `images`: uint8 (N, 3, S, S), RGB, after the resize and centre crop that the file's metadata describe; the
normalisation of pixels and vectors is part of the graph. Output `embeddings`: float32 (N, d). N is dynamic. The
metadata name the generation and the fingerprint of the embedding space: vectors of two fingerprints are not comparable.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import Cache, ImageLoader
from scrubjay.errors import ConfigError, DataError, ImageError, StorageError
from scrubjay.generations.generation import Generation
from scrubjay.generations.versions import versions
from scrubjay.models.embedder import Embedder
from scrubjay.types import Sample

OPSET = 18
TOLERANCE = 1e-4
"""Largest allowed difference of a component, because float32 sums depend on their order."""
SIZES = (1, 3, 17)
"""Batch sizes in which vectors are compared: all images in the last size, the first two batches in the others."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export.

    Attributes:
        path: path of the file.
        images: number of images on which it was compared with torch.
        max_difference: largest absolute difference of a component of their vectors.
        min_cosine: smallest cosine of the two vectors of an image.
        bytes: size of the file in bytes.
    """

    path: Path
    images: int
    max_difference: float
    min_cosine: float
    bytes: int


class _PixelsToVectors(nn.Module):
    """The embedder from uint8 pixels to unit vectors, as one graph."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = copy.copy(embedder)
        self.embedder.stem = (
            None  # the frozen stem shares its layers with the backbone, which runs them itself without it
        )

    def forward(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.embedder(images.float().div(255))
        return vectors


def export(
    embedder: Embedder,
    generation: Generation,
    images: ImageOptions,
    samples: Sequence[Sample],
    path: Path,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write the embedder of a generation, if its vectors equal those of torch.

    Args:
        embedder: embedder of the generation, on the CPU.
        generation: the generation that the metadata name.
        images: how images are prepared.
        samples: at least one real image, on which onnxruntime and torch are compared.
        path: path of the file; it appears complete and verified, or not at all.
        tolerance: largest allowed difference of a component of a vector.

    Raises:
        ConfigError: the packages of the extra `onnx` are not installed.
        DataError: no image can be read, the network cannot be exported, or vectors differ by more than the tolerance.
        StorageError: the file could not be written.
    """
    _require_packages()
    pixels = _pixels(samples, images)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(embedder.eval(), images.size, temporary, _metadata(generation, images))
        difference, cosine = _compare(embedder, temporary, pixels)
        if not difference <= tolerance:
            raise DataError(
                f"{path}: not written: its vectors differ from those of torch by {difference:.2g} on {len(pixels)} "
                f"images, more than the tolerance of {tolerance:g}; try another version of onnxruntime."
            )
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror}): free some space, or give another path."
        ) from None
    finally:
        with contextlib.suppress(OSError):  # it does not exist, or its folder is not a folder
            temporary.unlink()
    return Exported(path, len(pixels), difference, cosine, path.stat().st_size)


def session(path: Path, threads: int | None = None) -> Any:
    """An onnxruntime session on the CPU.

    Args:
        path: path of the ONNX file.
        threads: number of threads; None: the default of onnxruntime.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed: pip install 'scrubjay[onnx]'.") from None


def _pixels(samples: Sequence[Sample], images: ImageOptions) -> Tensor:
    """The prepared images, uint8 (N, 3, S, S); images that cannot be decoded are left out."""
    loader = ImageLoader(samples, images, train=False, cache=Cache(0))
    decoded = []
    for index in range(len(samples)):
        with contextlib.suppress(ImageError):
            decoded.append(loader[index])
    if not decoded:
        raise DataError("no image to verify the export with: add images to the gallery, or keep probe images.")
    return torch.stack(decoded)


def _metadata(generation: Generation, images: ImageOptions) -> dict[str, str]:
    """Metadata of the file: what its vectors are comparable with, and how to prepare images."""
    return {
        "generation": generation.name,
        "fingerprint": generation.fingerprint,
        "dim": str(generation.dim),
        "size": str(images.size),
        "resize": str(images.resize),
        "interpolation": "bicubic, antialiased",
        "preparation": f"short side to {images.resize} px (bicubic, antialiased), the middle {images.size} px, RGB",
        "scrubjay": versions()["scrubjay"],
    }


def _write(embedder: Embedder, size: int, path: Path, metadata: dict[str, str]) -> None:
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    try:
        with _quiet():
            program = torch.onnx.export(
                _PixelsToVectors(embedder),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["embeddings"],
                dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
                verbose=False,
            )
    except Exception as error:  # the exporter raises errors of any type for layers that it does not support
        raise DataError(f"this network cannot be exported to ONNX ({_first_line(error)}): use it with torch.") from None
    if program is None:
        raise DataError("this network cannot be exported to ONNX: use it with torch.")
    program.model.metadata_props.update(metadata)
    program.save(str(path))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@torch.inference_mode()
def _compare(embedder: Embedder, path: Path, pixels: Tensor) -> tuple[float, float]:
    """The largest difference of a component and the smallest cosine, over batches of several sizes."""
    onnx = session(path, 1)  # one thread: more would compete with the threads of torch
    max_difference, min_cosine = 0.0, 1.0
    for size in SIZES:
        for batch in _split(pixels, size):
            expected: NDArray[np.float32] = embedder(batch).numpy()
            (vectors,) = onnx.run(None, {"images": batch.numpy()})
            difference = float(np.abs(vectors - expected).max()) if np.isfinite(vectors).all() else float("inf")
            max_difference = max(max_difference, difference)
            min_cosine = min(min_cosine, float(np.vecdot(vectors, expected).min()))
    return max_difference, min_cosine


def _split(pixels: Tensor, size: int) -> Sequence[Tensor]:
    """Batches of images; where there are fewer images than one batch, they are repeated."""
    if len(pixels) < size:
        return [pixels[torch.arange(size) % len(pixels)]]
    return torch.split(pixels if size == SIZES[-1] else pixels[: 2 * size], size)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warnings and the progress of the exporter, which do not help a user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [log.level for log in loggers]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        for log in loggers:
            log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for log, level in zip(loggers, levels, strict=True):
                log.setLevel(level)
