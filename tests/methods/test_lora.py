from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import tiny
from scrubjay.errors import ConfigError
from scrubjay.generations.lineage import Lineage
from scrubjay.losses.cross_entropy import cross_entropy
from scrubjay.losses.metric.triplet import triplet
from scrubjay.methods.lora import LoRA, adapted
from scrubjay.models.embedder import NetworkOptions
from scrubjay.training import learn
from scrubjay.types import Session

CUT = tiny.NETWORK.model_copy(update={"frozen": "layer2"})
SEPARABLE = tiny.NETWORK.model_copy(update={"backbone": "test_efficientnet"})
networks = pytest.mark.parametrize("network", [tiny.NETWORK, CUT, SEPARABLE], ids=["whole", "cut", "separable"])


def learner(network: NetworkOptions = tiny.NETWORK, **options: object) -> LoRA:
    made = tiny.learner("lora", network, **options)
    assert isinstance(made, LoRA)
    return made


def later(sessions: tuple[Session, Session], network: NetworkOptions, **options: object) -> LoRA:
    """In its second session, with adapters that have moved."""
    made = learner(network, **options).eval()
    for layer in made.network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)  # the last of a residual branch starts at 0, and no gradient passes it
    torch.manual_seed(1)
    made.begin(sessions[0])
    made.begin(sessions[1])
    with torch.no_grad():
        for adapter in made.adapters:
            adapter.B.normal_(0, 0.05)
    return made


def test_a_weight_and_its_adapter_by_loops() -> None:
    torch.manual_seed(0)
    W, A, B = torch.randn(3, 2, 2, 2), torch.randn(2, 8), torch.randn(3, 2)
    found = adapted(W, A, B, 5.0)
    for o in range(3):
        for n in range(8):
            expected = W[o].flatten()[n] + 5.0 / 2 * sum(B[o, k] * A[k, n] for k in range(2))
            assert float(found[o].flatten()[n]) == pytest.approx(float(expected), rel=1e-5)
    assert torch.equal(adapted(W, A, torch.zeros(3, 2), 5.0), W)
    assert torch.equal(adapted(W, A[:0], B[:, :0], 5.0), W)
    last = W.contiguous(memory_format=torch.channels_last)
    assert adapted(last, A, B, 5.0).is_contiguous(memory_format=torch.channels_last)


def test_its_gradient() -> None:
    torch.manual_seed(0)
    shapes = ((3, 2, 2), (2, 4), (3, 2))
    inputs = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda W, A, B: adapted(W, A, B, 3.0), inputs)


def test_mixed_precision_leaves_small_steps_in() -> None:
    W, A, B = torch.ones(4, 4), torch.full((1, 4), 1e-3), torch.full((4, 1), 1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        found = adapted(W, A, B, 1.0)
    assert found.dtype == torch.float32
    assert (found > W).all()


@networks
def test_adapters_are_beside_what_may_have_them(network: NetworkOptions) -> None:
    made = learner(network)
    backbone = made.network.embedder.backbone
    layers = dict(backbone.named_modules())
    expected = {
        name
        for name, layer in layers.items()
        if isinstance(layer, nn.Linear | nn.Conv2d)
        and getattr(layer, "groups", 1) == 1
        and (network != CUT or not name.startswith(("conv1", "layer1", "layer2")))
    }
    assert set(made.names) == expected
    assert expected
    if network == SEPARABLE:
        assert any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in layers.values())


@networks
def test_a_session_starts_from_the_last_network(network: NetworkOptions, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    made = learner(network)
    learn(made, first, tiny.loader(first.train), tiny.TRAINING, 0)
    made.begin(second)
    made.eval()
    batch = tiny.batch(second.train)
    with torch.no_grad():
        z, logits = made.network(batch.images)
        losses = made(batch)
    merged = made.merged()
    assert len(merged) == len(made.names)
    assert all(torch.equal(weight, made.network.get_parameter(name)) for name, weight in merged.items())
    # A convolution may round differently for a copy of its weights that lies elsewhere in memory.
    torch.testing.assert_close(losses["ce"], cross_entropy(logits, batch.labels, 2))
    torch.testing.assert_close(losses["triplet"], triplet(z, batch.labels, 0.2, "hard"))


@networks
def test_the_loss_is_that_of_the_merged_network(network: NetworkOptions, tmp_path: Path) -> None:
    sessions = tiny.two_sessions(tmp_path)
    made = later(sessions, network, rank=2, alpha=3.0)
    batch = tiny.batch(sessions[1].train)
    before, losses = tiny.weights(made.network), made(batch)
    assert tiny.same(tiny.weights(made.network), before), "the weights themselves are untouched"
    with torch.no_grad():
        z_before, _ = made.network(batch.images)
        merged = copy.deepcopy(made.network)
        for name, adapter in zip(made.names, made.adapters, strict=True):
            weight = merged.embedder.backbone.get_submodule(name).weight
            rank = min(2, len(weight), weight[0].numel())
            assert adapter.A.shape == (rank, weight[0].numel())
            weight += 3.0 / rank * (adapter.B @ adapter.A).view(weight.shape)
        z, logits = merged(batch.images)
    assert not torch.allclose(z, z_before, atol=1e-3), "the adapters reach the part that is run"
    torch.testing.assert_close(losses["ce"].detach(), cross_entropy(logits, batch.labels, 2))
    torch.testing.assert_close(losses["triplet"].detach(), triplet(z, batch.labels, 0.2, "hard"))
    losses.total.backward()
    for adapter in made.adapters:
        for learned in (adapter.A, adapter.B):
            assert learned.grad is not None
            assert learned.grad.abs().sum() > 0
    made.end(sessions[1], lambda: iter(()))
    with torch.no_grad():
        torch.testing.assert_close(made.network(batch.images)[0], z)
    assert all(adapter.A.numel() == adapter.B.numel() == 0 for adapter in made.adapters)


@networks
@pytest.mark.parametrize("projection", [True, False])
def test_what_learns_and_what_rests(network: NetworkOptions, projection: bool, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    made = learner(network, rank=2, projection=projection)
    free = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith("adapters.") for name in free)
    learn(made, first, tiny.loader(first.train), tiny.TRAINING, 0)
    made.network.freeze_batchnorm(True)
    made.begin(second)
    learning = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert {name for name in learning if not name.startswith(("adapters.", "network.head."))} == (
        {"network.embedder.projection.weight", "network.embedder.projection.bias"} if projection else set()
    )
    assert {"network.head.weight", "network.head.bias", "adapters.0.A", "adapters.0.B"} <= learning

    before = tiny.weights(made.network)
    learn(made, second, tiny.loader(second.train), tiny.TRAINING, 0)
    after = tiny.weights(made.network)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    adaptable = {f"embedder.backbone.{name}.weight" for name in made.names}
    allowed = adaptable | {"head.weight", "head.bias"}
    allowed |= {"embedder.projection.weight", "embedder.projection.bias"} if projection else set()
    assert changed <= allowed
    assert len(changed & adaptable) > len(adaptable) / 2
    rank = torch.linalg.matrix_rank(
        (after[max(changed & adaptable)] - before[max(changed & adaptable)]).flatten(1).double(), rtol=1e-4
    )
    assert rank <= 2

    made.network.freeze_batchnorm(False)
    assert {name for name, parameter in made.named_parameters() if parameter.requires_grad} == free


def test_a_session_that_begins_twice_frees_all_that_rested(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    made = learner()
    free = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    made.begin(first)
    made.begin(second)
    made.begin(second)
    made.end(second, lambda: iter(()))
    assert {name for name, parameter in made.named_parameters() if parameter.requires_grad} == free


def test_weights_are_averaged_after_the_adapters_are_in(tmp_path: Path) -> None:
    sessions = tiny.two_sessions(tmp_path)
    plain, averaged = later(sessions, tiny.NETWORK), later(sessions, tiny.NETWORK, average=0.25)
    for made in (plain, averaged):
        made.end(sessions[1], lambda: iter(()))
    name = f"embedder.backbone.{plain.names[0]}.weight"
    old, new = averaged.teacher.state_dict()[name], plain.network.state_dict()[name]
    torch.testing.assert_close(averaged.network.state_dict()[name], 0.25 * new + 0.75 * old)
    assert not torch.equal(new, old)


def test_nothing_is_kept_between_sessions(tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    made, line = learner(), Lineage(tmp_path / "line")
    for session in (first, second):
        learn(made, session, tiny.loader(session.train), tiny.TRAINING, 0)
        line.add(made, tiny.record(session.classes))
    assert sum(value.numel() for name, value in made.state_dict().items() if not name.startswith("network.")) == 0
    again = learner()
    line.restore(line.get("g1"), again)
    assert tiny.same(tiny.weights(again), tiny.weights(made))


def test_adapters_start_from_the_seed_of_the_session(tmp_path: Path) -> None:
    sessions = tiny.two_sessions(tmp_path)
    drawn = []
    for _ in range(2):
        made = learner(rank=4).eval()
        made.begin(sessions[0])
        torch.manual_seed(3)
        made.begin(sessions[1])
        drawn.append(tiny.weights(made.adapters))
    assert tiny.same(*drawn)
    for adapter in made.adapters:
        assert not adapter.B.any()
        assert (adapter.A.abs() <= adapter.A.shape[1] ** -0.5).all()
        assert adapter.A.unique().numel() > adapter.A.numel() / 2


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0}])
def test_options_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        LoRA.Options.parse(wrong)
