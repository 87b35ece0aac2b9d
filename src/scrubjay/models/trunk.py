"""Trunk features: mean and standard deviation of the feature maps at the ends of a backbone's stages.

The last feature map alone loses what earlier stages see: colours, textures and parts. All stages together are what
learning in closed form is built on. One forward pass gives them all; a map is reduced as soon as it is computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scrubjay.errors import ConfigError
from scrubjay.models import backbones
from scrubjay.models.stages import listed_stages, recording

MAX_WIDTH = 8192
"""Largest number of features with "stages": solving in closed form takes width² memory and width³ time."""
OUTPUT = ""
"""The name of the backbone's output among the stages."""
_SMALLEST_VARIANCE = 1e-12


class Trunk:
    """The stages of one backbone whose features are taken, in the order in which they run.

    Attributes:
        widths: number of features of each stage, by its name; `OUTPUT` is the output of the whole backbone.
    """

    def __init__(self, backbone: nn.Module, features: str | Sequence[str]) -> None:
        """Find the stages, with one forward pass of noise.

        Args:
            backbone: the backbone.
            features: "stages", for the stages that timm lists, with their siblings where they are children of one
                sequence of blocks, and the output of the backbone where it is not that of the last stage. Of these the
                last ones are taken whose features are at most `MAX_WIDTH`. Or names of modules, all of which are taken.

        Raises:
            ConfigError: a module does not exist, is not run or gives no feature map, or timm lists no stages.
        """
        names = _stages(backbone) if features == "stages" else list(dict.fromkeys(features))
        with backbones.evaluating(backbone), torch.no_grad(), recording(backbone, names, _statistics(backbone)) as seen:
            backbone(backbones.probe_images(backbone))
        missing = [name for name in names if name not in seen]
        if missing:
            raise ConfigError(f"network.features: the backbone does not run {missing[0]!r}; name modules that it runs.")
        if features == "stages":
            seen = _within(_without_repeated_output(seen))
        self.widths = {name: value.shape[1] for name, value in seen.items()}

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(self.widths.values())

    def last_mean(self, backbone: nn.Module, features: Tensor) -> Tensor:
        """The mean of the last map (B, C) in the features of all stages (B, p)."""
        last = features[:, -list(self.widths.values())[-1] :]
        return last[:, : last.shape[1] // (3 if backbones.prefix_tokens(backbone) else 2)]

    def recording(self, backbone: nn.Module, names: Sequence[str]) -> Any:
        """Record the features float32 (B, ·) of some of the stages, by name; see `stages.recording`."""
        return recording(backbone, names, _statistics(backbone))


def statistics(backbone: nn.Module, output: Tensor) -> Tensor:
    """Mean m and population standard deviation of the features at all positions, and a transformer's class token.

    σ = √max(1/N Σ_x (f(x) − m)², 10⁻¹²), so that its gradient is finite, and zero, where all positions are equal. The
    squares are summed in a second pass, because E[f²] − m² cancels where the mean is large.

    Args:
        backbone: the backbone, which knows the layout of its outputs.
        output: its output, or that of a stage: (B, C, H, W), (B, H, W, C) or (B, N, C).

    Returns:
        float32 (B, 2C): means, then deviations; (B, 3C) with prefix tokens, of which the first one follows.
    """
    at = backbones.positions(backbone, output).float()
    mean = at.mean(1)
    variance = (at - mean[:, None]).square().mean(1)
    parts = [mean, variance.clamp_min(_SMALLEST_VARIANCE).sqrt()]
    if output.ndim == 3 and backbones.prefix_tokens(backbone):
        parts.append(output[:, 0].float())
    return torch.cat(parts, 1)


def packed(activation: Tensor, features: Tensor) -> Tensor:
    """Append features (B, S) to an activation (B, K, …) along dimension 1, with zeros after them."""
    size = math.prod(activation.shape[2:])
    rows = _rows(features.shape[1], size)
    filled = F.pad(features, (0, rows * size - features.shape[1]))
    return torch.cat([activation, filled.view(len(activation), rows, *activation.shape[2:])], 1)


def unpacked(tensor: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Undo `packed`: the activation (B, K, …) and the features (B, `width`)."""
    rows = _rows(width, math.prod(tensor.shape[2:]))
    kept = tensor.shape[1] - rows
    return tensor[:, :kept], tensor[:, kept:].flatten(1)[:, :width]


def _rows(width: int, size: int) -> int:
    return -(-width // size)


def _statistics(backbone: nn.Module) -> Any:
    def value(name: str, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim not in (3, 4):
            raise ConfigError(
                f"network.features: the output of {name or 'the backbone'!r} has none of the shapes (B, C, H, W), "
                "(B, H, W, C) and (B, N, C): name modules whose output is a feature map, or use features = 'last'."
            )
        return statistics(backbone, output)

    return value


def _stages(backbone: nn.Module) -> list[str]:
    """Names of all stages of a backbone, and its output."""
    listed = listed_stages(backbone)
    if not listed:
        raise ConfigError(
            "network.features = 'stages': the backbone does not say which modules end its stages (timm's "
            f"feature_info): name modules in place of 'stages', or use one that does, such as {backbones.DEFAULT}."
        )
    siblings = {sibling for name in listed for sibling in _siblings(backbone, name)}
    return [name for name, _ in backbone.named_modules() if name in siblings or name in listed] + [OUTPUT]


def _siblings(backbone: nn.Module, name: str) -> list[str]:
    """The other children of the sequence of blocks that a stage is a child of; single layers are no stages."""
    above, _, _ = name.rpartition(".")
    parent = backbone.get_submodule(above)
    if not isinstance(parent, nn.Sequential) or not above:
        return []
    return [f"{above}.{key}" for key, child in parent.named_children() if any(child.children())]


def _without_repeated_output(seen: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the output of the backbone where it is that of the last stage."""
    *_, last, output = seen
    same = seen[last].shape == seen[output].shape and torch.equal(seen[last], seen[output])
    return {name: value for name, value in seen.items() if not (same and name == OUTPUT)}


def _within(seen: dict[str, Tensor]) -> dict[str, Tensor]:
    """The last stages whose features are at most `MAX_WIDTH` together; at least one."""
    taken: list[str] = []
    room = MAX_WIDTH
    for name in reversed(seen):
        room -= seen[name].shape[1]
        if room < 0 and taken:
            break
        taken.append(name)
    return {name: value for name, value in seen.items() if name in taken}
