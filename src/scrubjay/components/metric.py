"""The metric loss of a method by its name: a file of `losses.metric`, or any loss of pytorch-metric-learning."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from scrubjay import _compat as compat
from scrubjay import plugins
from scrubjay.errors import ConfigError

EXTERNAL = "pml:"
"""Prefix of a loss of pytorch-metric-learning."""
_GIVEN = ("z", "labels", "proxies")
"""Parameters of a metric loss that are not options."""


class MetricOptions(Protocol):
    """The options of a method that select its metric loss.

    A loss may read further options of the method, those that its file names in `FROM_METHOD`.
    """

    @property
    def metric(self) -> str: ...
    @property
    def metric_options(self) -> dict[str, Any]: ...


def names() -> list[str]:
    """Names of the metric losses that come with this package, as recipes write them.

    >>> names()
    ['contrastive', 'multi-similarity', 'proxy-anchor', 'supcon', 'triplet']
    """
    return [name.replace("_", "-") for name in plugins.names("losses.metric")]


class Metric(nn.Module):
    """A metric loss on embeddings and the labels of a session, counted from 0.

    Its learned parameters (proxies, the weights of a classifying loss) last for one session: `begin` replaces them.

    Args:
        options: which loss, and its options.
        dim: d of the embeddings.

    Attributes:
        name: name of the loss among the terms of the objective.
        function: the loss, where it is one of ours.
        peer: the loss, where it is one of pytorch-metric-learning.
        proxies: one learned vector per class (C, d), where the loss takes them.

    Raises:
        ConfigError: the loss or one of its options is unknown, or its package is not installed.
    """

    def __init__(self, options: MetricOptions, dim: int) -> None:
        super().__init__()
        self.name = options.metric.removeprefix(EXTERNAL)
        self.options = dict(options.metric_options)
        self.dim = dim
        self.peer: nn.Module | None = None
        self.proxies: nn.Parameter | None = None
        self.function: Callable[..., Tensor] | None = None
        if options.metric.startswith(EXTERNAL):
            self.kind = _external(self.name)
        elif options.metric != "none":
            self.function = _function(self.name, self.options)
            self.options = {**_from_method(self.function, options), **self.options}
        self.begin(1)

    def begin(self, classes: int) -> None:
        """Create the learned parameters for the classes of a session; those of the last session are dropped."""
        if self.function is not None and "proxies" in inspect.signature(self.function).parameters:
            self.proxies = nn.Parameter(torch.randn(classes, self.dim))
        if hasattr(self, "kind"):
            self.peer = self._make(classes)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Unit embeddings (B, d) and labels (B,) int64 in 0 … classes − 1 → scalar.

        Raises:
            ConfigError: the loss of pytorch-metric-learning is not a function of embeddings and labels alone.
        """
        if self.peer is not None:
            try:
                value: Tensor = self.peer(z, labels)
            except (TypeError, ValueError, NotImplementedError) as error:
                raise ConfigError(
                    f"metric 'pml:{self.name}' cannot be computed from embeddings and labels ({error}); "
                    "choose another loss."
                ) from None
            return value
        assert self.function is not None
        proxies = {} if self.proxies is None else {"proxies": self.proxies}
        return self.function(z, labels, **proxies, **self.options)

    def _make(self, classes: int) -> nn.Module:
        sizes = {"num_classes": classes, "embedding_size": self.dim}
        parameters = _parameters(self.kind)
        given = {key: value for key, value in sizes.items() if key in parameters}
        try:
            loss: nn.Module = self.kind(**given, **self.options)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"metric 'pml:{self.name}': {error}; set method.metric_options to the arguments that it takes."
            ) from None
        return loss


def _parameters(kind: type) -> set[str]:
    """Names of a class's parameters, including those that it passes to its bases as `**kwargs`."""
    names: set[str] = set()
    for base in kind.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters
            names |= parameters.keys()
            if all(parameter.kind != inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    return names


def _function(name: str, options: dict[str, Any]) -> Callable[..., Tensor]:
    if name not in names():
        hint = plugins.closest(name, names())
        raise ConfigError(f"unknown metric {name!r}.{hint} Known: {', '.join(names())}, none, pml:NAME.")
    function: Callable[..., Tensor] = plugins.load_function("losses.metric", name.replace("-", "_"))
    known = [key for key in inspect.signature(function).parameters if key not in _GIVEN]
    for key in options:
        if key not in known:
            raise ConfigError(f"metric {name!r} has no option {key!r}; it has: {', '.join(known)}.")
    return function


def _from_method(function: Callable[..., Tensor], options: MetricOptions) -> dict[str, Any]:
    """Values of the method's options that the file of the loss names in `FROM_METHOD`."""
    return {key: getattr(options, key) for key in getattr(sys.modules[function.__module__], "FROM_METHOD", ())}


def _external(name: str) -> Any:
    try:
        losses = compat.load("pytorch_metric_learning.losses")
    except ImportError:
        raise ConfigError(
            f"metric 'pml:{name}' needs pytorch-metric-learning: pip install 'scrubjay[metric]'."
        ) from None
    kind = getattr(losses, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        known = [key for key in dir(losses) if key.endswith("Loss")]
        hint = plugins.closest(name, known)
        raise ConfigError(f"pytorch-metric-learning has no loss {name!r}.{hint} It has: {', '.join(known)}.")
    return kind
