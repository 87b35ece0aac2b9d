"""Second moments of a layer's inputs and of its effect on the embedding, for a penalty on changes of its weights.

A change ΔW of a layer moves the embedding of an image with inputs x by J ΔW x, J being the derivative of the embedding
by the layer's output. Its mean square over the old images is, to second order and with the two factors taken as
independent as in Kronecker-factored curvature (Martens and Grosse, ICML 2015; for convolutions Grosse and Martens,
ICML 2016),

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
    """Low-rank approximation of a positive semidefinite matrix, M ≈ U diag(s) Uᵀ + r·I, for each of several groups.

    The rest of the trace is spread evenly over all other directions, so that these are penalised too.

    Args:
        groups: number of matrices.
        size: n; each matrix is (n, n).
        rank: number of eigenvectors kept; n where n is smaller.

    Attributes:
        directions: float32 (groups, n, rank) U.
        excess: float32 (groups, 1, rank) s, the largest eigenvalues minus r.
        rest: float32 (groups, 1, 1) r, the mean of the other eigenvalues.
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
        """Multiply rows x (groups, rows, n) by M; the result has the same shape."""
        return (x @ self.directions * self.excess) @ self.directions.mT + self.rest * x

    @torch.no_grad()
    def mix(self, new: Tensor, share: float, name: str = "a matrix of second moments") -> None:
        """M ← (1 − a)·M + a·new, reduced to the rank again.

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
        smaller = values[:, : -self.rank]
        rest = smaller.mean(1) if smaller.shape[1] else values.new_zeros(len(values))
        self.directions.copy_(vectors[:, :, -self.rank :])
        self.excess.copy_((values[:, -self.rank :] - rest[:, None])[:, None])
        self.rest.copy_(rest[:, None, None])


class Moments(nn.Module):
    """A and G of one layer, over the images of all sessions.

    Args:
        layer: a convolution or a linear layer.
        rank: number of eigenvectors kept of each.
    """

    def __init__(self, layer: Layer, rank: int) -> None:
        super().__init__()
        groups, rows, columns = matrix(layer).shape
        self.inputs = LowRank(groups, columns, rank)
        self.effects = LowRank(groups, rows, rank)

    def forward(self, change: Tensor) -> Tensor:
        """ΔW (groups, rows, columns) → scalar tr(G ΔW A ΔWᵀ), a squared embedding distance averaged over images."""
        moved: Tensor = self.effects(self.inputs(change).mT).mT
        return (moved * change).sum()


def layers(module: nn.Module, trained: bool = True) -> dict[str, Layer]:
    """The convolutions and linear layers of a module by name: only those that are trained, or all."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and (layer.weight.requires_grad or not trained)
    }


def matrix(layer: Layer) -> Tensor:
    """The weight, with the bias as last column, as (groups, outputs per group, inputs per group)."""
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    weight = layer.weight.reshape(groups, layer.weight.shape[0] // groups, -1)
    return weight if layer.bias is None else torch.cat([weight, layer.bias.reshape(groups, -1, 1)], 2)


def inputs(layer: Layer, x: Tensor, y: Tensor) -> Tensor:
    """The vectors that the layer's matrix is multiplied with: x (B, …) → (B, groups, inputs per group, positions)."""
    if isinstance(layer, nn.Linear):
        columns = x.reshape(len(x), -1, x.shape[-1]).mT[:, None]
    else:
        unfolded = F.unfold(_padded(layer, x, y), layer.kernel_size, layer.dilation, 0, layer.stride)
        columns = unfolded.reshape(len(x), layer.groups, -1, unfolded.shape[-1])
    return columns if layer.bias is None else torch.cat([columns, torch.ones_like(columns[:, :, :1])], 2)


def _padded(layer: nn.Conv2d, x: Tensor, y: Tensor) -> Tensor:
    """Pad x as the layer does: by its numbers, or by what the size of y requires, an odd pixel at the end."""
    margins: list[int] = []
    for axis in (1, 0):  # the last axis first, as `pad` expects
        reach = (y.shape[2 + axis] - 1) * layer.stride[axis] + layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        total = max(reach - x.shape[2 + axis], 0)
        given = layer.padding[axis] if not isinstance(layer.padding, str) else 0
        margins += [int(given)] * 2 if given else [total // 2, total - total // 2]
    return F.pad(x, margins)


def outputs(layer: Layer, y: Tensor) -> Tensor:
    """Reshape outputs or their gradients (B, …) to (B, groups, outputs per group, positions)."""
    if isinstance(layer, nn.Linear):
        return y.reshape(len(y), -1, y.shape[-1]).mT[:, None]
    return y.reshape(len(y), layer.groups, -1, y.shape[2] * y.shape[3])


class MomentRecorder:
    """Accumulates A and G of several layers over batches; a context manager that holds hooks on these layers.

    Attributes:
        layers: the layers by name.
        images: number of images so far.
        sums: per layer the sums of A, G and the squared norm of the convolution's full form.
    """

    def __init__(self, layers: dict[str, Layer]) -> None:
        self.layers = layers
        self.images = 0
        self.sums: dict[str, Sums] = {}
        self._seen: dict[str, tuple[Tensor, Tensor]] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> MomentRecorder:
        for name, layer in self.layers.items():
            self._handles.append(layer.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str):  # type: ignore[no-untyped-def]  # the type of a hook is very long
        def store(_: nn.Module, x: tuple[Tensor, ...], y: Tensor) -> None:
            self._seen[name] = (x[0].detach(), y)

        return store

    def add(self, z: Tensor) -> None:
        """Add the batch that has just been through the layers, with embeddings z (B, d).

        Jᵀ J is estimated with one random direction v per image: E[(Jᵀv)(Jᵀv)ᵀ] = Jᵀ J for v ~ N(0, I).
        """
        direction = torch.randn(z.shape).to(z)
        seen = {name: self._seen[name] for name in self.layers}
        slopes = torch.autograd.grad((z * direction).sum(), [y for _, y in seen.values()])
        for (name, (x, y)), slope in zip(seen.items(), slopes, strict=True):
            columns, rows = inputs(self.layers[name], x, y), outputs(self.layers[name], slope.detach())
            new: Sums = (
                torch.einsum("bgip,bgjp->gij", columns, columns) / columns.shape[-1],
                torch.einsum("bgip,bgjp->gij", rows, rows),
                _joint_norm(rows, columns),
            )
            before = self.sums.get(name)
            self.sums[name] = new if before is None else _added(before, new)
        self.images += len(z)
        self._seen.clear()

    def means(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Name, A and G of every layer, averaged over the images."""
        for name, sums in self.sums.items():
            A, G, exact = (total / self.images for total in sums)
            factored = _trace(A) * _trace(G)
            yield name, A, G * (exact / factored.clamp_min(torch.finfo(factored.dtype).tiny))[:, None, None]


def _joint_norm(rows: Tensor, columns: Tensor) -> Tensor:
    """Σ over images of ‖Σ_p r_p c_pᵀ‖², with the smaller of two intermediates: (B, groups, ·, P) → (groups,)."""
    outputs, positions = rows.shape[2:]
    if outputs * columns.shape[2] <= positions**2:
        return torch.einsum("bgip,bgjp->bgij", rows, columns).square().sum((0, 2, 3))
    return ((rows.mT @ rows) * (columns.mT @ columns)).sum((0, 2, 3))


def _added(a: Sums, b: Sums) -> Sums:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)
