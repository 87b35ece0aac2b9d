from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from scrubjay.data.images import ImageOptions
from scrubjay.data.transforms import augmented, centre_crop, resized


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 9)], axis=-1).round().astype(np.uint8))


def test_short_side_is_resized_and_the_shape_kept() -> None:
    for size, expected in (((300, 150), (3, 50, 100)), ((150, 300), (3, 100, 50)), ((20, 10), (3, 50, 100))):
        pixels = resized(gradient(*size), 50)
        assert pixels.shape == expected
        assert pixels.dtype == torch.uint8


def test_resizing_is_near_pillows_bicubic() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8))
    reference = np.asarray(noise.resize((45, 60), Image.Resampling.BICUBIC), int)
    difference = np.abs(resized(noise, 45).permute(1, 2, 0).numpy().astype(int) - reference)
    assert difference.max() <= 2


def test_channels_are_red_green_blue() -> None:
    pixels = resized(Image.new("RGB", (8, 8), (10, 20, 30)), 8)
    assert pixels[:, 0, 0].tolist() == [10, 20, 30]


def test_centre_crop_is_the_middle() -> None:
    pixels = torch.arange(6 * 10, dtype=torch.uint8).reshape(1, 6, 10).repeat(3, 1, 1)
    torch.testing.assert_close(centre_crop(pixels, 4), pixels[:, 1:5, 3:7])


def test_augmentation_follows_from_its_seed_and_leaves_the_random_state() -> None:
    pixels, options = resized(gradient(90, 60), 48), ImageOptions(size=32, resize=48)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (augmented(pixels, options, seed) for seed in (2**63 - 1, 2**63 - 1, 3))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == (3, 32, 32)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_crops_have_the_asked_share_of_the_area_and_flips_their_probability() -> None:
    pixels = torch.from_numpy(np.array(gradient(128, 128))).permute(2, 0, 1)
    options = ImageOptions(size=64, resize=128, scale=(0.16, 0.5), flip=0.25)
    shares, flips = [], []
    for seed in range(300):
        red, green = (augmented(pixels, options, seed)[channel].float() for channel in (0, 1))
        width, height = (red[:, -1] - red[:, 0]).mean() / 255, (green[-1] - green[0]).mean() / 255
        shares.append(float(width.abs() * height))
        flips.append(bool(width < 0))
    assert 0.13 < min(shares) < 0.2
    assert 0.45 < max(shares) < 0.53
    assert 0.18 < np.mean(flips) < 0.32
