"""The first part of a backbone, cut off at a named module: never trained, so that its activations can be kept."""

from __future__ import annotations

import copy
import difflib
from typing import NoReturn

import torch
from torch import Tensor, nn

from scrubjay.errors import ConfigError

CHUNK = 16
"""Images that the stem takes at a time. The last chunk is filled up, since the bits of a convolution may depend on
the size of its batch: an activation is then the same whatever it was computed beside."""


class Stem:
    """A backbone in two parts: `tail(stem(images))` is `backbone(images)`, but for what rounding in chunks makes of it.

    Both parts share their layers with the backbone; nothing is copied and the backbone's `state_dict` stays as it is.
    A plain object, no module, so that no parameter is registered twice.

    Args:
        backbone: any network that runs its children one after another up to the cut.
        last: name of the last module that belongs to the stem, as in `backbone.named_modules()`: "blocks.5".

    Raises:
        ConfigError: there is no such module, or what follows it needs more than what it delivers.
    """

    def __init__(self, backbone: nn.Module, last: str) -> None:
        modules = dict(backbone.named_modules())
        if last not in modules or not last:
            near = difflib.get_close_matches(last, modules, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"network.frozen: the backbone has no module {last!r}.{hint} Its parts: {_parts(backbone)}."
            )
        self.backbone = backbone
        self.last = last
        done = self._run_before(modules)
        self.layers = [modules[name] for name in done]
        self._clones: list[tuple[nn.Module, nn.Module]] = []
        self._tail = self._without(backbone, "", set(done))
        self._check()

    @property
    def tail(self) -> nn.Module:
        """What follows the stem: activations → what the backbone delivers; in the mode that the backbone is in."""
        for clone, original in self._clones:
            clone.training = original.training
        return self._tail

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) → activations (B, …), without a gradient."""
        chunks = [self._chunk(pixels[start : start + CHUNK]) for start in range(0, len(pixels), CHUNK)]
        return torch.cat(chunks) if chunks else self._chunk(pixels)

    @torch.no_grad()
    def _chunk(self, pixels: Tensor) -> Tensor:
        missing = CHUNK - len(pixels)
        filled = torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])]) if missing else pixels
        filled = filled.contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, enabled=False):  # kept or not, an activation is the same
            return self._until(filled)[: len(pixels)]

    def _until(self, pixels: Tensor) -> Tensor:
        """What the last module of the stem delivers; the rest of the backbone is not run."""

        def stop(_: nn.Module, __: object, output: Tensor) -> NoReturn:
            raise _ReachedError(output)

        handle = self.backbone.get_submodule(self.last).register_forward_hook(stop)
        try:
            self.backbone(pixels)
        except _ReachedError as reached:
            return reached.output
        finally:
            handle.remove()
        raise ConfigError(f"network.frozen: the backbone does not run {self.last!r}; name a module that it runs.")

    def _run_before(self, modules: dict[str, nn.Module]) -> list[str]:
        """Names of all modules that have ended when the last one of the stem ends, itself included."""
        ended: list[str] = []
        handles = [
            module.register_forward_hook(lambda *_, name=name: ended.append(name))
            for name, module in modules.items()
            if name
        ]
        try:
            with _evaluating(self.backbone), torch.no_grad():
                self._until(_probe(self.backbone))
        finally:
            for handle in handles:
                handle.remove()
        return [*ended, self.last]

    def _without(self, module: nn.Module, name: str, done: set[str]) -> nn.Module:
        """A shallow copy of `module` in which everything that has run passes its input on."""
        clone = copy.copy(module)
        clone._modules = dict(module._modules)
        self._clones.append((clone, module))
        for key, child in module._modules.items():
            path = f"{name}.{key}" if name else key
            if child is None:
                continue
            if path in done:
                clone._modules[key] = nn.Identity()
            elif self.last.startswith(f"{path}."):
                clone._modules[key] = self._without(child, path, done)
        return clone

    def _check(self) -> None:
        probe = _probe(self.backbone)
        with _evaluating(self.backbone), torch.no_grad():
            whole = self.backbone(probe)
            try:
                parts = self.tail(self(probe))
            except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
                raise ConfigError(self._refusal(str(error).splitlines()[0][:100])) from None
        if parts.shape != whole.shape or not torch.allclose(parts, whole, rtol=1e-3, atol=1e-4):
            raise ConfigError(self._refusal("the two parts together give something else than the whole"))

    def _refusal(self, reason: str) -> str:
        return (
            f"network.frozen: the backbone cannot be cut after {self.last!r} ({reason}); cut at a whole stage, or not."
        )


class _ReachedError(Exception):
    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


class _evaluating:  # noqa: N801  # reads as what it is: a state that a block runs in
    """Evaluation mode inside of the block; every module's own mode afterwards."""

    def __init__(self, backbone: nn.Module) -> None:
        self.modes = [(module, module.training) for module in backbone.modules()]
        self.backbone = backbone

    def __enter__(self) -> None:
        self.backbone.eval()

    def __exit__(self, *_: object) -> None:
        for module, mode in self.modes:
            module.training = mode


def _probe(backbone: nn.Module) -> Tensor:
    """One image of noise at the size that the weights were made for."""
    size = getattr(backbone, "pretrained_cfg", {}).get("input_size", (3, 96, 96))
    return torch.rand(CHUNK, *size, generator=torch.Generator().manual_seed(0))[:2]


def _parts(backbone: nn.Module) -> str:
    names = [name for name, _ in backbone.named_modules() if name and name.count(".") <= 1]
    return ", ".join(names[:40]) + (", …" if len(names) > 40 else "")
