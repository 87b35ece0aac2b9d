"""Backbones whose weights are not those that timm publishes: from a local file or folder, or from the Hugging Face Hub.

`hf-hub:owner/name[@revision]` and `local-dir:FOLDER` name a model as timm writes it: a `config.json` beside the
weights. What is found there is recorded as a `BackboneOrigin`, from which the network is built again without the Hub.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from scrubjay import _compat as compat
from scrubjay.config import Config
from scrubjay.errors import ConfigError
from scrubjay.io.hub import download, download_first, sha256

HUB = ("hf-hub:", "hf_hub:")
FOLDER = "local-dir:"
_NAMES = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_RESERVED = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")
"""Arguments of `timm.create_model` that choose weights; a model's configuration must not."""
_LARGEST_CONFIGURATION = 2**20


class BackboneOrigin(Config):
    """Where the weights of a backbone came from, and how timm builds its architecture."""

    architecture: str
    """Name of the architecture in timm."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the architecture."""
    mean: tuple[float, float, float]
    """Mean of each RGB channel that the weights were trained with, for pixels in 0 … 1."""
    std: tuple[float, float, float]
    """Standard deviation of each channel."""
    input_size: tuple[int, int, int]
    """Channels, height and width of the images that the weights were trained with."""
    weights: str | None = None
    """The file of the weights: `hf-hub:owner/name@commit/file`, or its path; None where there are none."""
    sha256: str | None = None
    """SHA-256 of this file, 64 hexadecimal digits."""

    @field_validator("arguments")
    @classmethod
    def _no_weights(cls, value: dict[str, Any]) -> dict[str, Any]:
        refused = sorted(set(value).intersection(_RESERVED))
        if refused:
            raise ValueError(f"{refused[0]!r} is no argument of an architecture; remove it from model_args")
        return {key: each for key, each in value.items() if key not in ("num_classes", "global_pool")}


@dataclass(frozen=True, slots=True)
class Found:
    """A model that was located.

    Attributes:
        origin: what is recorded of it.
        file: file of its weights; None where none are wanted.
        pinned: the name of the backbone that stays the same model: with the commit, or as an absolute path.
    """

    origin: BackboneOrigin
    file: Path | None
    pinned: str


def locate(backbone: str, weights: str | None, pretrained: bool) -> Found | None:
    """Find a model that is not one of timm's own; None where it is.

    Args:
        backbone: name of a timm model, or of a model on the Hub or in a folder.
        weights: file of weights, or folder that holds it, for a timm model.
        pretrained: whether the weights are wanted.

    Raises:
        ConfigError: the folder or file does not exist, or is not what it should be.
        HubError: the repository does not exist, or cannot be reached.
    """
    elsewhere = backbone.startswith((*HUB, FOLDER))
    if elsewhere and weights is not None:
        raise ConfigError(f"network.weights = {weights!r}: {backbone} has weights of its own; leave one of them out.")
    if backbone.startswith(HUB):
        return _on_hub(backbone.partition(":")[2], pretrained)
    if backbone.startswith(FOLDER):
        folder = Path(backbone.removeprefix(FOLDER)).expanduser().absolute()
        origin = _configured(_read(folder / "config.json"), str(folder / "config.json"))
        return _with_file(origin, _weights_in(folder) if pretrained else None, f"{FOLDER}{folder}")
    if weights is None:
        return None
    if not pretrained:
        raise ConfigError(f"network.weights = {weights!r}: leave out network.pretrained=false, or these weights.")
    return _from_path(backbone, Path(weights).expanduser().absolute())


def build(origin: BackboneOrigin, file: Path | None = None) -> nn.Module:
    """The backbone of an origin, without its classifier and pooling.

    Args:
        origin: which architecture it is.
        file: file of its weights; None: they are drawn at random.

    Raises:
        ConfigError: the architecture cannot be built, or the file holds the weights of another one.
    """
    if file is None:
        return _build(origin, None)
    tensors = _tensors(file)
    with torch.random.fork_rng(devices=[]):  # the same random weights twice: what stays as it was, was not loaded
        torch.manual_seed(0)
        drawn = _build(origin, None).state_dict()
        torch.manual_seed(0)
        backbone = _build(origin, tensors, str(file))
    for name, value in backbone.state_dict().items():
        if value.ndim > 1 and bool((value != value.flatten()[0]).any()) and torch.equal(value, drawn[name]):
            raise ConfigError(
                f"{file}: holds weights of another architecture than {origin.architecture}: none for {name}; name the "
                "architecture that they belong to."
            )
    return backbone


def _build(origin: BackboneOrigin, tensors: Mapping[str, Tensor] | None, place: str = "") -> nn.Module:
    timm = compat.load("timm")
    described: dict[str, Any] = {"mean": origin.mean, "std": origin.std, "input_size": origin.input_size, "source": ""}
    if tensors is not None:
        # The number of classes differs from that of the backbone, so that timm leaves out the classifier's weights.
        described |= {"state_dict": dict(tensors), "num_classes": 1, "label_offset": None, "custom_load": False}
    arguments = {"num_classes": 0, "global_pool": "", "pretrained_cfg_overlay": described, **origin.arguments}
    try:
        with _quiet("timm"):  # it warns of keys that differ, which `build` refuses where they matter
            backbone: nn.Module = timm.create_model(origin.architecture, pretrained=tensors is not None, **arguments)
    except (AssertionError, AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if tensors is None:
            raise ConfigError(f"backbone {origin.architecture!r} could not be created ({reason}).") from None
        raise ConfigError(
            f"{place}: holds weights of another architecture than {origin.architecture} ({reason}); name the one that "
            "they belong to."
        ) from None
    getattr(backbone, "pretrained_cfg", {}).pop("state_dict", None)
    return backbone


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without the warnings of a library inside the block."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _on_hub(name: str, pretrained: bool) -> Found:
    repository, _, revision = name.partition("@")
    configuration = download(repository, "config.json", revision or None)
    commit = configuration.parent.name
    pinned = f"{HUB[0]}{repository}@{commit}"
    origin = _configured(_read(configuration), f"{pinned}/config.json")
    file = download_first(repository, _NAMES, commit) if pretrained else None
    return _with_file(origin, file, pinned, None if file is None else f"{pinned}/{file.name}")


def _from_path(architecture: str, path: Path) -> Found:
    """Weights for an architecture of timm; a `config.json` beside them in a folder must be of the same one."""
    origin = _published(architecture)
    if (path / "config.json").is_file():
        origin = _configured(_read(path / "config.json"), str(path / "config.json"))
        if origin.architecture != architecture.partition(".")[0]:
            raise ConfigError(
                f"{path}: holds a {origin.architecture}, not a {architecture}: take {FOLDER}{path} as the backbone."
            )
    return _with_file(origin, _weights_in(path) if path.is_dir() else path, architecture)


def _with_file(origin: BackboneOrigin, file: Path | None, pinned: str, name: str | None = None) -> Found:
    if file is None:
        return Found(origin, None, pinned)
    try:
        digest = sha256(file)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); name a file of weights.") from None
    found = {"weights": name or str(file), "sha256": digest}
    return Found(origin.model_copy(update=found), file, pinned)


def _weights_in(folder: Path) -> Path:
    """The file of weights in a folder."""
    for name in _NAMES:
        if (folder / name).is_file():
            return folder / name
    files = sorted(path for path in folder.glob("*") if path.suffix in _SUFFIXES)
    if len(files) != 1:
        held = ", ".join(path.name for path in files) or "none"
        raise ConfigError(f"{folder}: one file of weights is needed ({held} found); name the file itself.")
    return files[0]


def _published(name: str) -> BackboneOrigin:
    """The architecture of a name, as timm describes it."""
    timm = compat.load("timm")
    described = timm.get_pretrained_cfg(name)
    if described is None:
        raise ConfigError(f"backbone {name!r} is not a timm model. `scrubjay backbones` lists them all.")
    return BackboneOrigin(architecture=name, mean=described.mean, std=described.std, input_size=described.input_size)


def _configured(values: Mapping[str, Any], where: str) -> BackboneOrigin:
    """What a `config.json` of timm says; in older ones, the entries of `pretrained_cfg` are at the top."""
    described = values.get("pretrained_cfg", values)
    architecture = values.get("architecture")
    timm = compat.load("timm")
    if not isinstance(architecture, str) or not isinstance(described, Mapping) or not timm.is_model(architecture):
        raise ConfigError(
            f"{where}: names no architecture of timm ({architecture!r}); take a model that timm can load."
        )
    known = _published(architecture)
    fields = {name: described[name] for name in ("mean", "std", "input_size") if described.get(name) is not None}
    given = {"arguments": values.get("model_args") or {}, **fields}
    return BackboneOrigin.parse({**known.model_dump(), **given}, where)


def _read(path: Path) -> dict[str, Any]:
    """The object in a `config.json`, which may come from a stranger."""
    try:
        if path.stat().st_size > _LARGEST_CONFIGURATION:
            raise ValueError("larger than 1 MiB")
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{path}: is not the configuration of a model ({reason}); see timm's save_for_hf.") from None
    return values


def _tensors(file: Path) -> dict[str, Tensor]:
    """The tensors in a file of weights; nothing else in it is executed or kept."""
    timm = compat.load("timm.models")
    try:
        tensors = timm.load_state_dict(str(file), weights_only=True)
    except Exception as error:  # each format has errors of its own, and all mean the same
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ConfigError(f"{file}: is not a file of weights ({reason}): give a safetensors or PyTorch file.") from None
    kept = {str(name): value for name, value in dict(tensors).items() if isinstance(value, Tensor)}
    if not kept:
        raise ConfigError(f"{file}: holds no tensors: give a safetensors or PyTorch file of weights.")
    return kept
