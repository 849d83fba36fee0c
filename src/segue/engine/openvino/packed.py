"""MLX's packed weights, in numpy and as OpenVINO's compressed constants.

MLX's affine mode is `scale * q + bias` for each group of a row; OpenVINO's compressed weights are
`scale * (q - zero_point)`.  They are the same numbers with `zero_point = -bias / scale`, which is a
whole number where MLX wrote the group in float32; where it is not, or lies outside of what q can
be, the zero point is a float, and the weights stay as small.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from ...checkpoints.config import QuantizationParams
from .graph import Output, constant, integers
from .runtime import ops, ov

SCALE_DTYPES = {"mxfp4": "float8_e8m0fnu", "mxfp8": "float8_e8m0fnu", "nvfp4": "float8_e4m3fn"}
"""How the scales of the modes without biases are stored."""


PACKED_BITS = (4, 8)
"""Bits of a weight, in the affine mode, that OpenVINO's products take as they are."""


@dataclass(frozen=True)
class Packed:
    """A quantized matrix as it lies on disk.

    Attributes:
        params: how it is quantized.
        weight: `(rows, columns * bits / 32)` uint32.
        scales: `(rows, columns / group size)`, float32 in the affine mode.
        biases: as `scales`; None in other modes.
    """

    params: QuantizationParams
    weight: np.ndarray
    scales: np.ndarray
    biases: np.ndarray | None

    @property
    def fits(self) -> bool:
        """Whether OpenVINO can hold it compressed."""
        return (
            self.params.mode == "affine"
            and self.params.bits in PACKED_BITS
            and bool(self.scales.all())
        )

    def rows(self, at: np.ndarray) -> np.ndarray:
        """Some of its rows `(*at.shape, columns)`, float32."""
        biases = None if self.biases is None else self.biases[at]
        return dequantized(self.weight[at], self.scales[at], biases, self.params)

    def dense(self) -> np.ndarray:
        """The whole matrix, float32."""
        return dequantized(self.weight, self.scales, self.biases, self.params)

    def constant(self) -> Output:
        """The matrix `(rows, columns)` in a graph, compressed; only where it `fits`."""
        assert self.biases is not None  # noqa: S101  # `fits` says so
        rows, groups = self.scales.shape
        bits, group_size = self.params.bits, self.params.group_size
        zero_points = -self.biases / self.scales
        whole = np.rint(zero_points)
        # Both were rounded to float32 once, so a whole ratio is off by a few units at most.
        error = np.abs(zero_points - whole) / np.maximum(1, np.abs(whole))
        if error.max() < 1e-6 and whole.min() >= 0 and whole.max() < 2**bits:
            packed = _packed(whole.astype(np.uint8), bits)
            zero = ops.convert(_unsigned(packed, bits, (rows, groups, 1)), ov.Type.f32)
        else:
            zero = constant(zero_points[..., None])
        codes = _unsigned(_bytes(self.weight), bits, (rows, groups, group_size))
        shifted = ops.subtract(ops.convert(codes, ov.Type.f32), zero)
        values = ops.multiply(shifted, constant(self.scales[..., None]))
        return ops.reshape(values, integers(rows, groups * group_size), False)


def _unsigned(packed: np.ndarray, bits: int, shape: tuple[int, ...]) -> Output:
    """A constant of unsigned integers, which `packed` holds as bytes."""
    if bits == 4:
        return constant(packed, ov.Type.u4, shape)
    return constant(packed.reshape(shape))


def _packed(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Numbers of 4 bits as bytes, two in each, the first one low; of 8 bits as they are."""
    if bits == 8:
        return numbers
    flat = np.append(numbers, np.zeros(numbers.size % 2, np.uint8))
    pairs: np.ndarray = flat[::2] | flat[1::2] << 4
    return pairs


def stacked(parts: list[Packed]) -> Packed:
    """The matrices of one quantization below each other."""
    if len(parts) == 1:
        return parts[0]
    biases = [part.biases for part in parts if part.biases is not None]
    return Packed(
        parts[0].params,
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate(biases) if biases else None,
    )


def dequantized(
    weight: np.ndarray, scales: np.ndarray, biases: np.ndarray | None, params: QuantizationParams
) -> np.ndarray:
    """The values `(..., columns)` float32 of packed rows, as `mlx.core.dequantize` has them."""
    codes = unpacked(weight, params.bits)
    groups = codes.reshape(*codes.shape[:-1], -1, params.group_size)
    if biases is not None:
        values = groups.astype(np.float32)
        values *= scales[..., None]
        values += biases[..., None]
    else:
        kind = ml_dtypes.float4_e2m1fn if params.bits == 4 else ml_dtypes.float8_e4m3fn
        scale = scales.view(SCALE_DTYPES[params.mode]).astype(np.float32)
        values = scale[..., None] * groups.view(kind).astype(np.float32)
    whole: np.ndarray = values.reshape(codes.shape)
    return whole


def unpacked(weight: np.ndarray, bits: int) -> np.ndarray:
    """The numbers `(..., columns)` uint8 in words `(..., columns * bits / 32)` uint32.

    They are one stream of bits, lowest first.
    """
    packed = _bytes(weight)
    if bits == 8:
        return packed
    if bits in (2, 4):
        parts = np.empty((*packed.shape, 8 // bits), np.uint8)
        for n in range(8 // bits):  # long loops in numpy, where one over the parts would be short
            np.bitwise_and(packed >> np.uint8(n * bits), np.uint8(2**bits - 1), out=parts[..., n])
        return parts.reshape(*packed.shape[:-1], -1)
    stream = np.unpackbits(packed, axis=-1, bitorder="little")
    numbers = stream.reshape(*packed.shape[:-1], -1, bits)
    return np.packbits(numbers, axis=-1, bitorder="little")[..., 0]


def _bytes(weight: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(weight).view(np.uint8)
