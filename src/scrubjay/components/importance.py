"""How much each parameter of the embedder matters: what the quadratic penalties of EWC, MAS, SI and ALASSO keep.

Only the embedder takes part. The head stays out: the cross entropy runs over the new classes alone, so that the rows
of old classes get no gradient and a penalty would have nothing to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scrubjay.losses.quadratic import quadratic
from scrubjay.models.embedder import Embedder
from scrubjay.types import Batch

Parameters = Mapping[str, nn.Parameter]


class PerParameter(nn.Module):
    """A tensor beside each named parameter, saved and restored with the method; empty, of no bytes, until it is set.

    Its keys in a `state_dict` never change; loading resizes what is empty here or there.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        for name in names:
            self.register_buffer(_key(name), torch.empty(0))

    def __getitem__(self, name: str) -> Tensor:
        value: Tensor = self._buffers[_key(name)]  # type: ignore[assignment]  # all are registered with a tensor
        return value

    def __setitem__(self, name: str, value: Tensor) -> None:
        # one layout, whatever that of the parameter: sums then have the same bits before and after a file
        self._buffers[_key(name)] = value.detach().clone(memory_format=torch.contiguous_format)

    def __contains__(self, name: str) -> bool:
        return self[name].numel() > 0

    def clear(self) -> None:
        """Empty them all."""
        for key, value in self._buffers.items():
            self._buffers[key] = torch.empty(0, device=None if value is None else value.device)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for key, value in self._buffers.items():
            stored = state_dict.get(prefix + key)
            if stored is not None and value is not None and 0 in (stored.numel(), value.numel()):
                self._buffers[key] = torch.empty_like(stored, device=value.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


def names(embedder: Embedder) -> list[str]:
    """Names of all parameters that a session may train: those of a frozen first part are left out."""
    layers = [] if embedder.stem is None else embedder.stem.layers
    never = {id(parameter) for layer in layers for parameter in layer.parameters()}
    return [name for name, parameter in embedder.named_parameters() if id(parameter) not in never]


def trained(embedder: Embedder) -> dict[str, nn.Parameter]:
    """The parameters that are being trained now, by name: those of frozen BatchNorm layers are left out too."""
    every = dict(embedder.named_parameters())
    return {name: every[name] for name in names(embedder) if every[name].requires_grad}


def keep(values: PerParameter, parameters: Parameters) -> None:
    """Take down where the parameters are now."""
    for name, parameter in parameters.items():
        values[name] = parameter


def penalty(parameters: Parameters, anchor: PerParameter, importance: PerParameter) -> Tensor:
    """Σ F (θ − θ*)² over all parameters that have an importance, a scalar; 0 where none has."""
    terms = [
        quadratic(parameter, anchor[name], importance[name])
        for name, parameter in parameters.items()
        if name in importance
    ]
    return torch.stack(terms).sum() if terms else _nothing(parameters)


def one_by_one(images: Iterable[Batch], embedder: Embedder, total: int, limit: int) -> Iterator[tuple[Tensor, int]]:
    """At most about `limit` of `total` images, evenly from all classes: what `embedder` starts from, and the label.

    A gradient for each image by itself takes a pass for each, whatever the backbone is made of; the frozen part runs
    on whole batches before.
    """
    total, position = max(total, 1), -1
    limit = min(limit, total)
    for batch in images:
        starts = embedder.prepare(batch.images)
        for start, label in zip(starts, batch.labels.tolist(), strict=True):
            position += 1
            if position * limit // total != (position - 1) * limit // total:
                yield start[None], label


def mean_slope(
    values: Iterable[tuple[float, Tensor]], parameters: Parameters, of: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Σ_j w_j·h(∂v_j/∂θ) / Σ_j w_j for every parameter; none where there is no value.

    Args:
        values: weight w and scalar v of each term, one graph at a time.
        parameters: θ, by name.
        of: h, elementwise: the square, the absolute value.
    """
    sums: dict[str, Tensor] = {}
    weights = 0.0
    for weight, value in values:
        slopes = torch.autograd.grad(value, list(parameters.values()), retain_graph=True, allow_unused=True)
        for (name, parameter), slope in zip(parameters.items(), slopes, strict=True):
            term = torch.zeros_like(parameter) if slope is None else weight * of(slope.detach())
            sums[name] = sums[name] + term if name in sums else term
        weights += weight
    return {name: total / weights for name, total in sums.items()}


def _key(name: str) -> str:
    return name.replace(".", "/")


def _nothing(parameters: Parameters) -> Tensor:
    first = next(iter(parameters.values()), None)
    return torch.zeros((), device=None if first is None else first.device)
