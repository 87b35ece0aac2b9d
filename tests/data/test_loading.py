from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import Cache, ImageLoader, batches, eval_batches, in_order, with_views
from scrubjay.data.sampler import PKSampler
from scrubjay.data.sources.grocery import Grocery
from scrubjay.errors import ImageError
from scrubjay.types import Batch, Sample

OPTIONS = ImageOptions(size=32, resize=40)
Make = Callable[..., list[Sample]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def samples(count: int, broken: tuple[int, ...] = (), missing: tuple[int, ...] = ()) -> list[Sample]:
        rng = np.random.default_rng(0)
        made = []
        for index in range(count):
            path = tmp_path / f"{index}.png"
            if index in broken:
                path.write_text("no image")
            elif index not in missing:
                Image.fromarray(rng.integers(0, 256, (48, 60, 3), np.uint8)).save(path)
            made.append(Sample(path, index % 3))
        return made

    return samples


def same(left: list[Batch], right: list[Batch]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a.images, b.images)
        and torch.equal(a.labels, b.labels)
        and torch.equal(a.indices, b.indices)
        and a.failures == b.failures
        for a, b in zip(left, right, strict=True)
    )


def test_evaluation_serves_everything_in_order(make: Make) -> None:
    samples = make(7)
    served = list(eval_batches(samples, OPTIONS, 3))
    assert [batch.indices.tolist() for batch in served] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [batch.labels.tolist() for batch in served] == [[0, 1, 2], [0, 1, 2], [0]]
    assert served[0].images.shape == (3, 3, 32, 32)
    assert served[0].images.dtype == torch.uint8
    assert (served[0].labels.dtype, served[0].indices.dtype) == (torch.int64, torch.int64)
    assert list(eval_batches([], OPTIONS, 3)) == []


@pytest.mark.parametrize(("limit", "given"), [(None, 3), (2, 2), (5, 3)])
def test_random_crops_follow_the_centre_crop_of_each_image(limit: int | None, given: int, make: Make) -> None:
    samples = make(7)
    loader = ImageLoader(samples, OPTIONS.model_copy(update={"views": limit}), train=False)
    served = list(with_views(loader, 3, 12))
    each = 12 // (1 + given)
    assert all(len(batch.images) == each * (1 + given) for batch in served[:-1])
    indices = torch.cat([batch.indices for batch in served])
    assert indices.tolist() == [index for index in range(7) for _ in range(1 + given)]
    assert torch.cat([batch.labels for batch in served]).tolist() == [samples[index].label for index in indices]
    images = torch.cat([batch.images for batch in served]).view(7, 1 + given, 3, 32, 32)
    assert torch.equal(images[:, 0], torch.stack([loader[index] for index in range(7)]))
    assert all(not torch.equal(one, other) for crops in images for one, other in pairwise(crops))
    assert same(served, list(with_views(loader, 3, 12))), "the same crops at every call"
    (alone,) = with_views(ImageLoader(samples[5:6], loader.options, train=False), 3, 12)
    assert torch.equal(alone.images, images[5]), "whatever its place in the list"
    assert same(list(with_views(loader, 0, 3)), list(in_order(loader, 3)))


def test_box_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    image = Image.new("RGB", (80, 40), "red")
    image.paste("blue", (40, 0, 80, 40))
    image.save(path)
    (batch,) = eval_batches([Sample(path, 0, box=(40, 0, 80, 40)), Sample(path, 0, box=(0, 0, 40, 40))], OPTIONS, 2)
    assert batch.images[:, :, 16, 16].tolist() == [[0, 0, 255], [255, 0, 0]]


def test_training_needs_a_seed_and_evaluation_has_none(make: Make) -> None:
    samples = make(1)
    with pytest.raises(TypeError, match="needs the key"):
        ImageLoader(samples, OPTIONS, train=True)[0]
    assert ImageLoader(samples, OPTIONS, train=False)[0].shape == (3, 32, 32)


def test_a_batch_depends_on_its_keys_alone(make: Make) -> None:
    samples = make(12)
    plan = PKSampler([sample.label for sample in samples], 2, 3, 0).epoch(0)
    whole = list(batches(ImageLoader(samples, OPTIONS, train=True), plan))
    resumed = list(batches(ImageLoader(samples, OPTIONS.model_copy(update={"cache_mb": 0}), train=True), plan[2:]))
    assert same(whole[2:], resumed)
    index, seed = plan[0][0]
    views = ImageLoader(samples, OPTIONS, train=True).__getitems__([(index, seed), (index, seed), (index, seed + 1)])
    assert torch.equal(views.images[0], views.images[1])
    assert not torch.equal(views.images[0], views.images[2])


def test_loading_leaves_the_random_state(make: Make) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(batches(ImageLoader(make(4), OPTIONS, train=True), [[(0, 1), (1, 2)], [(2, 3), (3, 4)]]))
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_serve_the_same(make: Make) -> None:
    samples = make(12, broken=(4,), missing=(7,))
    sampler = PKSampler([sample.label for sample in samples], 2, 3, 0)
    plan = [batch for epoch in range(2) for batch in sampler.epoch(epoch)]
    alone = list(batches(ImageLoader(samples, OPTIONS, train=True), plan))
    shared = OPTIONS.model_copy(update={"workers": 2})
    assert same(alone, list(batches(ImageLoader(samples, shared, train=True), iter(plan))))


def test_images_can_be_sent_to_a_spawned_worker(make: Make) -> None:
    loader = ImageLoader(make(4), OPTIONS, train=True)
    expected = loader.__getitems__([(2, 7), (3, 8)])
    arrived = pickle.loads(pickle.dumps(loader))
    assert same([arrived.__getitems__([(2, 7), (3, 8)])], [expected])
    loader = DataLoader(
        loader, batch_sampler=[[(2, 7), (3, 8)]], num_workers=1, multiprocessing_context="spawn", collate_fn=_as_is
    )
    assert same(list(loader), [expected])


def _as_is(batch: Batch) -> Batch:
    return batch


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_decoded_is_left_out_and_named(make: Make, workers: int) -> None:
    samples = make(5, broken=(1,), missing=(3,))
    options = OPTIONS.model_copy(update={"workers": workers})
    (batch,) = eval_batches(samples, options, 5)
    assert batch.indices.tolist() == [0, 2, 4]
    assert batch.labels.tolist() == [0, 2, 1]
    assert batch.failures == (
        (str(samples[1].path), "not an image; save it again as JPEG or PNG."),
        (str(samples[3].path), "no such file; restore it or take it off the list."),
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_decoded_can_stop_the_run(make: Make, workers: int) -> None:
    samples = make(5, broken=(3,))
    options = OPTIONS.model_copy(update={"workers": workers, "on_error": "raise"})
    served = eval_batches(samples, options, 2)
    with pytest.raises(ImageError) as caught:
        list(served)
    assert str(caught.value) == f"{samples[3].path}: not an image; save it again as JPEG or PNG."


@pytest.mark.parametrize("broken", [(0, 1), (2, 3), (4, 5), (0, 1, 4, 5), (0, 1, 2, 3), (2, 3, 4, 5), (1,), (0, 1, 3)])
def test_a_batch_of_broken_images_is_left_out_and_its_failures_are_kept(make: Make, broken: tuple[int, ...]) -> None:
    samples = make(6, broken=broken)
    served = list(eval_batches(samples, OPTIONS, 2))
    assert all(len(batch.labels) for batch in served)
    assert list(chain.from_iterable(batch.indices.tolist() for batch in served)) == sorted({*range(6)} - {*broken})
    failed = [path for batch in served for path, _ in batch.failures]
    assert failed == [str(samples[index].path) for index in broken]


def test_only_broken_images_are_an_error(make: Make) -> None:
    samples = make(3, broken=(0, 1, 2))
    with pytest.raises(ImageError, match=r"none of 3 images can be decoded; the first is .*0\.png: not an image"):
        list(eval_batches(samples, OPTIONS, 2))


def test_elongated_image_is_refused_before_it_is_blown_up(tmp_path: Path) -> None:
    path = tmp_path / "line.png"
    Image.new("RGB", (60_000, 1)).save(path)
    with pytest.raises(ImageError, match=r"line\.png: 60000 x 1 is too elongated to resize; crop it"):
        ImageLoader([Sample(path, 0)], ImageOptions(), train=False)[0]


def test_cache_serves_what_it_has_and_respects_its_room(make: Make) -> None:
    """The last image is kept although there is no room for it."""
    samples = make(4)
    cache = Cache(1)
    cache.room = 2 * 3 * 40 * 50
    first = list(eval_batches(samples, OPTIONS, 4, cache))
    assert cache.room == 0
    for sample in samples:
        sample.path.unlink()
    (batch,) = eval_batches(samples, OPTIONS, 4, cache)
    assert batch.indices.tolist() == [0, 1, 3]
    assert torch.equal(batch.images, first[0].images[[0, 1, 3]])
    assert [path for path, _ in batch.failures] == [str(samples[2].path)]


def test_cache_tells_boxes_and_sizes_apart(make: Make) -> None:
    (sample,) = make(1)
    cache, larger = Cache(1), OPTIONS.model_copy(update={"resize": 64})
    for shared in (cache, Cache(0)):
        whole, boxed, big = (
            next(eval_batches([item], options, 1, shared)).images
            for item, options in ((sample, OPTIONS), (replace(sample, box=(0, 0, 9, 9)), OPTIONS), (sample, larger))
        )
        assert not torch.equal(whole, boxed)
        assert not torch.equal(whole, big)
    assert cache.room == 2**20 - 3 * (40 * 50 + 40 * 40 + 64 * 80)


def test_real_photographs_through_sampler_and_workers(grocery: Path) -> None:
    dataset = Grocery(root=grocery).load()
    samples = [sample for sample in dataset.samples if sample.split == "train" and sample.label < 3][:40]
    plan = PKSampler([sample.label for sample in samples], 2, 4, 0).epoch(0)
    options = ImageOptions(size=96, resize=112, workers=1, on_error="raise")
    served = list(batches(ImageLoader(samples, options, train=True), plan))
    assert sorted({index for batch in served for index in batch.indices.tolist()}) == list(range(len(samples)))
    assert all(batch.images.float().std() > 10 for batch in served)
