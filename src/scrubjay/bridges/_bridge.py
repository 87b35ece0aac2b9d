"""A map between two embedding spaces, as the numbers that it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_UNIT = 1e-6
"""Rows that are nearer to length 1 than this are left to the bit as they are."""

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Bridge:
    """Carries vectors of one embedding space into another; the rows that come out have length 1.

    z → normalise(W z + b + W₂ relu(W₁ z + b₁) + b₂), where each part that is not there counts as nothing, and W as the
    identity. A chain does several of these, one after the other; the names of its tensors begin with `0.`, `1.`, …

    Attributes:
        kind: how it was fitted, `chain`, or what it was learned as.
        tensors: float32 `weight` W (d', d), `bias` b (d',), `hidden.weight` W₁ (h, d), `hidden.bias` (h,),
            `out.weight` W₂ (d', h), `out.bias` (d',). None at all: the identity, of any dimension.
    """

    kind: str
    tensors: Tensors = field(default_factory=dict)

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Carry vectors (N, d) over: float32 (N, d'), unit rows."""
        carried = unit(vectors)
        for step in self.steps():
            carried = unit(_affine(step, carried) + _perceptron(step, carried))
        return carried

    def steps(self) -> Iterator[Tensors]:
        """The tensors of each of its steps: none for the identity, several for a chain."""
        if self.kind != "chain":
            yield from [self.tensors] if self.tensors else []
            return
        for number in range(1 + max((int(key.partition(".")[0]) for key in self.tensors), default=-1)):
            prefix = f"{number}."
            yield {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def compose(*bridges: Bridge) -> Bridge:
    """One bridge that does all of them, from left to right; of none, the identity."""
    lasting = [bridge for bridge in bridges if bridge.tensors]
    if len(lasting) <= 1:
        return lasting[0] if lasting else Bridge("identity")
    steps = [step for bridge in lasting for step in bridge.steps()]
    return Bridge(
        "chain", {f"{number}.{key}": value for number, step in enumerate(steps) for key, value in step.items()}
    )


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row of zeros, which has no direction, becomes the first axis.

    Rows that have length 1 already come back to the bit, so that to normalise twice is to normalise once.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    wrong = np.abs(lengths - 1) > _UNIT
    if not wrong.any():
        return vectors
    result = vectors.copy()
    longest = np.abs(vectors[wrong]).max(1, initial=0, keepdims=True).astype(np.float64)
    scaled = vectors[wrong] / np.where(longest > 0, longest, 1)  # squares of tiny numbers would be zero
    scaled[longest[:, 0] == 0, :1] = 1
    result[wrong] = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return result


def _affine(step: Tensors, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    carried = vectors @ step["weight"].T if "weight" in step else vectors
    return carried + step["bias"] if "bias" in step else carried


def _perceptron(step: Tensors, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    if "hidden.weight" not in step:
        return np.zeros((), np.float32)
    hidden = np.maximum(vectors @ step["hidden.weight"].T + step["hidden.bias"], 0)
    carried: NDArray[np.float32] = hidden @ step["out.weight"].T + step["out.bias"]
    return carried
