"""The metric loss of a method by its name: our own, or any of pytorch-metric-learning."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from scrubjay import _compat as compat
from scrubjay.errors import ConfigError
from scrubjay.losses.metric.contrastive import contrastive
from scrubjay.losses.metric.multi_similarity import multi_similarity
from scrubjay.losses.metric.proxy_anchor import proxy_anchor
from scrubjay.losses.metric.supcon import supcon
from scrubjay.losses.metric.triplet import triplet

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "triplet": triplet,
    "contrastive": contrastive,
    "proxy-anchor": proxy_anchor,
    "multi-similarity": multi_similarity,
    "supcon": supcon,
}
PEER = "pml:"


class MetricOptions(Protocol):
    """The options of a method that say which metric loss it takes."""

    @property
    def metric(self) -> str: ...
    @property
    def metric_options(self) -> dict[str, Any]: ...
    @property
    def margin(self) -> float: ...
    @property
    def mining(self) -> str: ...


class Metric(nn.Module):
    """A metric loss on embeddings and the labels of a session, counted from 0.

    What it learns (proxies, the weights of a classifying loss) lives for one session: `begin` makes it anew.

    Args:
        options: which, and how.
        dim: d of the embeddings.

    Raises:
        ConfigError: the loss or one of its options is unknown, or its package is not installed.
    """

    def __init__(self, options: MetricOptions, dim: int) -> None:
        super().__init__()
        self.name = options.metric.removeprefix(PEER)
        self.options = dict(options.metric_options)
        self.dim = dim
        self.peer: nn.Module | None = None
        self.proxies: nn.Parameter | None = None
        self.function: Callable[..., Tensor] | None = None
        if options.metric.startswith(PEER):
            self.kind = _peer(self.name)
        elif options.metric != "none":
            self.function = _function(self.name, self.options)
        if self.name == "triplet":
            self.options = {"margin": options.margin, "mining": options.mining, **self.options}
        self.begin(1)

    def begin(self, classes: int) -> None:
        """Room for the classes of a session; what was learned for another is dropped."""
        if self.function is proxy_anchor:
            self.proxies = nn.Parameter(torch.randn(classes, self.dim))
        if hasattr(self, "kind"):
            self.peer = self._make(classes)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Unit embeddings (B, d) and labels (B,) int64 in 0 … classes − 1 → scalar.

        Raises:
            ConfigError: the loss of pytorch-metric-learning is not one of embeddings and labels alone.
        """
        if self.peer is not None:
            try:
                value: Tensor = self.peer(z, labels)
            except (TypeError, ValueError, NotImplementedError) as error:
                raise ConfigError(
                    f"metric 'pml:{self.name}' cannot be had of embeddings and labels ({error}); take another."
                ) from None
            return value
        assert self.function is not None
        proxies = () if self.proxies is None else (self.proxies,)
        return self.function(z, labels, *proxies, **self.options)

    def _make(self, classes: int) -> nn.Module:
        own = {"num_classes": classes, "embedding_size": self.dim}
        needed = _arguments(self.kind)
        try:
            made: nn.Module = self.kind(**{key: own[key] for key in own if key in needed}, **self.options)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"metric 'pml:{self.name}': {error}; set method.metric_options to what it takes."
            ) from None
        return made


def _arguments(kind: type) -> set[str]:
    """What a class takes, with what it hands on to those that it derives from as `**kwargs`."""
    names: set[str] = set()
    for each in kind.__mro__:
        if "__init__" in vars(each):
            parameters = inspect.signature(vars(each)["__init__"]).parameters
            names |= parameters.keys()
            if all(parameter.kind != inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    return names


def _function(name: str, options: dict[str, Any]) -> Callable[..., Tensor]:
    if name not in FUNCTIONS:
        near = difflib.get_close_matches(name, FUNCTIONS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown metric {name!r}.{hint} Known: {', '.join(FUNCTIONS)}, none, pml:NAME.")
    known = [key for key in inspect.signature(FUNCTIONS[name]).parameters if key not in ("z", "labels", "proxies")]
    for key in options:
        if key not in known:
            raise ConfigError(f"metric {name!r} has no option {key!r}; it has: {', '.join(known)}.")
    return FUNCTIONS[name]


def _peer(name: str) -> Any:
    try:
        losses = compat.load("pytorch_metric_learning.losses")
    except ImportError:
        raise ConfigError(
            f"metric 'pml:{name}' needs pytorch-metric-learning: pip install 'scrubjay[metric]'."
        ) from None
    found = getattr(losses, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        names = [key for key in dir(losses) if key.endswith("Loss")]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"pytorch-metric-learning has no loss {name!r}.{hint} It has: {', '.join(names)}.")
    return found
