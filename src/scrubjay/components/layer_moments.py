"""What old images did to a layer, in a few numbers: second moments of its inputs and of its effect on the embedding.

A layer's change ΔW moves the embedding of an image with inputs x by J ΔW x, J being the embedding's derivative by the
layer's output. Its mean square over the old images is, to second order and with the two factors taken apart as in
Kronecker-factored curvature (Martens and Grosse, ICML 2015; for convolutions Grosse and Martens, ICML 2016),

    E‖J ΔW x‖² ≈ tr(G ΔW A ΔWᵀ),   A = E[x xᵀ],   G = E[Jᵀ J]

A convolution moves an embedding by Σ_p J_p ΔW x_p over its positions p, whose contributions partly add up and partly
cancel. A is then the mean over positions, and G = c·E[Σ_p J_pᵀ J_p], with c such that the trace of the whole form is
exact: c = E‖Σ_p J_pᵀ v x_pᵀ‖² / (tr A · tr E[Σ_p J_pᵀ J_p]), for v ~ N(0, I).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from scrubjay.losses._linalg import eigh

Layer = nn.Conv2d | nn.Linear
Sums = tuple[Tensor, Tensor, Tensor]


class LowRank(nn.Module):
    """A symmetric positive matrix by its largest eigenvalues: M ≈ U diag(s) Uᵀ + r·I, for each of several groups.

    What the kept directions miss of the trace is spread evenly over all others, so that no direction is free.

    Args:
        groups: number of matrices.
        size: n of each, (n, n).
        rank: directions kept; all of them where n is smaller.

    Attributes:
        directions: float32 (groups, n, rank) U.
        excess: float32 (groups, 1, rank) s, eigenvalues less r.
        rest: float32 (groups, 1, 1) r.
    """

    directions: Tensor
    excess: Tensor
    rest: Tensor

    def __init__(self, groups: int, size: int, rank: int) -> None:
        super().__init__()
        self.rank = min(rank, size)
        self.register_buffer("directions", torch.zeros(groups, size, self.rank))
        self.register_buffer("excess", torch.zeros(groups, 1, self.rank))
        self.register_buffer("rest", torch.zeros(groups, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Rows x (groups, rows, n) → x M, of the same shape."""
        return (x @ self.directions * self.excess) @ self.directions.mT + self.rest * x

    @torch.no_grad()
    def mix(self, new: Tensor, share: float, name: str = "a matrix of second moments") -> None:
        """M ← (1 − a)·M + a·new, cut to the rank again.

        Args:
            new: (groups, n, n), symmetric.
            share: a, 0 … 1.
            name: what `new` is, for the error message.

        Raises:
            ConfigError: `new` contains NaN or infinity.
        """
        identity = torch.eye(new.shape[1], device=new.device).expand_as(new)
        mixed = (1 - share) * self(identity) + share * new
        values, vectors = eigh(mixed, name)
        values = values.clamp_min(0)
        others = values[:, : -self.rank]
        rest = others.mean(1) if others.shape[1] else values.new_zeros(len(values))
        self.directions.copy_(vectors[:, :, -self.rank :])
        self.excess.copy_((values[:, -self.rank :] - rest[:, None])[:, None])
        self.rest.copy_(rest[:, None, None])


class Moments(nn.Module):
    """A and G of one layer over all images that were shown.

    Args:
        layer: a convolution or a linear layer.
        rank: directions kept of each.
    """

    def __init__(self, layer: Layer, rank: int) -> None:
        super().__init__()
        groups, rows, columns = matrix(layer).shape
        self.inputs = LowRank(groups, columns, rank)
        self.effects = LowRank(groups, rows, rank)

    def forward(self, change: Tensor) -> Tensor:
        """ΔW (groups, rows, columns) → scalar tr(G ΔW A ΔWᵀ), in squared units of the embedding, an image."""
        moved: Tensor = self.effects(self.inputs(change).mT).mT
        return (moved * change).sum()


def layers(module: nn.Module, trained: bool = True) -> dict[str, Layer]:
    """The convolutions and linear layers by name: those that are trained, or all."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and (layer.weight.requires_grad or not trained)
    }


def matrix(layer: Layer) -> Tensor:
    """Weight, and bias as the last column, as (groups, outputs a group, inputs a group)."""
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    weight = layer.weight.reshape(groups, layer.weight.shape[0] // groups, -1)
    return weight if layer.bias is None else torch.cat([weight, layer.bias.reshape(groups, -1, 1)], 2)


def inputs(layer: Layer, x: Tensor, y: Tensor) -> Tensor:
    """What each output y is a product of: x (B, …) → (B, groups, inputs a group, positions)."""
    if isinstance(layer, nn.Linear):
        columns = x.reshape(len(x), -1, x.shape[-1]).mT[:, None]
    else:
        unfolded = F.unfold(_padded(layer, x, y), layer.kernel_size, layer.dilation, 0, layer.stride)
        columns = unfolded.reshape(len(x), layer.groups, -1, unfolded.shape[-1])
    return columns if layer.bias is None else torch.cat([columns, torch.ones_like(columns[:, :, :1])], 2)


def _padded(layer: nn.Conv2d, x: Tensor, y: Tensor) -> Tensor:
    """Images with their margin: of the numbers given, or what the outputs need, the odd one behind."""
    margins: list[int] = []
    for axis in (1, 0):  # the last first, as `pad` wants it
        reach = (y.shape[2 + axis] - 1) * layer.stride[axis] + layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        total = max(reach - x.shape[2 + axis], 0)
        given = layer.padding[axis] if not isinstance(layer.padding, str) else 0
        margins += [int(given)] * 2 if given else [total // 2, total - total // 2]
    return F.pad(x, margins)


def outputs(layer: Layer, y: Tensor) -> Tensor:
    """Outputs or their gradients: (B, …) → (B, groups, outputs a group, positions)."""
    if isinstance(layer, nn.Linear):
        return y.reshape(len(y), -1, y.shape[-1]).mT[:, None]
    return y.reshape(len(y), layer.groups, -1, y.shape[2] * y.shape[3])


class Watch:
    """Sums A and G of several layers over batches; the layers' hooks are there for the time of the block."""

    def __init__(self, watched: dict[str, Layer]) -> None:
        self.watched = watched
        self.images = 0
        self.sums: dict[str, Sums] = {}
        self._seen: dict[str, tuple[Tensor, Tensor]] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Watch:
        for name, layer in self.watched.items():
            self._handles.append(layer.register_forward_hook(self._noting(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _noting(self, name: str):  # type: ignore[no-untyped-def]  # a hook, whose type torch spells in a page
        def note(_: nn.Module, x: tuple[Tensor, ...], y: Tensor) -> None:
            self._seen[name] = (x[0].detach(), y)

        return note

    def add(self, z: Tensor) -> None:
        """Take the batch that has just run through the layers and gave the embeddings z (B, d).

        Jᵀ J is estimated with one random direction v an image: E[(Jᵀv)(Jᵀv)ᵀ] = Jᵀ J for v ~ N(0, I).
        """
        direction = torch.randn(z.shape).to(z)
        seen = {name: self._seen[name] for name in self.watched}
        slopes = torch.autograd.grad((z * direction).sum(), [y for _, y in seen.values()])
        for (name, (x, y)), slope in zip(seen.items(), slopes, strict=True):
            columns, rows = inputs(self.watched[name], x, y), outputs(self.watched[name], slope.detach())
            new: Sums = (
                torch.einsum("bgip,bgjp->gij", columns, columns) / columns.shape[-1],
                torch.einsum("bgip,bgjp->gij", rows, rows),
                _together(rows, columns),
            )
            before = self.sums.get(name)
            self.sums[name] = new if before is None else _added(before, new)
        self.images += len(z)
        self._seen.clear()

    def means(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Name, A and G of every layer, means over the images."""
        for name, sums in self.sums.items():
            A, G, whole = (total / self.images for total in sums)
            apart = _trace(A) * _trace(G)
            yield name, A, G * (whole / apart.clamp_min(torch.finfo(apart.dtype).tiny))[:, None, None]


def _together(rows: Tensor, columns: Tensor) -> Tensor:
    """Σ over images of ‖Σ_p r_p c_pᵀ‖², written in the smaller of two ways: (B, groups, ·, P) → (groups,)."""
    outputs, positions = rows.shape[2:]
    if outputs * columns.shape[2] <= positions**2:
        return torch.einsum("bgip,bgjp->bgij", rows, columns).square().sum((0, 2, 3))
    return ((rows.mT @ rows) * (columns.mT @ columns)).sum((0, 2, 3))


def _added(a: Sums, b: Sums) -> Sums:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)
