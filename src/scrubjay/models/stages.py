"""Feature maps at the ends of a backbone's stages, recorded during the forward pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from scrubjay.errors import ConfigError
from scrubjay.models import backbones

if TYPE_CHECKING:
    from scrubjay.models.embedder import Embedder


def listed_stages(backbone: nn.Module) -> list[str]:
    """Names of the modules at the ends of the stages that timm lists (`feature_info`), in order."""
    modules = dict(backbone.named_modules())
    listed: Any = getattr(backbone, "feature_info", None) or ()
    return [entry["module"] for entry in listed if entry.get("module") in modules]


@contextmanager
def recording(
    backbone: nn.Module, names: Sequence[str], value: Callable[[str, Any], Tensor]
) -> Iterator[dict[str, Tensor]]:
    """Record a value of the output of each of these modules in the forward passes of this thread inside the block.

    Args:
        backbone: the backbone, or a network that shares its modules, is run inside the block.
        names: modules as in `backbone.named_modules()`; "" is the backbone itself.
        value: name and output of a module → what is recorded, in the order in which the modules end.
    """
    recorded: dict[str, Tensor] = {}
    thread = threading.get_ident()  # another thread may run the same backbone meanwhile

    def hook(name: str) -> Any:
        def record(_: nn.Module, __: object, output: object) -> None:
            if threading.get_ident() == thread:
                recorded[name] = value(name, output)

        return backbone.get_submodule(name).register_forward_hook(record)

    handles = [hook(name) for name in names]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def trained_stages(embedder: Embedder) -> tuple[str, ...]:
    """Names of the backbone's modules at the ends of its stages, in order, without the stages of the frozen part.

    Raises:
        ConfigError: timm lists no stages of this backbone, or all of them are frozen.
    """
    backbone, name = embedder.backbone, embedder.kind.split(" ")[0]
    modules = dict(backbone.named_modules())
    stages = listed_stages(backbone)
    if not stages:
        raise ConfigError(
            f"backbone {name!r} does not say which modules end its stages (timm's feature_info), so no feature maps "
            f"can be compared: use one that does, such as {backbones.DEFAULT}, or a method on embeddings, such as l2."
        )
    frozen = set() if embedder.stem is None else {id(layer) for layer in embedder.stem.layers}
    trained = tuple(dict.fromkeys(stage for stage in stages if id(modules[stage]) not in frozen))
    if not trained:
        last = "" if embedder.stem is None else embedder.stem.last
        raise ConfigError(
            f"network.frozen = {last!r} freezes all stages of {name!r} ({', '.join(stages)}), so their feature maps "
            "never change: freeze fewer modules, or use a method on embeddings, such as l2."
        )
    return trained


@contextmanager
def watching(embedder: Embedder, stages: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Record the feature maps (B, C, H, W) of these stages in the forward pass inside the block.

    The tokens of a transformer are a map of N × 1 positions; prefix tokens such as the class token are left out, as in
    pooling.

    Raises:
        ConfigError: a stage was not run, or its output is not a feature map.
    """

    def whole(stage: str, output: object) -> Tensor:
        recorded = _as_map(output, embedder, stage)
        return recorded if embedder.shared is None else embedder.shared.gather(recorded)

    with recording(embedder.backbone, stages, whole) as maps:
        yield maps
    missing = [stage for stage in stages if stage not in maps]
    if missing:
        raise ConfigError(
            f"backbone {embedder.kind.split(' ')[0]!r} does not run its stage {missing[0]!r}; use another backbone."
        )


def _as_map(output: object, embedder: Embedder, stage: str) -> Tensor:
    if isinstance(output, Tensor) and output.ndim == 3:
        tokens = output[:, backbones.prefix_tokens(embedder.backbone) :]
        return tokens.transpose(1, 2).unsqueeze(3)
    if isinstance(output, Tensor) and output.ndim == 4:
        return output.permute(0, 3, 1, 2) if backbones.channels_last(embedder.backbone) else output
    raise ConfigError(
        f"backbone {embedder.kind.split(' ')[0]!r}: the output of stage {stage!r} has none of the shapes (B, C, H, W), "
        f"(B, H, W, C) and (B, N, C): use another backbone, such as {backbones.DEFAULT}."
    )
