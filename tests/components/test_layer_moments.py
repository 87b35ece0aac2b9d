from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from scrubjay import _compat as compat
from scrubjay.components.layer_moments import LowRank, MomentRecorder, Moments, inputs, layers, matrix, outputs


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


Conv2dSame = compat.load("timm.layers").Conv2dSame
LAYERS = {
    "linear": (nn.Linear(5, 3), (2, 5)),
    "linear without bias": (nn.Linear(5, 3, bias=False), (2, 5)),
    "tokens": (nn.Linear(5, 3), (2, 4, 5)),
    "convolution": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 5, 5)),
    "grouped": (nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), (2, 4, 5, 5)),
    "padded as TensorFlow does": (Conv2dSame(3, 4, 3, stride=2, bias=False), (2, 3, 6, 5)),
    "padded by name": (nn.Conv2d(3, 4, (3, 5), padding="same"), (2, 3, 6, 5)),
    "without a margin": (nn.Conv2d(3, 4, 2, stride=2, padding="valid"), (2, 3, 5, 5)),
    "depthwise": (nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=False), (2, 4, 5, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_matrix_times_its_inputs(name: str) -> None:
    layer, shape = LAYERS[name]
    x = draw(*shape)
    y = layer(x)
    product = torch.einsum("gmn,bgnp->bgmp", matrix(layer), inputs(layer, x, y))
    torch.testing.assert_close(outputs(layer, y), product, rtol=1e-4, atol=1e-5)


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 8), st.floats(0, 1))
def test_the_trace_is_kept_whatever_the_rank(seed: int, size: int, rank: int, share: float) -> None:
    old, new = (draw(2, size, size, seed=seed + k) for k in (0, 1))
    old, new = old @ old.mT, new @ new.mT
    kept = LowRank(2, size, rank)
    kept.mix(old, 1.0)
    kept.mix(new, share)
    identity = torch.eye(size).expand(2, size, size)
    expected = (1 - share) * old + share * new
    found = kept(identity)
    traces = (found.diagonal(dim1=1, dim2=2).sum(1), expected.diagonal(dim1=1, dim2=2).sum(1))
    torch.testing.assert_close(*traces, rtol=1e-3, atol=1e-4)
    assert torch.linalg.eigvalsh(found).min() > -1e-3 * traces[1].max()
    if rank >= size:
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(traces[1].max()))


def test_the_largest_directions_are_kept() -> None:
    kept = LowRank(1, 3, 1)
    kept.mix(torch.diag(torch.tensor([9.0, 1.0, 3.0]))[None], 1.0)
    torch.testing.assert_close(kept(torch.eye(3)[None]), torch.diag(torch.tensor([9.0, 2.0, 2.0]))[None])


def test_directions_that_no_old_image_uses_are_charged_too() -> None:
    """Beyond the rank the trace is spread evenly, over unused directions as well: none is free."""
    x = draw(20, 6, seed=8)
    x[:, 4:] = 0  # no image uses the last two inputs
    moments = Moments(nn.Linear(6, 3, bias=False), rank=2)
    A = x.T @ x / 20
    moments.inputs.mix(A[None], 1.0)
    moments.effects.mix(torch.eye(3)[None], 1.0)
    change = torch.zeros(3, 6)
    change[0, 5] = 1.0
    beyond = torch.linalg.eigvalsh(A)[:-2]
    assert (change @ A @ change.T).trace() == 0
    assert moments(change[None]).item() == pytest.approx(float(beyond.mean()), rel=1e-4)
    assert beyond.mean() > 0


def test_moments_of_a_linear_layer_by_loops() -> None:
    """A over inputs with a 1 for the bias; G from the slopes along the directions that were drawn."""
    layer = nn.Linear(3, 2)
    x = draw(5, 3)
    with MomentRecorder({"only": layer}) as recorder:
        for part in (x[:2], x[2:]):
            torch.manual_seed(len(part))
            recorder.add(layer(part))
    ((_, A, G),) = recorder.means()
    rows, slopes = [[*row, 1.0] for row in x.tolist()], []
    for size in (2, 3):
        torch.manual_seed(size)
        slopes += torch.randn(size, 2).tolist()
    for i in range(4):
        for j in range(4):
            assert A[0, i, j].item() == pytest.approx(sum(row[i] * row[j] for row in rows) / 5, rel=1e-5)
    squares = [(sum(a * a for a in row), sum(b * b for b in slope)) for row, slope in zip(rows, slopes, strict=True)]
    c = 5 * sum(a * b for a, b in squares) / (sum(a for a, _ in squares) * sum(b for _, b in squares))
    for i in range(2):
        for j in range(2):
            assert G[0, i, j].item() == pytest.approx(c * sum(v[i] * v[j] for v in slopes) / 5, rel=1e-5)
    assert recorder.images == 5
    assert not layer._forward_hooks


def test_the_charge_is_what_the_output_would_move() -> None:
    """Where the output is the embedding, G is the identity: the charge is the mean squared distance itself."""
    layer, change = nn.Linear(4, 3), draw(3, 5, seed=3)
    x = draw(50, 4, seed=4)
    moments = Moments(layer, rank=10)
    rows = torch.cat([x, torch.ones(50, 1)], 1)
    moments.inputs.mix((rows.T @ rows / 50)[None], 1.0)
    moments.effects.mix(torch.eye(3)[None], 1.0)
    moved = sum(sum(v * v for v in (change @ row).tolist()) for row in rows) / 50
    assert moments(change[None]).item() == pytest.approx(moved, rel=1e-4)


@pytest.mark.parametrize(("channels", "groups", "size"), [(3, 1, 4), (4, 4, 6), (2, 2, 2)])
def test_the_charge_has_the_trace_of_what_a_convolution_does(channels: int, groups: int, size: int) -> None:
    """Summed over a basis of changes it is the mean of (Σ_p gᵀ_p ΔW x_p)², by loops over images and positions."""
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, groups=groups)
    x, weight = draw(5, channels, size, size, seed=5), draw(channels, size, size, seed=6)
    with MomentRecorder({"only": layer}) as recorder:
        torch.manual_seed(7)
        recorder.add((layer(x) * weight).sum((2, 3)))
    torch.manual_seed(7)
    direction = torch.randn(5, channels)
    ((_, A, G),) = recorder.means()
    patches, per_group, total = inputs(layer, x, layer(x)), channels // groups, 0.0
    for image in range(5):
        for channel in range(channels):
            change = torch.zeros(patches.shape[2])
            for position in range(size * size):
                slope = direction[image, channel] * weight[channel].flatten()[position]
                change += slope * patches[image, channel // per_group, :, position]
            total += sum(value * value for value in change.tolist()) / 5
    traces = A.diagonal(dim1=1, dim2=2).sum(1) * G.diagonal(dim1=1, dim2=2).sum(1)
    assert traces.sum().item() == pytest.approx(total, rel=1e-4)


def test_the_charge_follows_what_a_pooled_convolution_moves() -> None:
    """Within a small factor: the two factors are taken apart, and few directions were drawn."""
    layer, x = nn.Conv2d(3, 4, 3, padding=1, bias=False), draw(40, 3, 4, 4, seed=5)
    moments = Moments(layer, rank=100)
    with MomentRecorder({"only": layer}) as recorder:
        for seed in range(20):
            torch.manual_seed(seed)
            recorder.add(layer(x).mean((2, 3)))
    ((_, A, G),) = recorder.means()
    moments.inputs.mix(A, 1.0)
    moments.effects.mix(G, 1.0)
    before = layer(x).mean((2, 3)).detach()
    change = 0.1 * draw(*layer.weight.shape, seed=6)
    with torch.no_grad():
        layer.weight += change
        moved = (layer(x).mean((2, 3)) - before).square().sum(1).mean()
        charge = moments(change.reshape(1, 4, -1))
    assert 0.25 * moved < charge < 4 * moved


def test_gradient_of_the_charge() -> None:
    moments = Moments(nn.Conv2d(2, 4, 2, groups=2), rank=2)
    a, g = (draw(2, n, n, seed=n) for n in (5, 2))
    moments.inputs.mix(a @ a.mT, 1.0)
    moments.effects.mix(g @ g.mT, 1.0)
    moments.double()
    assert torch.autograd.gradcheck(moments, draw(2, 2, 5).double().requires_grad_())


def test_only_what_is_trained_is_charged_for() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    net[0].requires_grad_(False)
    assert list(layers(net)) == ["3"]
    assert list(layers(net, trained=False)) == ["0", "3"]
