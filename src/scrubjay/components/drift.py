"""Drift compensation: stored vectors are moved by the drift of the session's images between old and new network.

sdc    Δ_c = Σ w_i (z_n,i − z_o,i) / Σ w_i,   w_i = exp(−‖z_o,i − μ_c‖² / 2σ²), σ = 0.3 (Yu et al., CVPR 2020)
ldc    μ_c ← A μ_c,   A = argmin Σ_i ‖A z_o,i − z_n,i‖², no offset, by Adam (Gomez-Villa et al., LDC, ECCV 2024)
ridge  the same A in closed form, regularised towards the identity
adc    Δ_c = mean of z_n − z_o over images that were pushed onto μ_c in the old space (Goswami et al., CVPR 2024)

A stored unit vector is moved by its own Δ (sdc), by the same A (ldc, ridge), or by the Δ of its class (adc), and then
normalised; means are not normalised. Covariances and radii are not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, Protocol

import torch
from torch import Tensor

from scrubjay.components.memory import Memory
from scrubjay.losses.drift import drift
from scrubjay.losses.l2 import l2
from scrubjay.types import Batch

BLOCK = 256
"""Number of stored vectors that are compared with all images at a time."""

Drift = Literal["none", "sdc", "ldc", "ridge", "adc"]
Pass = Callable[[], Iterable[Batch]]
Move = Callable[[Tensor, Tensor], Tensor]
"""Maps stored vectors (V, d) of the old space with their labels int64 (V,) to the new space, (V, d)."""


class Space(Protocol):
    """What drift compensation needs of an embedder."""

    def prepare(self, images: Tensor) -> Tensor: ...
    def __call__(self, images: Tensor) -> Tensor: ...


@torch.no_grad()
def update_memory(memory: Memory, kind: Drift, teacher: Space | None, network: Space, batches: Pass) -> None:
    """At the end of a session: move what is stored, then add the statistics of the session's classes.

    Args:
        memory: statistics of the classes of earlier sessions.
        kind: how to estimate the drift; "none": what is stored is not moved.
        teacher: the embedder before the session; None in the initial one.
        network: the embedder after it.
        batches: gives one pass over the session's images.
    """
    moves = kind != "none" and teacher is not None and len(memory.known) > 0
    z_o, z_n, labels = embeddings(teacher if moves else None, network, batches)
    if moves and teacher is not None and len(z_n):
        device = memory.means.device
        move = _move(kind, memory, teacher, network, batches, z_o.to(device), z_n.to(device))
        means = move(memory.means, torch.arange(len(memory.means), device=device))
        memory.move(means, move(memory.vectors, memory.labels) if memory.budget else None)
    memory.keep(z_n, labels)


@torch.no_grad()
def embeddings(teacher: Space | None, network: Space, batches: Pass) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings z_o (empty without a teacher) and z_n (N, d) of a pass over images, and labels (N,), on the CPU."""
    old, new, labels = [torch.zeros(0)], [torch.zeros(0)], [torch.zeros(0, dtype=torch.int64)]
    for batch in batches():
        new.append(network(batch.images).float().cpu())
        labels.append(batch.labels.cpu())
        if teacher is not None:
            old.append(teacher(batch.images).float().cpu())
    z_o, z_n = (torch.cat(parts[1:] or parts) for parts in (old, new))
    return z_o, z_n, torch.cat(labels)


def _move(kind: Drift, memory: Memory, teacher: Space, network: Space, batches: Pass, z_o: Tensor, z_n: Tensor) -> Move:
    if kind == "sdc":
        return lambda stored, _: torch.cat([part + drift(z_o, z_n, part) for part in torch.split(stored, BLOCK)])
    if kind == "adc":
        deltas = adversarial_drift(teacher, network, batches, z_o, memory.means, memory.known)
        return lambda stored, labels: stored + deltas[labels]
    A = linear_map(z_o, z_n) if kind == "ldc" else ridge_map(z_o, z_n)
    return lambda stored, _: stored @ A.T


@torch.enable_grad()
def linear_map(z_o: Tensor, z_n: Tensor, *, epochs: int = 20, rate: float = 1e-3, size: int = 64) -> Tensor:
    """The linear map from the old space to the new, fitted with Adam from the identity.

    A = argmin (1/N) Σ_i ‖A z_o,i − z_n,i‖²

    The paper uses 20 epochs of Adam at 1e-3 and no offset. The start at the identity is ours: a network is near its
    predecessor. The order of the batches is always the same, and torch's global generator is not used.

    Args:
        z_o: (N, d) embeddings of the session's images before the session.
        z_n: (N, d) of the same images after it.
        epochs: passes over them.
        rate: learning rate.
        size: batch size.

    Returns:
        (d, d) A, to be applied as `stored @ A.T`.

    Source: Gomez-Villa et al., Exemplar-free Continual Representation Learning via Learnable Drift Compensation,
    ECCV 2024.
    """
    A = torch.eye(z_o.shape[1], dtype=z_o.dtype, device=z_o.device, requires_grad=True)
    optimizer = torch.optim.Adam([A], lr=rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for positions in torch.split(torch.randperm(len(z_o), generator=generator), size):
            rows = positions.to(z_o.device)
            optimizer.zero_grad()
            l2(z_n[rows], z_o[rows] @ A.T).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return A.detach()


@torch.no_grad()
def ridge_map(z_o: Tensor, z_n: Tensor, strength: float = 1e-4) -> Tensor:
    """The linear map from the old space to the new in closed form; the identity in directions that no image spans.

    A = argmin Σ_i ‖A z_o,i − z_n,i‖² + λN ‖A − I‖² = (Σ z_n z_oᵀ + λN·I)(Σ z_o z_oᵀ + λN·I)⁻¹

    Args:
        z_o: (N, d) embeddings of the session's images before the session.
        z_n: (N, d) of the same images after it.
        strength: λ > 0.

    Returns:
        (d, d) A, to be applied as `stored @ A.T`.
    """
    old, new = z_o.cpu().double(), z_n.cpu().double()
    prior = strength * len(old) * torch.eye(old.shape[1], dtype=torch.float64)
    A: Tensor = torch.linalg.solve(old.T @ old + prior, old.T @ new + prior).T
    return A.to(z_o)


def adversarial_drift(
    teacher: Space,
    network: Space,
    batches: Pass,
    z_o: Tensor,
    means: Tensor,
    known: Tensor,
    *,
    nearest: int = 100,
    size: int = 64,
) -> Tensor:
    """Drift of each class, measured on adversarial images that the old network takes for images of that class.

    Δ_c = (1/|A_c|) Σ_{x∈A_c} (f_n(x) − f_o(x)),   A_c: the images pushed onto μ_c whose nearest mean is then μ_c

    The 100 images whose z_o is nearest to μ_c are pushed onto it (`pushed`). Where A_c is empty, the image that came
    nearest is used, as in `drift` for a mean far from all images. The images are read once more, in batches.

    Args:
        teacher: f_o.
        network: f_n.
        batches: gives one pass over the session's images, in the order of `z_o`.
        z_o: (N, d) their embeddings before the session.
        means: (C, d) of the old space.
        known: int64 (K,), the rows of `means` with statistics.
        nearest: number of images that are pushed onto each mean.
        size: number of images pushed at a time.

    Returns:
        (C, d) Δ, zero in the other rows.

    Source: Goswami et al., Resurrecting Old Classes with New Data for Exemplar-Free Continual Learning, CVPR 2024.
    """
    targets = means[known]
    chosen = torch.cdist(targets, z_o).topk(min(nearest, len(z_o)), dim=1, largest=False).indices
    asked = torch.zeros(len(known), len(z_o), dtype=torch.bool).scatter_(1, chosen.cpu(), True)
    total, arrived = torch.zeros_like(targets), targets.new_zeros(len(known))
    closest, best = torch.full_like(arrived, torch.inf), torch.zeros_like(targets)
    for images, wanted in _in_parts(batches, asked, size):
        target = wanted.to(targets.device)
        x = pushed(teacher, images, targets[target])
        with torch.no_grad():
            old, new = teacher(x), network(x)
        distances = torch.cdist(old, targets)
        for row, c in enumerate(target.tolist()):
            step = new[row] - old[row]
            if int(distances[row].argmin()) == c:
                total[c] += step
                arrived[c] += 1
            if distances[row, c] < closest[c]:
                closest[c], best[c] = distances[row, c], step
    deltas = torch.zeros_like(means)
    deltas[known] = torch.where(arrived[:, None] > 0, total / arrived.clamp_min(1)[:, None], best)
    return deltas


def pushed(teacher: Space, images: Tensor, target: Tensor, *, steps: int = 3, share: float = 0.1) -> Tensor:
    """Images changed adversarially so that the old network embeds them nearer to a class mean.

    x ← x − α·g/‖g‖,   g = ∂D/∂x,   D = ‖f_o(x) − μ‖²,   α = min(0.1·‖x − x̄‖, D/‖g‖),   x̄ the mean of x's own values

    The paper uses α = 25 for normalised pixels at any resolution, which is 0.06 of their norm at 224 × 224 and 0.45 at
    32 × 32. A share of the norm is also meaningful for the activations of frozen first layers; no step is longer than
    needed if D were linear, so that images do not overshoot. Pixels are clamped to 0 … 1.

    Args:
        teacher: f_o.
        images: (B, …) as embedders take them.
        target: (B, d) μ for each image.
        steps: iterations.
        share: largest α, as a share of the image's own norm.

    Returns:
        (B, …) float, in the form that `prepare` returns.
    """
    x = teacher.prepare(images).float()
    pixels = x.shape == images.shape and x.shape[1] == 3
    centred = x - x.flatten(1).mean(1).view(-1, *(1,) * (x.ndim - 1))
    longest = share * torch.linalg.vector_norm(centred.flatten(1), dim=1)
    for _ in range(steps):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            D = (teacher(x) - target).square().sum(1)
            (g,) = torch.autograd.grad(D.sum(), x)
        length = torch.linalg.vector_norm(g.flatten(1), dim=1).clamp_min(1e-12)
        alpha = torch.minimum(longest, D.detach() / length)
        x = x.detach() - (alpha / length).view(-1, *(1,) * (x.ndim - 1)) * g
        x = x.clamp(0, 1) if pixels else x
    return x


def _in_parts(batches: Pass, asked: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of images with the row that each is pushed onto, for all pairs that `asked` (K, N) marks."""
    start = 0
    for batch in batches():
        pairs = asked[:, start : start + len(batch.labels)].T.nonzero()
        start += len(batch.labels)
        for part in torch.split(pairs, size):
            if len(part):
                yield batch.images[part[:, 0].to(batch.images.device)], part[:, 1]
