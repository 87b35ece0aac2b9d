"""The forward pass of one batch through the trunk, shared by the processes of a group.

Every process holds the whole batch and the same weights. The trunk maps only the process's own part of the images, and
all parts of the features are gathered, so that whatever follows (projection, head, every loss, memories and penalties)
is computed by all processes alike from the whole batch. That makes the objective that of one process, also where a loss
compares images with each other.

For the gradient, the part of a process is weighted by the number of processes, and the gradients of parameters are
averaged over them afterwards: (1/n) Σ_r n·J_rᵀ g_r = Σ_r J_rᵀ g_r for parameters of the trunk, which every process sees
in part, and (1/n) Σ_r g = g for all that is computed alike. A parameter may take part in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from scrubjay.models.embedder import Embedder
from scrubjay.workers.ranks import Group


class SharedBatch:
    """Splits batches between the processes of a group, and gathers what they compute.

    Args:
        group: the processes.
    """

    def __init__(self, group: Group) -> None:
        self.group = group

    def own(self, batch: Any) -> Any:
        """This process's part of a list or tensor: contiguous, of the same size as the others or one more."""
        size, rank = self.group.size, self.group.rank
        return batch[len(batch) * rank // size : len(batch) * (rank + 1) // size]

    def gather(self, own: Tensor) -> Tensor:
        """All parts one after another (B, …), from this process's part; the gradient is as described above."""
        gathered: Tensor = _Gather.apply(own, self.group)  # type: ignore[no-untyped-call]
        return gathered

    def __call__(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """A function of images, one row each, of the whole batch (B, …)."""
        return self.gather(function(self.own(images)))


@contextmanager
def sharing(module: nn.Module, group: Group) -> Iterator[SharedBatch]:
    """Inside the block all embedders in the module share their batches.

    BatchNorm layers in training mode take the statistics of the whole batch.

    Args:
        module: a method with its networks.
        group: the processes; each holds the same weights.
    """
    embedders = [each for each in module.modules() if isinstance(each, Embedder)]
    layers = [each for one in embedders for each in one.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    shared = SharedBatch(group)
    for embedder in embedders:
        embedder.shared = shared
    for layer in layers:
        layer.forward = _SharedBatchNorm(layer, layer.forward)  # type: ignore[assignment, method-assign]
    try:
        yield shared
    finally:
        for embedder in embedders:
            embedder.shared = None
        for layer in layers:
            del layer.forward


def average_gradients(module: nn.Module, group: Group) -> None:
    """Replace the gradients of all trained parameters by their means over the processes."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    total = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(total)
    parts = torch.split(total / group.size, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


class _SharedBatchNorm:
    """The forward pass of a BatchNorm layer with the statistics of all processes; torch has it for GPUs alone."""

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm, alone: Callable[[Tensor], Tensor]) -> None:
        self.layer, self.alone = layer, alone

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        if not layer.training:
            return self.alone(x)
        dims = [dim for dim in range(x.ndim) if dim != 1]
        wide = x.float()
        count = float(_summed(wide.new_tensor(float(x.numel() // x.shape[1]))))
        mean = _summed(wide.sum(dims)) / count
        centred = wide - _column(mean, x)
        variance = _summed(centred.square().sum(dims)) / count
        self._track(mean.detach(), variance.detach() * count / max(count - 1, 1))
        y = centred * _column((variance + layer.eps).rsqrt(), x)
        if layer.affine:
            y = y * _column(layer.weight, x) + _column(layer.bias, x)
        y = y.to(x)
        for part in ("drop", "act"):  # timm's layers include an activation
            if isinstance(after := getattr(layer, part, None), nn.Module):
                y = after(y)
        return y

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        layer = self.layer
        if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
            return
        layer.num_batches_tracked += 1
        share = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
        layer.running_mean.lerp_(mean.to(layer.running_mean), share)
        layer.running_var.lerp_(variance.to(layer.running_var), share)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.ndim - 2))


def _summed(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, group: Group) -> Tensor:
        counts = [torch.zeros(1, dtype=torch.int64, device=own.device) for _ in range(group.size)]
        distributed.all_gather(counts, torch.tensor([len(own)], device=own.device))
        rows = [int(count) for count in counts]
        ctx.start, ctx.rows, ctx.size = sum(rows[: group.rank]), len(own), group.size
        padded = F.pad(own.contiguous(), (0, 0) * (own.ndim - 1) + (0, max(rows) - len(own)))
        parts = [torch.empty_like(padded) for _ in range(group.size)]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:number] for part, number in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.size * gradient[ctx.start : ctx.start + ctx.rows], None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total
