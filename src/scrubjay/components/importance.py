"""Importance of each parameter of the embedder, and the quadratic penalty weighted by it: base of EWC, MAS and SI.

Only the embedder's parameters are penalised. The head is left out: the cross entropy runs over the new classes alone,
so that the rows of old classes get no gradient and a penalty would have nothing to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from scrubjay.components.verbs import Pass, Verbs
from scrubjay.losses.quadratic import quadratic
from scrubjay.models.embedder import Embedder, Network
from scrubjay.types import Batch, Losses, Session

Parameters = Mapping[str, nn.Parameter]


class PerParameter(nn.Module):
    """One tensor per named parameter, saved and restored with the method; empty, of 0 bytes, until it is set.

    Its keys in a `state_dict` never change; loading resizes tensors that are empty on either side.
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
        """Empty all tensors."""
        for key, value in self._buffers.items():
            self._buffers[key] = torch.empty(0, device=None if value is None else value.device)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for key, value in self._buffers.items():
            stored = state_dict.get(prefix + key)
            if stored is not None and value is not None and 0 in (stored.numel(), value.numel()):
                self._buffers[key] = torch.empty_like(stored, device=value.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


class ImportancePenalty(Verbs):
    """Adds c Σ_i Ω_i (θ_i − θ*_i)² to the objective from the second session on.

    θ* are the embedder's parameters at the start of the session. How Ω is computed, at the end of a session, is up to
    the method.

    Attributes:
        anchor: θ*, while a session lasts.
        term: name of the penalty among the terms of the objective.
        stored_as: name of Ω in a `state_dict`, hence in files.
    """

    has_memory = True
    term: ClassVar[str]
    stored_as: ClassVar[str] = "omega"

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.anchor = PerParameter(names(network.embedder))
        self.add_module(self.stored_as, PerParameter(names(network.embedder)))

    @property
    def importance(self) -> PerParameter:
        """Ω, for each parameter that has been trained."""
        value: PerParameter = getattr(self, self.stored_as)
        return value

    @property
    def factor(self) -> float:
        """c, the factor on the sum."""
        weight: float = self.options.weight
        return weight

    def begin(self, session: Session) -> None:
        """Store θ*."""
        super().begin(session)
        keep(self.anchor, trained(self.network.embedder))

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy and metric loss; from the second session on also the penalty."""
        losses = super().loss(batch)
        if self.has_past:
            losses[self.term] = self.factor * self.penalty()
        return losses

    def penalty(self) -> Tensor:
        """Σ_i Ω_i (θ_i − θ*_i)², a scalar."""
        return penalty(trained(self.network.embedder), self.anchor, self.importance)


class SampledImportance(ImportancePenalty):
    """Ω from one gradient per image, taken at the end of a session over at most `options.images` images."""

    def end(self, session: Session, images: Pass) -> None:
        """Compute the importance over this session's images and merge it into Ω."""
        super().end(session, images)
        self.anchor.clear()
        self.eval()  # BatchNorm cannot take statistics of single images
        embedder = self.network.embedder
        samples = one_by_one(images(), embedder, len(session.train), self.options.images)
        values = self.values(samples, session)
        for name, new in mean_slope(values, trained(embedder), self.measure).items():
            old = self.importance[name] if name in self.importance else None  # noqa: SIM401  # it has no `get`
            self.importance[name] = self.merge(new, old)

    def values(self, samples: Iterator[tuple[Tensor, int]], session: Session) -> Iterator[tuple[float, Tensor]]:
        """Weight and value of each scalar whose gradient is taken, from images (1, …) and their labels."""
        raise NotImplementedError

    def measure(self, gradient: Tensor) -> Tensor:
        """Importance by one gradient, elementwise: its square or its absolute value."""
        raise NotImplementedError

    def merge(self, new: Tensor, old: Tensor | None) -> Tensor:
        """Ω after the session, from its own importance and the Ω before it (None after the first)."""
        raise NotImplementedError


def names(embedder: Embedder) -> list[str]:
    """Names of all parameters that a session may train: those of the frozen first layers are left out."""
    layers = [] if embedder.stem is None else embedder.stem.layers
    never = {id(parameter) for layer in layers for parameter in layer.parameters()}
    return [name for name, parameter in embedder.named_parameters() if id(parameter) not in never]


def trained(embedder: Embedder) -> dict[str, nn.Parameter]:
    """The parameters that are trained now, by name: those of frozen BatchNorm layers are left out too."""
    every = dict(embedder.named_parameters())
    return {name: every[name] for name in names(embedder) if every[name].requires_grad}


def keep(values: PerParameter, parameters: Parameters) -> None:
    """Copy the current values of the parameters into `values`."""
    for name, parameter in parameters.items():
        values[name] = parameter


def penalty(parameters: Parameters, anchor: PerParameter, importance: PerParameter) -> Tensor:
    """Σ F (θ − θ*)² over all parameters that have an importance, a scalar; 0 where none has one."""
    terms = [
        quadratic(parameter, anchor[name], importance[name])
        for name, parameter in parameters.items()
        if name in importance
    ]
    return torch.stack(terms).sum() if terms else zero(parameters)


def zero(parameters: Parameters) -> Tensor:
    """A scalar 0 on the device of the parameters."""
    first = next(iter(parameters.values()), None)
    return torch.zeros((), device=None if first is None else first.device)


def one_by_one(images: Iterable[Batch], embedder: Embedder, total: int, limit: int) -> Iterator[tuple[Tensor, int]]:
    """At most about `limit` of `total` images, spread evenly over the pass, one at a time with their labels.

    Each is given as the output of the frozen first layers, which run on whole batches; a gradient per image then takes
    one forward pass per image, whatever the backbone consists of.
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
    values: Iterable[tuple[float, Tensor]], parameters: Parameters, measure: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Σ_j w_j·h(∂v_j/∂θ) / Σ_j w_j for every parameter; an empty dict where there is no value.

    Args:
        values: weight w and scalar v of each term, one graph at a time.
        parameters: θ, by name.
        measure: h, elementwise: the square or the absolute value.
    """
    sums: dict[str, Tensor] = {}
    weights = 0.0
    for weight, value in values:
        slopes = torch.autograd.grad(value, list(parameters.values()), retain_graph=True, allow_unused=True)
        for (name, parameter), slope in zip(parameters.items(), slopes, strict=True):
            term = torch.zeros_like(parameter) if slope is None else weight * measure(slope.detach())
            sums[name] = sums[name] + term if name in sums else term
        weights += weight
    return {name: total / weights for name, total in sums.items()}


def _key(name: str) -> str:
    """The name of a parameter as the name of a buffer, which may not contain dots."""
    return name.replace(".", "/")
