"""Computes losses in float32 at least, whatever the precision of training.

Differences of nearly equal numbers (distances of embeddings that hardly moved, sums of kernels) lose all digits in
bfloat16 or half precision, and inside an autocast region even the product of two float32 matrices is computed in
bfloat16.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def _wide(value: Any) -> Any:
    narrow = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if narrow else value


def full_precision(loss: Callable[P, R]) -> Callable[P, R]:
    """Decorate `loss` so that bfloat16 and float16 arguments are cast to float32 and autocast is off inside.

    float64 stays float64. Gradients have the dtype of the argument that they belong to.
    """

    @functools.wraps(loss)
    def wide(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*map(_wide, args), **{name: _wide(value) for name, value in kwargs.items()})

    return wide
