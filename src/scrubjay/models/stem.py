"""The frozen first part of a backbone, cut after a named module: never trained, so its activations can be cached."""

from __future__ import annotations

import copy
import difflib
from typing import NoReturn

import torch
from torch import Tensor, nn

from scrubjay.errors import ConfigError

CHUNK = 16
"""Images in one forward pass of the stem."""


class Stem:
    """A backbone in two parts: `tail(stem(images))` equals `backbone(images)` up to rounding.

    Both parts share their layers with the backbone; nothing is copied and the backbone's `state_dict` is unchanged.
    A plain object, not a module, so that no parameter is registered twice.

    The rounding of a convolution may depend on its batch size. By default the stem runs on exactly the images given,
    at most `CHUNK` at a time: a query costs one image, and its activations may differ in the last bits from those
    computed in a larger batch (the cosine of the two embeddings stays above 1 − 1e-6). When batch invariant, the last
    chunk is padded to `CHUNK` images, and the activations of an image have the same bits whatever the batch. That is
    needed where activations are cached (`Activations`), and in runs that must give the same result without a cache.

    Args:
        backbone: any network that runs its children one after another up to the cut.
        last: name of the last module that belongs to the stem, as in `backbone.named_modules()`: "blocks.5".

    Attributes:
        batch_invariant: whether every forward pass pads its last chunk; False until someone sets it.
        layers: the modules of the stem.

    Raises:
        ConfigError: there is no such module, or the modules after it need other inputs than its output.
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
        self.batch_invariant = False
        names = self._names_up_to_cut(modules)
        self.layers = [modules[name] for name in names]
        self._clones: list[tuple[nn.Module, nn.Module]] = []
        self._tail = self._without(backbone, "", set(names))
        self._check()

    @property
    def tail(self) -> nn.Module:
        """The rest of the backbone: activations → the backbone's output; in the backbone's training or eval mode."""
        for clone, original in self._clones:
            clone.training = original.training
        return self._tail

    def __call__(self, pixels: Tensor, batch_invariant: bool = False) -> Tensor:
        """Normalised pixels (B, 3, H, W) → activations (B, …), without a gradient.

        Args:
            pixels: the images.
            batch_invariant: pad the last chunk in this call, whatever the attribute of that name says.
        """
        pad = batch_invariant or self.batch_invariant
        chunks = [self._chunk(pixels[start : start + CHUNK], pad) for start in range(0, len(pixels), CHUNK)]
        return torch.cat(chunks) if chunks else self._chunk(pixels, pad)

    @torch.no_grad()
    def _chunk(self, pixels: Tensor, pad: bool) -> Tensor:
        padded = pixels
        if pad and len(pixels) < CHUNK:
            padded = torch.cat([pixels, pixels.new_zeros(CHUNK - len(pixels), *pixels.shape[1:])])
        padded = padded.contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, enabled=False):  # float32, as activations are cached
            return self._until(padded)[: len(pixels)]

    def _until(self, pixels: Tensor) -> Tensor:
        """The output of the stem's last module; the rest of the backbone is not run."""

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

    def _names_up_to_cut(self, modules: dict[str, nn.Module]) -> list[str]:
        """Names of all modules whose forward pass has ended when the stem's last module ends, itself included."""
        finished: list[str] = []
        handles = [
            module.register_forward_hook(lambda *_, name=name: finished.append(name))
            for name, module in modules.items()
            if name
        ]
        try:
            with _evaluating(self.backbone), torch.no_grad():
                self._until(_probe(self.backbone))
        finally:
            for handle in handles:
                handle.remove()
        return [*finished, self.last]

    def _without(self, module: nn.Module, name: str, removed: set[str]) -> nn.Module:
        """A shallow copy of `module` with the `removed` sub-modules replaced by the identity."""
        clone = copy.copy(module)
        clone._modules = dict(module._modules)
        self._clones.append((clone, module))
        for key, child in module._modules.items():
            path = f"{name}.{key}" if name else key
            if child is None:
                continue
            if path in removed:
                clone._modules[key] = nn.Identity()
            elif self.last.startswith(f"{path}."):
                clone._modules[key] = self._without(child, path, removed)
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
            raise ConfigError(self._refusal("the two parts in sequence give another output than the backbone"))

    def _refusal(self, reason: str) -> str:
        return (
            f"network.frozen: the backbone cannot be cut after {self.last!r} ({reason}); "
            "name the last module of a whole stage, or freeze nothing."
        )


class _ReachedError(Exception):
    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


class _evaluating:  # noqa: N801  # used as a context manager only, like a function
    """Evaluation mode inside the block; afterwards each module is back in its own mode."""

    def __init__(self, backbone: nn.Module) -> None:
        self.modes = [(module, module.training) for module in backbone.modules()]
        self.backbone = backbone

    def __enter__(self) -> None:
        self.backbone.eval()

    def __exit__(self, *_: object) -> None:
        for module, mode in self.modes:
            module.training = mode


def _probe(backbone: nn.Module) -> Tensor:
    """Two images of noise at the input size that the weights were trained with."""
    size = getattr(backbone, "pretrained_cfg", {}).get("input_size", (3, 96, 96))
    return torch.rand(2, *size, generator=torch.Generator().manual_seed(0))


def _parts(backbone: nn.Module) -> str:
    names = [name for name, _ in backbone.named_modules() if name and name.count(".") <= 1]
    return ", ".join(names[:40]) + (", …" if len(names) > 40 else "")
