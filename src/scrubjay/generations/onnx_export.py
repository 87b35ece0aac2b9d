"""A generation's embedder as an ONNX file: pixels in, unit vectors out, checked on real images before it is done.

Input `images`: uint8 (N, 3, S, S), RGB, after the resize and centre crop that the file's metadata name; the
normalisation of pixels and of the vectors is inside. Output `embeddings`: float32 (N, d). N is free. The metadata say
which generation and embedding space the vectors are of: vectors of two fingerprints must not be compared.
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
from scrubjay.generations.lineage import versions
from scrubjay.models.embedder import Embedder
from scrubjay.types import Sample

OPSET = 18
TOLERANCE = 1e-4
"""The largest difference of a component: float32 sums in another order."""
SIZES = (1, 3, 17)
"""Batches in which images are compared: all of them in the last size, the first ones in the others too."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        path: of the file.
        images: images on which it was compared with torch.
        max_difference: of any component of their vectors.
        min_cosine: between both vectors of an image.
        bytes: size of the file.
    """

    path: Path
    images: int
    max_difference: float
    min_cosine: float
    bytes: int


class _Whole(nn.Module):
    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = copy.copy(embedder)
        self.embedder.stem = None  # its layers are the backbone's: one graph from pixels to vectors

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
    """Write the embedder of a generation, if it gives what torch gives.

    Args:
        embedder: of the generation, on the CPU.
        generation: named in the file.
        images: how images are prepared.
        samples: real images, at least one, on which both are compared.
        path: of the file; it appears whole and checked, or not at all.
        tolerance: by how much a component of a vector may differ from torch's.

    Raises:
        ConfigError: the packages of the extra `onnx` are not installed.
        DataError: there is no image, the network cannot be exported, or vectors differ by more than the tolerance.
        StorageError: the file could not be written.
    """
    _installed()
    pixels = _pixels(samples, images)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(embedder.eval(), images.size, temporary, _description(generation, images))
        difference, cosine = _compare(embedder, temporary, pixels)
        if not difference <= tolerance:
            raise DataError(
                f"{path}: not written: its vectors differ from those of torch by {difference:.2g} on {len(pixels)} "
                f"images, allowed is {tolerance:g}; another version of onnxruntime may do better."
            )
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror}): free some space or name another place."
        ) from None
    finally:
        with contextlib.suppress(OSError):  # it is not there, or its folder is none
            temporary.unlink()
    return Exported(path, len(pixels), difference, cosine, path.stat().st_size)


def session(path: Path, threads: int | None = None) -> Any:
    """An onnxruntime session on the CPU; `threads` of None: as it likes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _installed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed: pip install 'scrubjay[onnx]'.") from None


def _pixels(samples: Sequence[Sample], images: ImageOptions) -> Tensor:
    loader = ImageLoader(samples, images, train=False, cache=Cache(0))
    found = []
    for index in range(len(samples)):
        with contextlib.suppress(ImageError):
            found.append(loader[index])
    if not found:
        raise DataError("no image to compare the export on: add some to the gallery, or keep a probe set.")
    return torch.stack(found)


def _description(generation: Generation, images: ImageOptions) -> dict[str, str]:
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


def _write(embedder: Embedder, size: int, path: Path, description: dict[str, str]) -> None:
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    try:
        with _quiet():
            program = torch.onnx.export(
                _Whole(embedder),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["embeddings"],
                dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever a layer that it does not know makes it stumble over
        raise DataError(f"this network cannot be exported to ONNX ({_first_line(error)}): keep it in torch.") from None
    if program is None:
        raise DataError("this network cannot be exported to ONNX: keep it in torch.")
    program.model.metadata_props.update(description)
    program.save(str(path))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@torch.inference_mode()
def _compare(embedder: Embedder, path: Path, pixels: Tensor) -> tuple[float, float]:
    """The largest difference of a component and the smallest cosine, over batches of several sizes."""
    run = session(path, 1)  # beside torch's threads more of them would wait for one another
    worst, alike = 0.0, 1.0
    for size in SIZES:
        for part in _split(pixels, size):
            expected: NDArray[np.float32] = embedder(part).numpy()
            (found,) = run.run(None, {"images": part.numpy()})
            worst = max(worst, float(np.abs(found - expected).max()) if np.isfinite(found).all() else float("inf"))
            alike = min(alike, float(np.vecdot(found, expected).min()))
    return worst, alike


def _split(pixels: Tensor, size: int) -> Sequence[Tensor]:
    """Whole batches; where images are too few for one, they are repeated."""
    if len(pixels) < size:
        return [pixels[torch.arange(size) % len(pixels)]]
    return torch.split(pixels if size == SIZES[-1] else pixels[: 2 * size], size)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings and progress, which say nothing to a user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [each.level for each in loggers]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        for each in loggers:
            each.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)
