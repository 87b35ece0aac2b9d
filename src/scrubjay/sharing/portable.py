"""A generation as files of a repository, and the checks of such files, which may come from a stranger.

    README.md                the model card
    generation.json          everything that is not a tensor, and the SHA-256 of the other files
    model.safetensors        the network: backbone, projection and head
    statistics.safetensors   statistics of all images that were learned, where it was learned in closed form
    method.safetensors       what its method keeps for the next session, if any

No path, image, embedding or content hash is in them. `statistics` has the mean trunk feature of each class: of a class
with one image, that is the feature of this image. `method` may hold means, or activations of single images, see the
page of the method.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open

from scrubjay.config import explain
from scrubjay.data.images import ImageOptions
from scrubjay.errors import HubError
from scrubjay.generations.generation import Generation, SessionRecord
from scrubjay.generations.trunks import PREFIX
from scrubjay.models import backbones, pretrained
from scrubjay.models.embedder import NetworkOptions

FORMAT = 1
DESCRIPTION = "generation.json"
CARD = "README.md"
MODEL, STATISTICS, STATE = "model.safetensors", "statistics.safetensors", "method.safetensors"
LARGEST = {DESCRIPTION: 2**25, MODEL: 2**33, STATISTICS: 2**33, STATE: 2**33}
"""Largest size in bytes of each file that is pulled."""
_LARGEST_IMAGE = 4096
_LARGEST_DIMENSION = 2**16
_LONGEST_NAME = 200


class PortableGeneration(SessionRecord):
    """The content of `generation.json` in a repository."""

    format: int = FORMAT
    """Version of the file's layout."""
    name: str
    """Name of the generation in the catalogue that it was pushed from."""
    line: tuple[str, ...] = ()
    """Names of its ancestors there, youngest first."""
    created: str
    """Time of its creation, ISO 8601, UTC."""
    network: NetworkOptions
    """Options of the network."""
    versions: dict[str, str]
    """Versions of Python and of the packages that it was made with."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the other files, by name."""

    @property
    def record(self) -> SessionRecord:
        """The part that the learner of the session reported."""
        return SessionRecord(**{name: getattr(self, name) for name in SessionRecord.model_fields})


def portable(generation: Generation, images: ImageOptions, files: dict[str, str]) -> PortableGeneration:
    """What is told of a generation: all but paths, and what belongs to its parent.

    Args:
        generation: the generation.
        images: how its catalogue prepares images.
        files: SHA-256 of the files by name.
    """
    info = generation.info
    told = {name: getattr(info, name) for name in SessionRecord.model_fields}
    told |= {"images": info.images or images, "broken": (), "bridges": {}}
    return PortableGeneration(
        name=info.name,
        line=info.line or (),
        created=info.created,
        network=_without_paths(info.network),
        versions=info.versions,
        files=files,
        **told,
    )


def _without_paths(network: NetworkOptions) -> NetworkOptions:
    origin = network.origin
    if origin is None or (origin.weights or "").startswith(pretrained.HUB):
        return network
    update: dict[str, Any] = {"weights": None if origin.weights is None else Path(origin.weights).name}
    told = {"backbone": origin.architecture, "weights": None, "origin": origin.model_copy(update=update)}
    return network.model_copy(update=told)


def parsed(content: bytes, where: str) -> PortableGeneration:
    """Read and check a `generation.json`.

    Raises:
        HubError: it is not one, is of a newer format, or holds a value that no generation has.
    """
    try:
        values = json.loads(content)
        version = values.get("format")
        if version != FORMAT:
            raise HubError(f"{where}: has format {version!r}, scrubjay reads {FORMAT} here: upgrade scrubjay.")
        found = PortableGeneration.model_validate(values)
    except ValidationError as error:
        raise HubError(f"{explain(PortableGeneration, error, where)} Pull another repository.") from None
    except (ValueError, AttributeError) as error:
        raise HubError(f"{where}: is not the description of a generation ({error}): pull another one.") from None
    wrong = _wrong(found)
    if wrong is not None:
        raise HubError(f"{where}: {wrong}; pull another repository.")
    return found


def _wrong(found: PortableGeneration) -> str | None:
    """What no generation has; None where all is as it should be."""
    names = (*found.classes, *found.new_classes, *found.extended_classes)
    odd = next((name for name in names if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME), None)
    if odd is not None:
        return f"class {odd[:40]!r} is not a printable name of at most {_LONGEST_NAME} characters"
    if found.images is None or max(found.images.size, found.images.resize) > _LARGEST_IMAGE:
        return f"images are not given, or larger than {_LARGEST_IMAGE} pixels"
    if max(found.network.dim, found.network.random_features) > _LARGEST_DIMENSION:
        return f"a dimension is larger than {_LARGEST_DIMENSION}"
    if MODEL not in found.files or not set(found.files) <= {MODEL, STATISTICS, STATE}:
        return f"the files {sorted(found.files)} are not those of a generation"
    return None


def check_model(path: Path, found: PortableGeneration) -> None:
    """Make sure that the tensors in a file are those of the network, before memory for the network is taken.

    Raises:
        HubError: they are not.
        ConfigError: the backbone does not exist here.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise HubError(f"{path.name}: is not a safetensors file ({error}); pull another repository.") from None
    network = found.network
    with torch.device("meta"):  # tensors without memory
        backbone = pretrained.build(network.origin) if network.origin else backbones.create(network.backbone, False)
    expected = {f"{PREFIX}{key}": tuple(value.shape) for key, value in backbone.state_dict().items()}
    held = {key: shape for key, shape in shapes.items() if key.startswith(PREFIX)}
    rows = {"embedder.projection.bias": (network.dim,), "head.weight": (len(found.classes), network.dim)}
    if held != expected or any(shapes.get(key) != shape for key, shape in rows.items()):
        raise HubError(
            f"{path.name}: its tensors are not those of {network.backbone} with {network.dim} dimensions and "
            f"{len(found.classes)} classes; pull another repository."
        )
