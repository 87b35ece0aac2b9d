"""A map between two embedding spaces, represented by its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_UNIT = 1e-6
"""Rows whose length differs from 1 by no more than this are not normalised again."""

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Bridge:
    """Maps vectors of one embedding space to unit vectors of another.

    z → normalise(W z + b + W₂ relu(W₁ z + b₁) + b₂). A missing W is the identity, other missing terms are zero. A
    chain applies several of these maps in sequence; the names of its tensors begin with `0.`, `1.`, ….

    Attributes:
        kind: name of the fitter, `chain` for a composition, or `projection` for a map learned with the network.
        tensors: float32 `weight` W (d', d), `bias` b (d',), `hidden.weight` W₁ (h, d), `hidden.bias` b₁ (h,),
            `out.weight` W₂ (d', h), `out.bias` b₂ (d',). Without any tensor it is the identity in any dimension.
    """

    kind: str
    tensors: Tensors = field(default_factory=dict)

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map vectors (N, d) to the other space: float32 (N, d'), unit rows."""
        mapped = unit(vectors)
        for step in self.steps():
            mapped = unit(_affine(step, mapped) + _perceptron(step, mapped))
        return mapped

    def steps(self) -> Iterator[Tensors]:
        """The tensors of each map in sequence: no map for the identity, several for a chain."""
        if self.kind != "chain":
            if self.tensors:
                yield self.tensors
            return
        for number in range(1 + max((int(key.partition(".")[0]) for key in self.tensors), default=-1)):
            prefix = f"{number}."
            yield {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def compose(*bridges: Bridge) -> Bridge:
    """One bridge that applies the given ones from left to right; without any, the identity."""
    not_identity = [bridge for bridge in bridges if bridge.tensors]
    if not not_identity:
        return Bridge("identity")
    if len(not_identity) == 1:
        return not_identity[0]
    steps = [step for bridge in not_identity for step in bridge.steps()]
    return Bridge(
        "chain", {f"{number}.{key}": value for number, step in enumerate(steps) for key, value in step.items()}
    )


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalise rows (N, d) to length 1; a row of zeros becomes the first basis vector.

    Rows that have length 1 already are returned to the bit, so normalising is idempotent.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    not_unit = np.abs(lengths - 1) > _UNIT
    if not not_unit.any():
        return vectors
    result = vectors.copy()
    largest = np.abs(vectors[not_unit]).max(1, initial=0, keepdims=True).astype(np.float64)
    scaled = vectors[not_unit] / np.where(largest > 0, largest, 1)  # squares of tiny numbers would underflow to zero
    scaled[largest[:, 0] == 0, :1] = 1
    result[not_unit] = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return result


def _affine(step: Tensors, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    mapped = vectors @ step["weight"].T if "weight" in step else vectors
    return mapped + step["bias"] if "bias" in step else mapped


def _perceptron(step: Tensors, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    if "hidden.weight" not in step:
        return np.zeros((), np.float32)
    hidden = np.maximum(vectors @ step["hidden.weight"].T + step["hidden.bias"], 0)
    mapped: NDArray[np.float32] = hidden @ step["out.weight"].T + step["out.bias"]
    return mapped
