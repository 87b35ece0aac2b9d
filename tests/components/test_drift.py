"""Stored vectors go where their class went."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

import tiny
from scrubjay.components.drift import adversarial_drift, embeddings, linear_map, pushed, ridge_map, update_memory
from scrubjay.components.memory import Memory
from scrubjay.losses.drift import drift
from scrubjay.types import Batch

D = 6
KINDS = ["sdc", "ldc", "ridge", "adc"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Space:
    """An embedder whose image is its embedding, but for what it does to it."""

    def __init__(self, do: Callable[[Tensor], Tensor]) -> None:
        self.do = do

    def prepare(self, images: Tensor) -> Tensor:
        return images

    def __call__(self, images: Tensor) -> Tensor:
        return self.do(images)


def passing(images: Tensor, labels: Tensor, size: int = 7) -> Callable[[], Iterator[Batch]]:
    def batches() -> Iterator[Batch]:
        for at in range(0, len(images), size):
            part = slice(at, at + size)
            yield Batch(images[part], labels[part], torch.arange(len(images))[part])

    return batches


def turned(angle: float) -> Tensor:
    """A rotation in every pair of coordinates."""
    c, s = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    return torch.block_diag(*[torch.stack([torch.stack([c, -s]), torch.stack([s, c])])] * (D // 2))


def stored() -> Memory:
    memory = Memory(D, budget=3)
    memory.keep(normalize(draw(12, D, seed=5), dim=1), torch.arange(12) % 2)
    return memory


IMAGES = passing(normalize(draw(40, D), dim=1), 2 + torch.arange(40) % 3)
KEEPS = Space(lambda x: x)


@pytest.mark.parametrize("kind", KINDS)
def test_a_common_translation_or_none_is_recovered(kind: str) -> None:
    """Exactly by what estimates a step; a linear map has no offset."""
    for shift in (torch.zeros(D), draw(D, seed=9)) if kind in ("sdc", "adc") else (torch.zeros(D),):
        memory = stored()
        means, vectors = memory.means.clone(), memory.vectors.clone()
        update_memory(memory, kind, KEEPS, Space(lambda x, by=shift: x + by), IMAGES)  # type: ignore[arg-type]
        torch.testing.assert_close(memory.means[:2], means + shift, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(memory.vectors[:6], normalize(vectors + shift, dim=1), rtol=1e-4, atol=1e-5)


def test_ridge_recovers_a_linear_map() -> None:
    A = draw(D, D, seed=1)
    memory = stored()
    means, vectors = memory.means.clone(), memory.vectors.clone()
    update_memory(memory, "ridge", KEEPS, Space(lambda x: x @ A.T), IMAGES)
    torch.testing.assert_close(memory.means[:2], means @ A.T, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(memory.vectors[:6], normalize(vectors @ A.T, dim=1), rtol=1e-2, atol=1e-2)
    z = normalize(draw(40, D), dim=1)
    torch.testing.assert_close(ridge_map(z, z @ A.T, 1e-9), A, rtol=1e-4, atol=1e-4)


def test_ldc_recovers_a_linear_map_near_the_identity() -> None:
    z = normalize(draw(2000, D), dim=1)
    A = torch.eye(D) + 0.1 * draw(D, D, seed=1)
    found = linear_map(z, z @ A.T)
    torch.testing.assert_close(found, A, rtol=0, atol=5e-3)
    assert torch.equal(found, linear_map(z, z @ A.T)), "the same each time"


def test_ldc_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    linear_map(draw(5, D), draw(5, D, seed=1), epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_ridge_leaves_directions_that_no_image_shows() -> None:
    z = draw(20, D)
    z[:, -2:] = 0
    A = ridge_map(z, 2 * z)
    torch.testing.assert_close(A[-2:, -2:], torch.eye(2))
    torch.testing.assert_close(A[:-2, :-2], 2 * torch.eye(D - 2), rtol=1e-2, atol=1e-2)


def test_sdc_is_the_papers_step_in_blocks() -> None:
    z_o, network = normalize(draw(40, D), dim=1), Space(lambda x: x @ turned(0.4).T)
    memory = Memory(D)
    memory.keep(normalize(draw(600, D, seed=2), dim=1), torch.arange(600) % 300)  # more than a block
    before = memory.means.clone()
    update_memory(memory, "sdc", KEEPS, network, passing(z_o, torch.full((40,), 300)))
    torch.testing.assert_close(memory.means[:300], before + drift(z_o, z_o @ turned(0.4).T, before))


def test_adversarial_drift_is_the_mean_over_those_that_arrive() -> None:
    images, means = normalize(draw(30, D), dim=1), 0.9 * normalize(draw(3, D, seed=3), dim=1)
    network, known = Space(lambda x: x @ turned(0.5).T), torch.tensor([0, 2])
    batches = passing(images, torch.zeros(30, dtype=torch.int64))
    found = adversarial_drift(KEEPS, network, batches, images, means, known, nearest=8, size=3)
    assert (found[1] == 0).all()
    for c in (0, 2):
        order = sorted(range(30), key=lambda i: float((images[i] - means[c]).norm()))[:8]
        steps = []
        for i in order:
            x = pushed(KEEPS, images[i : i + 1], means[c : c + 1])
            if min((0, 2), key=lambda other: float((x - means[other]).norm())) == c:
                steps.append(network(x)[0] - x[0])
        assert steps
        torch.testing.assert_close(found[c], torch.stack(steps).mean(0))


def test_where_none_arrives_the_nearest_counts() -> None:
    images = torch.tensor([[1.0] + [0] * (D - 1), [0.9, 0.1] + [0] * (D - 2)])
    means = torch.zeros(2, D)
    means[0, 0], means[1, 1] = 1, 1  # both images stay nearest to the first
    network = Space(lambda x: x * 2)
    batches = passing(images, torch.zeros(2, dtype=torch.int64))
    found = adversarial_drift(KEEPS, network, batches, images, means, torch.tensor([0, 1]))
    nearest = pushed(KEEPS, images, means[1].expand(2, D))[1]
    torch.testing.assert_close(found[1], nearest)


def test_pushing_brings_images_nearer_to_the_mean() -> None:
    """On a network of convolutions, with pixels, and with the activations of a frozen part."""
    for frozen in (None, "stem"):
        options = tiny.NETWORK if frozen is None else tiny.NETWORK.model_copy(update={"frozen": "layer1"})
        embedder = tiny.learner("finetune", options).network.eval().embedder
        images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            target = embedder(images).roll(1, 0)
            before = (embedder(images) - target).square().sum(1)
            x = pushed(embedder, images, target)
            after = (embedder(x) - target).square().sum(1)
        assert (after < before).all()
        assert not x.requires_grad
        if frozen is None:
            assert x.min() >= 0
            assert x.max() <= 1
        else:
            assert x.shape[1] != 3


@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_the_first_session_and_an_empty_memory_only_keep(kind: str) -> None:
    for teacher in (None, KEEPS):
        memory = Memory(D)
        update_memory(memory, kind, teacher, KEEPS, IMAGES)  # type: ignore[arg-type]
        assert memory.known.tolist() == [2, 3, 4]
        z, labels = embeddings(None, KEEPS, IMAGES)[1:]
        torch.testing.assert_close(memory.means[3], z[labels == 3].mean(0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_without_images_moves_nothing(kind: str) -> None:
    memory = stored()
    before = tiny.weights(memory)
    update_memory(memory, kind, KEEPS, Space(lambda x: -x), lambda: iter(()))  # type: ignore[arg-type]
    assert tiny.same(tiny.weights(memory), before)


def test_none_leaves_what_is_stored() -> None:
    memory = stored()
    before = memory.vectors.clone()
    update_memory(memory, "none", KEEPS, Space(lambda x: -x), IMAGES)
    assert torch.equal(memory.vectors[:6], before)
    assert memory.known.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_image_is_enough(kind: str) -> None:
    memory = stored()
    network = Space(lambda x: x @ turned(0.1).T)
    update_memory(memory, kind, KEEPS, network, passing(normalize(draw(1, D), dim=1), torch.tensor([2])))  # type: ignore[arg-type]
    assert torch.isfinite(memory.means).all()
    assert memory.known.tolist() == [0, 1, 2]
