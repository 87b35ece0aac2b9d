"""BatchNorm layers folded into the convolutions before them, so that a forward pass takes less time.

γ (W∗x + b − μ)/√(σ² + ε) + β = W′∗x + b′,   W′ = γ/√(σ² + ε)·W,   b′ = γ/√(σ² + ε)·(b − μ) + β
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from scrubjay.models import backbones
from scrubjay.models.embedder import Embedder

TOLERANCE = 1e-4
"""Largest difference between the features with and without folded layers, relative to their norm."""


@torch.no_grad()
def folded(embedder: Embedder) -> Embedder:
    """A copy of an embedder, for evaluation, that gives the same features up to rounding in less time.

    The embedder itself is returned where nothing can be folded: it has a frozen part, whose activations must keep their
    bits; or a BatchNorm layer is used in another way than directly after one convolution.
    """
    if embedder.stem is not None:
        return embedder
    copied = copy.deepcopy(embedder).eval()
    pairs = _pairs(copied.backbone)
    modules = dict(copied.backbone.named_modules())
    for conv, norm in pairs.items():
        after = _after(modules[norm])
        _replace(copied.backbone, conv, fuse_conv_bn_eval(modules[conv], modules[norm]))
        _replace(copied.backbone, norm, after)
    copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return copied if pairs and _agree(embedder, copied) else embedder


def _pairs(backbone: nn.Module) -> dict[str, str]:
    """Names of the convolutions whose output is the input of a BatchNorm layer, with the names of these layers."""
    outputs: list[tuple[str, Tensor]] = []
    pairs: dict[str, str] = {}

    def see(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, nn.Conv2d):
                outputs.append((name, output))  # kept, so that no other tensor is the same object
            else:
                pairs.update({conv: name for conv, given in outputs if given is inputs[0]})

        return hook

    seen = [(name, module) for name, module in backbone.named_modules() if _is_seen(module)]
    handles = [module.register_forward_hook(see(name)) for name, module in seen]
    try:
        backbone(backbones.probe_images(backbone)[:1].to(next(backbone.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return pairs


def _is_seen(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.BatchNorm2d)


def _after(norm: nn.Module) -> nn.Module:
    """What a layer does after the normalisation: timm's BatchNorm layers include the activation."""
    parts = (getattr(norm, name, None) for name in ("drop", "act"))
    return nn.Sequential(*(part for part in parts if part is not None))


def _replace(backbone: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, key = name.rpartition(".")
    setattr(backbone.get_submodule(parent), key, module)


def _agree(embedder: Embedder, other: Embedder) -> bool:
    probe = backbones.probe_images(embedder.backbone).to(embedder.mean.device)
    with backbones.evaluating(embedder.backbone):
        expected = embedder.features(probe)
    return bool((other.features(probe) - expected).norm() <= TOLERANCE * expected.norm())
