"""One generation: its folder, and the typed content of its `generation.json`.

Older formats are upgraded when they are read, by numbered steps; the file itself never changes.

1 → 2   "images" always holds the image options; the number of training images is "image_count". A catalogue wrote that
        number under "images" and all of its options under "options"
2 → 3   "trunk" names the file of the backbone; before, `network.safetensors` held the backbone as well
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from torch import Tensor

from scrubjay import bridges as maps
from scrubjay.bridges import Bridge
from scrubjay.config import Config, explain
from scrubjay.data.images import ImageOptions
from scrubjay.errors import CheckpointError, StorageError
from scrubjay.io.atomic import write_json
from scrubjay.models.checkpoint import save_tensors
from scrubjay.models.embedder import NetworkOptions

FORMAT = 3


class BridgeRecord(Config):
    """Which kind of bridge was chosen for one direction, and the figures of all kinds that were compared."""

    chosen: str
    """Kind of the bridge that was stored."""
    figures: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Figures by kind; see `scrubjay.bridges.choose`."""


class SessionRecord(Config):
    """What the learner of a session reports about the generation that it made."""

    fingerprint: str
    """Fingerprint of the embedding space."""
    classes: tuple[str, ...]
    """Names of all classes learned so far, in the order of the rows of the head. Classes that were merged since have
    the same name; see `ClassNames`."""
    new_classes: tuple[str, ...] = ()
    """Names of the classes that this session added."""
    extended_classes: tuple[str, ...] = ()
    """Names of known classes that the session learned more images of."""
    known_images: int = 0
    """Number of images that were left out because they were learned before."""
    method: dict[str, Any]
    """Name of the method, and its options."""
    seed: int
    """Seed of weights, batches and augmentation."""
    images: ImageOptions | None = None
    """How images were prepared; None in generations of catalogues that did not record it."""
    training: dict[str, Any] | None = None
    """Options of the training loop; None in generations of catalogues that did not record them."""
    data_hash: str
    """Hash of the training images and their labels."""
    image_count: int | None = None
    """Number of training images of the session; None in older runs."""
    seconds: float | None = None
    """Seconds of training, in a catalogue."""
    phase: dict[str, Any] | None = None
    """Duration, throughput and memory of training, in a run."""
    curves: dict[str, list[float]] = Field(default_factory=dict)
    """Each term of the objective by name, one value a step."""
    broken: tuple[tuple[str, str], ...] = ()
    """Images that could not be decoded: path and reason."""
    measured: dict[str, dict[str, Any] | None] = Field(default_factory=dict)
    """Retrieval figures of the held-out images of the new classes: "new" by this generation, "new_before" by its
    parent; None where no image was held out."""
    bridges: dict[str, BridgeRecord] = Field(default_factory=dict)
    """The bridges `to_parent` and `from_parent`."""


class GenerationInfo(SessionRecord):
    """Everything about a generation that is not a tensor."""

    format: int = FORMAT
    """Version of the file's layout."""
    name: str
    """Name of the generation: g0, g1 and so on."""
    parent: str | None
    """Name of the generation that was trained further; None for the first one."""
    line: tuple[str, ...] | None = None
    """Names of all ancestors, youngest first; None in generations of older versions."""
    created: str
    """Time of creation, ISO 8601, UTC."""
    network: NetworkOptions
    """Options of the network."""
    trunk: str | None = None
    """Name of the file that holds the backbone, without its suffix; None where `network.safetensors` holds it too."""
    statistics: tuple[str, ...] = ()
    """Names of the generations on the line whose sessions have stored statistics, oldest first; empty where the
    generation was not learned in closed form."""
    versions: dict[str, str]
    """Versions of Python and of the packages that results depend on."""
    pulled_from: str | None = None
    """The repository that it was pulled from, `owner/name@commit`; None where it was learned here."""
    weights_only: bool = False
    """Whether it was pulled without what its method keeps of the images that it has learned."""

    @property
    def record(self) -> SessionRecord:
        """The part that the learner of the session reported."""
        return SessionRecord(**{name: getattr(self, name) for name in SessionRecord.model_fields})


@dataclass(frozen=True, slots=True)
class Generation:
    """One trained network on disk.

    Attributes:
        folder: folder of the generation; its name is the name of the generation.
        info: content of its `generation.json`.
    """

    folder: Path
    info: GenerationInfo

    @property
    def name(self) -> str:
        """Name of the generation: g0, g1 and so on."""
        return self.folder.name

    @property
    def number(self) -> int:
        """Number in the name of the generation, from 0."""
        return int(self.folder.name[1:])

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the embedding space."""
        return self.info.fingerprint

    @property
    def parent(self) -> str | None:
        """Name of the generation that was trained further; None for the first one."""
        return self.info.parent

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes learned so far, in the order of the rows of the head; merged ones have the same name."""
        return self.info.classes

    @property
    def dim(self) -> int:
        """Dimension of the embeddings."""
        return self.info.network.dim


def read_generation(folder: Path) -> Generation:
    """Read the `generation.json` in a folder, of this format or an older one.

    Raises:
        CheckpointError: the file is missing, damaged or of a newer format.
    """
    path = folder / "generation.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values.get("format")
        if not isinstance(version, int) or not 1 <= version <= FORMAT:
            raise CheckpointError(
                f"{path}: has format {version}; this version of scrubjay reads 1 to {FORMAT}: upgrade scrubjay."
            )
        for number in range(version, FORMAT):
            values = {**_UPGRADES[number](values), "format": number + 1}
        return Generation(folder, GenerationInfo.model_validate(values))
    except ValidationError as error:
        reason = explain(GenerationInfo, error, "generation.json")
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        reason = str(error)
    raise CheckpointError(f"{path}: damaged or missing ({reason}): move the folder {folder} away.")


def write_generation(
    folder: Path,
    info: GenerationInfo,
    files: Mapping[str, Mapping[str, Tensor]],
    bridges: Mapping[str, Bridge] | None = None,
) -> Generation:
    """Write a new generation, which appears completely or not at all.

    Args:
        folder: folder of all generations.
        info: the content of its `generation.json`.
        files: the tensors of each file by its name without suffix; a file without tensors is left out.
        bridges: `to_parent` and `from_parent`.

    Raises:
        StorageError: the disk is full or the folder cannot be written; no generation is left behind.
    """
    building = folder / f".{info.name}.{os.getpid()}"
    try:
        for name, tensors in files.items():
            if tensors:
                save_tensors(building / f"{name}.safetensors", tensors, {"generation": info.name})
        if bridges:
            maps.save(building / "bridges.safetensors", bridges)
        write_json(building / "generation.json", info.model_dump(mode="json"))
        building.rename(folder / info.name)
    except OSError as error:
        raise StorageError(f"{folder / info.name}: could not be put in place ({error.strerror}).") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Generation(folder / info.name, info)


def _separate_image_count(values: Mapping[str, Any]) -> dict[str, Any]:
    options = values.get("options", {})
    upgraded = {key: value for key, value in values.items() if key != "options"}
    if isinstance(values.get("images"), int):
        upgraded |= {
            "image_count": values["images"],
            "images": options.get("images"),
            "training": options.get("training"),
        }
    return upgraded


_UPGRADES: Mapping[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: _separate_image_count, 2: dict}
