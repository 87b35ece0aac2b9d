"""The probe set: held-out images of every learned class, by which a new generation is judged before it answers.

    shop/probe/g1/index.json        file, content hash, class and box of each image
    shop/probe/g1/0007.jpg …        copies of the images; or, where images may not be kept,
    shop/probe/g1/crops.safetensors embeddings of their centre and random crops by g1
    shop/probe/g1/by-….safetensors  embeddings of the images by other generations, by fingerprint

Each generation adds images of its own new classes. A folder appears completely or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
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

LOST = "delete it; if it is crops.safetensors, these probe images are lost"

Carry = Callable[[str, NDArray[np.float32]], NDArray[np.float32]]
"""Name of a generation and vectors (N, d) in its space → the vectors in the space that is asked for."""


def _kept_as(value: object) -> object:
    return "images" if value == "pictures" else value  # the name in catalogues of format 2 and older


class ProbeOptions(Config):
    """The held-out images by which new generations are judged."""

    images: int = Field(4, ge=0)
    """Number of images kept of each class, at most; no more than were held out when it was learned (about one in
    seven, so 10 to 20 images of a class give 1 to 3). 0: no generation can be judged."""
    keep: Annotated[Literal["images", "embeddings"], BeforeValidator(_kept_as)] = "images"
    """Keep copies of the images, or, where these may not be kept, embeddings of their crops, which judge less well."""
    crops: int = Field(4, ge=1)
    """Number of random crops that are kept beside the centre crop, where only embeddings are kept."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One held-out image.

    Attributes:
        id: hash of its content, which is also the id of the same image in the gallery.
        label: name of its class.
        generation: name of the generation that learned its class.
        original: path of the image that was copied.
        sample: the copy; None where only embeddings are kept.
        row: row of its embeddings in `crops.safetensors`.
    """

    id: str
    label: str
    generation: str
    original: str
    sample: Sample | None
    row: int = 0


@dataclass(frozen=True, slots=True)
class ProbeQueries:
    """Probe images as queries of one generation.

    Attributes:
        vectors: float32 (Q, d), unit rows.
        probes: the image of each of the Q queries. An image of which only embeddings are kept has several queries in
            sequence, one for each crop, the centre crop first.
    """

    vectors: NDArray[np.float32]
    probes: tuple[Probe, ...]

    @property
    def centre(self) -> NDArray[np.int64]:
        """int64 (images,), the position of one query for each image: of its centre crop.

        Crops of one image are not independent, so whatever counts images counts these.
        """
        first: dict[str, int] = {}
        for position, probe in enumerate(self.probes):
            first.setdefault(probe.id, position)
        return np.array(list(first.values()), dtype=np.int64)


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
            generation: name of the generation.
            held_out: images that it was not trained on, with the names of their classes.
            options: how many images to keep, and in which form.
            crops: images and n → embeddings (N, 1 + n, d) by the generation, the centre crop first.

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
            shutil.rmtree(building, ignore_errors=True)  # left by a killed process that had the same number
            building.mkdir(parents=True)
            rows = [_copied(building, number, *each, options.keep) for number, each in enumerate(chosen)]
            if options.keep == "embeddings" and chosen:
                vectors = torch.from_numpy(crops([sample for sample, _ in chosen], options.crops))
                save_tensors(building / "crops.safetensors", {"vectors": vectors}, {"generation": generation})
            write_json(building / "index.json", {"kind": options.keep, "images": rows})
            shutil.rmtree(self.folder / generation, ignore_errors=True)  # left by learning that was interrupted
            building.rename(self.folder / generation)
        except OSError as error:
            raise StorageError(f"{self.folder}: the probe set could not be written ({error.strerror}).") from None
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def adopt(self, generation: str, probes: Sequence[Probe]) -> None:
        """Keep copies of the probe images of another probe set.

        Args:
            generation: name of the generation whose session their classes belong to here.
            probes: images that are kept as images.

        Raises:
            StorageError: an image or the folder cannot be read or written; nothing is left behind.
        """
        building = self.folder / f".{generation}.{os.getpid()}"
        try:
            building.mkdir(parents=True)
            rows = []
            for number, probe in enumerate(probes):
                assert probe.sample is not None
                row = _copied(building, number, probe.sample, probe.label, "images")
                rows.append({**row, "hash": probe.id, "original": probe.original})
            write_json(building / "index.json", {"kind": "images", "images": rows})
            building.rename(self.folder / generation)
        except OSError as error:
            raise StorageError(f"{self.folder}: the probe set could not be written ({error.strerror}).") from None
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def probes(self, generations: Iterable[str]) -> list[Probe]:
        """The probe images of the classes that these generations learned.

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
    ) -> ProbeQueries:
        """The probe images of the classes of some generations, as queries of one generation.

        Args:
            generations: names of the generations whose classes are asked for.
            fingerprint: fingerprint of the space of the queries; embeddings are computed once and kept under it.
            embed: images → vectors (N, d) in that space, one for each.
            carry: carries vectors into that space from the space of another generation, for images of which only
                embeddings are kept.
        """
        vectors, probes = [], []
        for name in generations:
            stored = self._index(name)
            if not stored:
                continue
            if stored[0].sample is None:
                crops = self._tensor(self.folder / name / "crops.safetensors")[[probe.row for probe in stored]]
                vectors.append(carry(name, crops.reshape(-1, crops.shape[-1])))
                probes += [probe for probe in stored for _ in range(crops.shape[1])]
            else:
                vectors.append(self._embedded(name, stored, fingerprint, embed))
                probes += stored
        return ProbeQueries(np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32), tuple(probes))

    def remove(self, classes: Collection[str], ids: Collection[str]) -> None:
        """Remove the images of some classes, and single images by their ids. The same call finishes interrupted work.

        Raises:
            CheckpointError: an index is damaged.
            StorageError: a file cannot be written.
        """
        for path in sorted(self.folder.glob("g*/index.json")):
            probes = self._index(path.parent.name)
            kept = [probe for probe in probes if probe.label not in classes and probe.id not in ids]
            if len(kept) < len(probes):
                index = json.loads(path.read_text(encoding="utf-8"))
                numbers = {probe.row for probe in kept}
                rows = ({"row": number, **row} for number, row in enumerate(index["images"]))
                write_json(path, {**index, "images": [row for row in rows if row["row"] in numbers]})
                for stale in path.parent.glob("by-*.safetensors"):  # in the order of the index; computed again
                    stale.unlink()
            _delete_unlisted(path.parent, kept)

    def rename(self, old: str, new: str) -> None:
        """Give the images of a class another label; errors as in `remove`."""
        for path in sorted(self.folder.glob("g*/index.json")):
            if any(probe.label == old for probe in self._index(path.parent.name)):
                index = json.loads(path.read_text(encoding="utf-8"))
                rows = [{**row, "label": new if row["label"] == old else row["label"]} for row in index["images"]]
                write_json(path, {**index, "images": rows})

    def _embedded(
        self,
        name: str,
        probes: Sequence[Probe],
        fingerprint: str,
        embed: Callable[[Sequence[Sample]], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        path = self.folder / name / f"by-{fingerprint}.safetensors"
        if path.exists():
            return self._tensor(path)
        vectors = embed([probe.sample for probe in probes if probe.sample is not None])
        save_tensors(path, {"vectors": torch.from_numpy(vectors)}, {"fingerprint": fingerprint})
        return vectors

    def _tensor(self, path: Path) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = load_tensors(path, LOST)[0]["vectors"].numpy()
        return vectors

    def _index(self, generation: str) -> list[Probe]:
        path = self.folder / generation / "index.json"
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            return [_probe(row, generation, path.parent, number) for number, row in enumerate(index["images"])]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: damaged ({error}): restore it, or move {path.parent} away: these classes are then not judged."
            ) from None


def _delete_unlisted(folder: Path, probes: Sequence[Probe]) -> None:
    """Delete what a folder holds of images that are not in its index; their crops become zeros, so that rows stay."""
    names = {probe.sample.path.name for probe in probes if probe.sample is not None}
    for file in folder.iterdir():
        if file.suffix not in (".json", ".safetensors") and file.name not in names:
            file.unlink()
    crops = folder / "crops.safetensors"
    if crops.exists():
        vectors, info = load_tensors(crops, LOST)
        unlisted = torch.ones(len(vectors["vectors"]), dtype=torch.bool)
        unlisted[[probe.row for probe in probes]] = False
        if bool(vectors["vectors"][unlisted].any()):
            vectors["vectors"][unlisted] = 0
            save_tensors(crops, vectors, info)


def _copied(folder: Path, number: int, sample: Sample, label: str, keep: str) -> dict[str, Any]:
    row: dict[str, Any] = {"hash": content_hash(sample), "label": label, "original": str(sample.path)}
    if keep == "images":
        row["file"] = f"{number:04}{sample.path.suffix.lower()}"
        shutil.copyfile(sample.path, folder / row["file"])
    return {**row, "box": sample.box}


def _probe(row: dict[str, Any], generation: str, folder: Path, number: int) -> Probe:
    copy = None
    if "file" in row:
        box = tuple(row["box"]) if row["box"] else None
        copy = Sample(folder / row["file"], 0, "test", box)
    return Probe(row["hash"], row["label"], generation, row["original"], copy, row.get("row", number))
