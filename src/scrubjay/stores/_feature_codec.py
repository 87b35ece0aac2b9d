"""How trunk features are stored: as float16, or as int8 with a centre and a scale per channel.

float16  x is rounded to half precision: relative error at most 2⁻¹¹ for magnitudes from 6·10⁻⁵ to 65,504
int8     q = round(k asinh((x − c)/s)) in −127 … 127, decoded to c + s sinh(q/k): an error of at most about
         √(s² + (x − c)²)/(2k), which is s/(2k) near the centre and 1/(2k) of the deviation far from it

c and s are the mean and half the standard deviation of the channels in a sample, fixed when the first features of an
era are stored, and stored beside them, so that all items of an era are decoded alike. The features of a trunk have
heavy tails: of 1,200 drawn birds 93 % have a value beyond 1.5 times the range of 64 others, and clipping it turns their
embedding. Hence the levels are companded (Smith, Instantaneous Companding of Quantized Signals, 1957): with k = 20 they
reach to 143 standard deviations. Values beyond are clipped, and counted.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import StorageError

Encoding = Literal["float16", "int8"]
Codes = NDArray[np.float16] | NDArray[np.int8]

SAMPLE = 64
"""Smallest number of images whose features show the scales of an era."""
COMPANDING = 20.0
"""k: levels of int8 for each unit s near the centre of a channel."""
_LEVELS = 127
_DEVIATIONS = np.sinh(np.arange(-_LEVELS, _LEVELS + 1) / COMPANDING).astype(np.float32)  # of the levels, in units of s
_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = 2.0**-10  # scale of a channel that hardly varies in the sample, as a share of its magnitude


@dataclass(frozen=True, slots=True)
class FeatureCodec:
    """Encodes trunk features (N, p) of one era. Two codecs are equal if they decode every code alike.

    Attributes:
        encoding: "float16" or "int8".
        dim: p, number of channels.
        parameters: little-endian float32 (2, p), the centres and the scales of the channels; empty for float16.
    """

    encoding: Encoding
    dim: int
    parameters: bytes = b""

    @classmethod
    def float16(cls, dim: int) -> FeatureCodec:
        """The codec that rounds to half precision."""
        return cls("float16", dim)

    @classmethod
    def int8(cls, sample: NDArray[np.float32]) -> FeatureCodec:
        """The codec with 255 levels for each channel, around the mean of a sample.

        Args:
            sample: float32 (N, p), finite, at least one row; `SAMPLE` or more to be of use.
        """
        wide = sample.astype(np.float64)
        magnitude = np.abs(wide).max(axis=0)
        typical = float(np.median(magnitude)) or 1.0  # of a channel that is zero in the whole sample
        scale = np.maximum(wide.std(axis=0) / 2, _SMALLEST * np.where(magnitude > 0, magnitude, 8 * typical))
        return cls("int8", sample.shape[1], np.stack([wide.mean(axis=0), scale]).astype("<f4").tobytes())

    @classmethod
    def fitted(cls, encoding: Encoding, sample: NDArray[np.float32]) -> FeatureCodec:
        """The codec of an encoding for features like a sample (N, p); float16 where it is too small to show scales."""
        if encoding == "int8" and len(sample) >= SAMPLE:
            return cls.int8(sample)
        return cls.float16(sample.shape[1])

    @property
    def dtype(self) -> np.dtype[np.float16] | np.dtype[np.int8]:
        """Data type of the codes."""
        return np.dtype(np.float16) if self.encoding == "float16" else np.dtype(np.int8)

    @property
    def bytes_per_item(self) -> int:
        """Size of the codes of one item."""
        return self.dim * self.dtype.itemsize

    def encode(self, values: NDArray[np.float32]) -> tuple[Codes, NDArray[np.int64]]:
        """The codes (N, p) of finite features (N, p), and for each row the number of values that were clipped (N,)."""
        if self.encoding == "float16":
            return np.clip(values, -_LARGEST, _LARGEST).astype(np.float16), (np.abs(values) > _LARGEST).sum(axis=1)
        centre, scale = self._parameters()
        levels = np.rint(COMPANDING * np.arcsinh((values - centre) / scale))
        return np.clip(levels, -_LEVELS, _LEVELS).astype(np.int8), (np.abs(levels) > _LEVELS).sum(axis=1)

    def decode(self, codes: Codes) -> NDArray[np.float32]:
        """Features float32 (N, p) of codes (N, p). Encoding them again gives the same codes."""
        if self.encoding == "float16":
            return codes.astype(np.float32)
        centre, scale = self._parameters()
        values: NDArray[np.float32] = _DEVIATIONS[codes.astype(np.int16) + _LEVELS]
        values *= scale
        values += centre
        return values

    def to_bytes(self, codes: Codes) -> list[bytes]:
        """Each row of codes (N, p) as bytes, little-endian."""
        rows = np.ascontiguousarray(codes.astype(self.dtype.newbyteorder("<"), copy=False))
        return [row.tobytes() for row in rows]

    def from_bytes(self, rows: list[bytes]) -> Codes:
        """The inverse of `to_bytes`: codes (N, p).

        Raises:
            StorageError: a row has another length.
        """
        wrong = next((len(row) for row in rows if len(row) != self.bytes_per_item), None)
        if wrong is not None:
            raise StorageError(
                f"stored features of {wrong} bytes instead of {self.bytes_per_item}: the store is damaged; restore the "
                "gallery from a copy."
            )
        flat = np.frombuffer(b"".join(rows), self.dtype.newbyteorder("<"))
        codes: Any = flat.astype(self.dtype, copy=False).reshape(len(rows), self.dim)
        return cast(Codes, codes)

    def to_text(self) -> str:
        """The codec as JSON."""
        parameters = base64.b64encode(self.parameters).decode()
        return json.dumps({"encoding": self.encoding, "dim": self.dim, "parameters": parameters})

    @classmethod
    def from_text(cls, text: str) -> FeatureCodec:
        """The inverse of `to_text`.

        Raises:
            StorageError: the text does not describe a codec.
        """
        try:
            values = json.loads(text)
            codec = cls(values["encoding"], int(values["dim"]), base64.b64decode(values["parameters"]))
            expected = {"float16": 0, "int8": 8 * codec.dim}[codec.encoding]
            if len(codec.parameters) != expected:
                raise ValueError(f"{len(codec.parameters)} bytes of parameters instead of {expected}")
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"the description of stored features is damaged ({error}); restore the gallery from a copy."
            ) from None
        return codec

    def _parameters(self) -> NDArray[np.float32]:
        parameters: NDArray[np.float32] = np.frombuffer(self.parameters, "<f4").reshape(2, self.dim).astype(np.float32)
        return parameters
