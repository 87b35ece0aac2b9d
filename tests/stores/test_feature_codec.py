from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scrubjay.errors import StorageError
from scrubjay.stores._feature_codec import COMPANDING, SAMPLE, FeatureCodec

MOST = float(np.finfo(np.float16).max)
FINITE = st.floats(-1e6, 1e6, width=32)
ROWS = arrays(np.float32, (5, 3), elements=FINITE)


def sample(dim: int = 4, seed: int = 0, rows: int = SAMPLE) -> np.ndarray:
    """Features whose channels differ in scale by orders of magnitude; the last one is constant."""
    values = np.random.default_rng(seed).standard_t(3, (rows, dim)) * 10.0 ** -np.arange(dim) + np.arange(dim)
    values[:, -1] = 0.25
    return values.astype(np.float32)


@given(ROWS)
def test_float16_rounds_to_half_precision_and_clips_what_is_beyond(values: np.ndarray) -> None:
    codes, clipped = FeatureCodec.float16(3).encode(values)
    decoded = FeatureCodec.float16(3).decode(codes)
    assert codes.dtype == np.float16
    assert decoded.dtype == np.float32
    inside = np.abs(values) <= MOST
    np.testing.assert_array_equal(clipped, (~inside).sum(1))
    errors = np.abs(decoded.astype(np.float64) - values)
    assert (errors[inside] <= np.maximum(2.0**-11 * np.abs(values[inside]), 2.0**-25)).all()
    np.testing.assert_array_equal(np.abs(decoded[~inside]), np.float32(MOST))


@given(arrays(np.float32, (6, 4), elements=st.floats(-3000, 3000, width=32)), st.integers(0, 5))
def test_int8_keeps_to_its_bound_and_counts_what_it_clips(deviations: np.ndarray, seed: int) -> None:
    codec = FeatureCodec.int8(sample(seed=seed))
    centre, scale = np.frombuffer(codec.parameters, "<f4").reshape(2, 4).astype(np.float64)
    values = (centre + scale * deviations).astype(np.float32)
    codes, clipped = codec.encode(values)
    assert codes.dtype == np.int8
    u = (values.astype(np.float64) - centre) / scale
    reach = np.sinh(127.5 / COMPANDING)
    sure = (np.abs(u) < 0.999 * reach) | (np.abs(u) > 1.001 * reach)
    beyond = np.abs(u) > reach
    rows = sure.all(axis=1)
    np.testing.assert_array_equal(clipped[rows], beyond[rows].sum(axis=1))
    bound = scale * np.cosh(np.arcsinh(np.abs(u)) + 0.5 / COMPANDING) / (2 * COMPANDING)
    errors = np.abs(codec.decode(codes).astype(np.float64) - values)
    slack = 4e-6 * (np.abs(values) + scale)  # float32
    assert (errors <= bound + slack)[sure & ~beyond].all()


@given(arrays(np.int8, (5, 4), elements=st.integers(-127, 127)), st.integers(0, 5))
def test_codes_survive_decoding_and_encoding(codes: np.ndarray, seed: int) -> None:
    codec = FeatureCodec.int8(sample(seed=seed))
    again, clipped = codec.encode(codec.decode(codes))
    np.testing.assert_array_equal(again, codes)
    assert clipped.sum() == 0


def test_a_channel_that_was_constant_takes_other_values() -> None:
    first = np.zeros((SAMPLE, 3), np.float32)
    first[:, 0] = np.linspace(0, 1, SAMPLE)
    first[:, 1] = 5.0
    codec = FeatureCodec.int8(first)
    values = np.float32([[0.5, 5.0, 0.0], [2.0, 6.0, 0.5]])
    codes, clipped = codec.encode(values)
    assert clipped.tolist() == [0, 0]
    np.testing.assert_allclose(codec.decode(codes), values, rtol=0.05, atol=0.01)


def test_too_few_images_show_no_scales() -> None:
    assert FeatureCodec.fitted("int8", sample(rows=SAMPLE - 1)) == FeatureCodec.float16(4)
    assert FeatureCodec.fitted("int8", sample()) == FeatureCodec.int8(sample())
    assert FeatureCodec.fitted("float16", sample()) == FeatureCodec.float16(4)


@pytest.mark.parametrize("codec", [FeatureCodec.float16(4), FeatureCodec.int8(sample())])
def test_codecs_and_codes_as_text_and_bytes(codec: FeatureCodec) -> None:
    assert FeatureCodec.from_text(codec.to_text()) == codec
    codes, _ = codec.encode(sample(seed=1))
    rows = codec.to_bytes(codes)
    assert {len(row) for row in rows} == {codec.bytes_per_item} == {4 * codec.dtype.itemsize}
    again = codec.from_bytes(rows)
    assert again.dtype == codec.dtype
    np.testing.assert_array_equal(again, codes)
    assert codec.from_bytes([]).shape == (0, 4)


def test_damage_is_refused() -> None:
    codec = FeatureCodec.int8(sample())
    with pytest.raises(StorageError, match="features of 3 bytes instead of 4"):
        codec.from_bytes([b"1234", b"123"])
    whole = json.loads(codec.to_text())
    for change in ({"encoding": "int4"}, {"dim": 5}, {"dim": "x"}, {"parameters": "AA"}, {"parameters": 3}):
        with pytest.raises(StorageError, match="description of stored features is damaged"):
            FeatureCodec.from_text(json.dumps({**whole, **change}))
    for text in ("", "[]", "{}"):
        with pytest.raises(StorageError, match="description of stored features is damaged"):
            FeatureCodec.from_text(text)
