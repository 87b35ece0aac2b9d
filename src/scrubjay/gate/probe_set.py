"""The probe set: held-out images of every class learned, by which a new generation is judged before it answers.

    shop/probe/g1/index.json        what the images are: file, content hash, class, box
    shop/probe/g1/0007.jpg …        copies of them; or, where images may not be kept,
    shop/probe/g1/crops.safetensors embeddings of their centre and random crops by g1
    shop/probe/g1/by-….safetensors  what other generations make of the images, kept by fingerprint

Each generation brings the images of its own new classes. A folder appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from scrubjay.config import Config
from scrubjay.data.photos import content_hash
from scrubjay.errors import CheckpointError, StorageError
from scrubjay.io.atomic import write_json
from scrubjay.models.checkpoint import load_tensors, save_tensors
from scrubjay.types import Sample

Carry = Callable[[str, NDArray[np.float32]], NDArray[np.float32]]
"""Vectors (N, d) of the generation of this name → the same in the space that is asked for."""


def _kept_as(value: object) -> object:
    return "images" if value == "pictures" else value  # the name in catalogues of format 2 and older


class ProbeOptions(Config):
    """The held-out images that judge new generations."""

    images: int = Field(4, ge=0)
    """Of each class; at most those that were held out when it was learned. 0: no gate can be had."""
    keep: Annotated[Literal["images", "embeddings"], BeforeValidator(_kept_as)] = "images"
    """Copies of the images; or, where these may not be kept, embeddings of their crops: a weaker judge."""
    crops: int = Field(4, ge=1)
    """Random crops beside the one in the middle, where only embeddings are kept."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One held-out image.

    Attributes:
        id: hash of its content: the id of the same image in the gallery.
        label: name of its class.
        generation: the one that learned its class.
        original: where it was.
        sample: the kept copy; None where only embeddings are kept.
    """

    id: str
    label: str
    generation: str
    original: str
    sample: Sample | None


@dataclass(frozen=True, slots=True)
class Queries:
    """Probe images as queries of one generation.

    Attributes:
        vectors: float32 (Q, d), unit rows.
        probes: Q of them; one image may stand for several crops.
    """

    vectors: NDArray[np.float32]
    probes: tuple[Probe, ...]

    @property
    def labels(self) -> list[str]:
        """Name of the class of each."""
        return [probe.label for probe in self.probes]


class ProbeSet:
    """The probe set in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(
        self,
        generation: str,
        held_out: Iterable[tuple[Sample, str]],
        options: ProbeOptions,
        crops: Callable[[Sequence[Sample], int], NDArray[np.float32]],
    ) -> None:
        """Keep the first images of each class of a generation that is being made.

        Args:
            generation: its name.
            held_out: images that it has not learned from, with the names of their classes.
            options: how many, and what of them.
            crops: images and n → embeddings (N, 1 + n, d) by the generation; the crop in the middle comes first.

        Raises:
            StorageError: an image or the folder cannot be read or written; nothing is left behind.
        """
        counts: Counter[str] = Counter()
        chosen = []
        for sample, label in held_out:
            counts[label] += 1
            if counts[label] <= options.images:
                chosen.append((sample, label))
        building = self.folder / f".{generation}.{os.getpid()}"
        try:
            shutil.rmtree(building, ignore_errors=True)  # of a killed process that had the same number
            building.mkdir(parents=True)
            rows = [_kept(building, number, *each, options.keep) for number, each in enumerate(chosen)]
            if options.keep == "embeddings" and chosen:
                vectors = torch.from_numpy(crops([sample for sample, _ in chosen], options.crops))
                save_tensors(building / "crops.safetensors", {"vectors": vectors}, {"generation": generation})
            write_json(building / "index.json", {"kind": options.keep, "images": rows})
            shutil.rmtree(self.folder / generation, ignore_errors=True)  # of learning that was cut short
            building.rename(self.folder / generation)
        except OSError as error:
            raise StorageError(f"{self.folder}: the probe set could not be kept ({error.strerror}).") from None
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def probes(self, generations: Iterable[str]) -> list[Probe]:
        """The images of the classes that these generations learned; generations without any are passed over.

        Raises:
            CheckpointError: an index is damaged.
        """
        return [probe for name in generations for probe in self._index(name)]

    def queries(
        self,
        generations: Iterable[str],
        fingerprint: str,
        embed: Callable[[Sequence[Sample]], NDArray[np.float32]],
        carry: Carry,
    ) -> Queries:
        """The images of some generations as queries of one.

        Args:
            generations: whose classes are asked for.
            fingerprint: of the space asked for; what was embedded once is kept under it.
            embed: images → vectors (N, d) of that space; all of them.
            carry: from the space of another generation to that space, for images of which embeddings only are kept.
        """
        parts, probes = [], []
        for name in generations:
            found = self._index(name)
            if not found:
                continue
            if found[0].sample is None:
                crops = self._tensor(self.folder / name / "crops.safetensors")
                parts.append(carry(name, crops.reshape(-1, crops.shape[-1])))
                probes += [probe for probe in found for _ in range(crops.shape[1])]
            else:
                parts.append(self._embedded(name, found, fingerprint, embed))
                probes += found
        return Queries(np.concatenate(parts) if parts else np.empty((0, 0), np.float32), tuple(probes))

    def _embedded(
        self,
        name: str,
        found: Sequence[Probe],
        fingerprint: str,
        embed: Callable[[Sequence[Sample]], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        path = self.folder / name / f"by-{fingerprint}.safetensors"
        if path.exists():
            return self._tensor(path)
        vectors = embed([probe.sample for probe in found if probe.sample is not None])
        save_tensors(path, {"vectors": torch.from_numpy(vectors)}, {"fingerprint": fingerprint})
        return vectors

    def _tensor(self, path: Path) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = load_tensors(path, "delete it; where it holds crops, its images are lost")[0][
            "vectors"
        ].numpy()
        return vectors

    def _index(self, generation: str) -> list[Probe]:
        path = self.folder / generation / "index.json"
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            return [_probe(row, generation, path.parent) for row in index["images"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: damaged ({error}): restore it, or move {path.parent} away: these classes then go unjudged."
            ) from None


def _kept(folder: Path, number: int, sample: Sample, label: str, keep: str) -> dict[str, Any]:
    row: dict[str, Any] = {"hash": content_hash(sample), "label": label, "original": str(sample.path)}
    if keep == "images":
        row["file"] = f"{number:04}{sample.path.suffix.lower()}"
        shutil.copyfile(sample.path, folder / row["file"])
    return {**row, "box": sample.box}


def _probe(row: dict[str, Any], generation: str, folder: Path) -> Probe:
    kept = None
    if "file" in row:
        box = tuple(row["box"]) if row["box"] else None
        kept = Sample(folder / row["file"], 0, "test", box)
    return Probe(row["hash"], row["label"], generation, row["original"], kept)
