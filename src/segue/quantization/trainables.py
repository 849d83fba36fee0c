"""What is trained of a quantized model: the grids of its groups, and the norms; and Adam.

Integers stay as they are.  Values are those that a saved checkpoint holds, rounded to its type at
every step; the gradient passes the rounding by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..checkpoints.config import QuantizationParams
from . import grid_search, rounding
from .methods import Parts

Arrays = dict[str, np.ndarray]
"""By the name of a parameter."""

SCALE_RATE, SHIFT_RATE, NORM_RATE = 1e-3, 2e-3, 2e-3
"""Adam's greatest steps: of a scale in shares of it, of a group's mean value in scales, of a norm
in shares of its mean.  All groups of a product move together: ten times as much loses four times
what there was."""

MOMENTUM, SQUARES = 0.9, 0.99
"""Adam's decay of gradients, and of their squares."""

_MOST_CHANGE = np.float32(0.5)
"""Of a scale, in shares of it: it keeps its sign, and is never 0."""


class Grids:
    """The grids of a quantized module, `scale · q + bias` for each group of a row.

    Trained are a scale's change, in shares of it, and the shift of a group's mean value, in scales:
    the two hardly depend on each other, where scale and bias do.

    Args:
        name: of the module.
        parts: as a `Method` returned them, affine.
        params: how it is quantized.
        dtype: what scales and biases are stored in; a key of `rounding.DTYPES`.
    """

    def __init__(self, name: str, parts: Parts, params: QuantizationParams, dtype: str) -> None:
        self._dtype = rounding.DTYPES[dtype]
        scales, biases = (parts[kind].astype(mx.float32) for kind in ("scales", "biases"))
        self._scales, self._biases = np.array(scales), np.array(biases)
        codes = mx.dequantize(
            parts["weight"],
            mx.ones_like(scales),
            mx.zeros_like(biases),
            params.group_size,
            params.bits,
        )
        shape = (*scales.shape, params.group_size)
        self._codes = np.array(codes.astype(mx.uint8)).reshape(shape)
        self._mean = self._codes.mean(axis=-1, dtype=np.float32)
        self._unit = np.abs(self._scales)
        self.names = f"{name}.scales", f"{name}.biases"

    def initial(self) -> Arrays:
        """Parameters that leave the grids as they are, `(rows, groups)` each."""
        return {name: np.zeros_like(self._scales) for name in self.names}

    def rates(self) -> dict[str, float]:
        """The learning rate of each parameter."""
        return dict(zip(self.names, (SCALE_RATE, SHIFT_RATE), strict=True))

    def stored(self, values: Mapping[str, np.ndarray]) -> Arrays:
        """Scales and biases `(rows, groups)` float32, exact in the type that they are stored in."""
        return dict(zip(self.names, self._grids(values), strict=True))

    def _grids(self, values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        change, shift = (values[name] for name in self.names)
        change = np.clip(change, -_MOST_CHANGE, _MOST_CHANGE)
        scales = grid_search.stored(self._scales * (1 + change), self._dtype)
        scales = np.where(scales == 0, self._scales, scales)  # too small for the type
        moved = self._biases + self._unit * shift - self._scales * change * self._mean
        return scales, grid_search.stored(moved, self._dtype)

    def weight(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The module's weight `(rows, columns)` float32."""
        scales, biases = self._grids(values)
        weight: np.ndarray = self._codes * scales[..., None]
        weight += biases[..., None]
        return weight.reshape(len(weight), -1)

    def gradients(self, gradient: np.ndarray) -> Arrays:
        """The gradients of the parameters, of that of the weight `(rows, columns)`."""
        parts = gradient.reshape(self._codes.shape)
        shift = parts.sum(axis=-1)
        change = np.einsum("rgk,rgk->rg", parts, self._codes, dtype=np.float32)
        change -= self._mean * shift
        first, second = self.names
        return {first: change * self._scales, second: shift * self._unit}


@dataclass(frozen=True, eq=False)
class Vector:
    """A tensor that is trained as it is: the weight or the bias of a norm.

    Attributes:
        name: of the tensor.
        start: its values, float32.
        dtype: what it is stored in; a key of `rounding.DTYPES`.
    """

    name: str
    start: np.ndarray
    dtype: str

    def initial(self) -> Arrays:
        """The parameters before training."""
        return {self.name: self.start.copy()}

    def rates(self) -> dict[str, float]:
        """The learning rate of each parameter."""
        return {self.name: NORM_RATE * max(float(np.abs(self.start).mean()), 1e-3)}

    def stored(self, values: Mapping[str, np.ndarray]) -> Arrays:
        """The tensor, as `weight`, by its name."""
        return {self.name: self.weight(values)}

    def weight(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The tensor in float32, exact in the type that it is stored in."""
        return grid_search.stored(values[self.name], rounding.DTYPES[self.dtype])

    def gradients(self, gradient: np.ndarray) -> Arrays:
        """The gradients of the parameters, of that of the tensor."""
        return {self.name: gradient}


@dataclass(eq=False)
class Adam:
    """Parameters that follow their gradients (Kingma and Ba, 2015).

    Attributes:
        values: the parameters.
        rates: the learning rate of each.
        first, second: running means of gradients, and of their squares.
        step: how many were made.
    """

    values: Arrays
    rates: Mapping[str, float]
    first: Arrays
    second: Arrays
    step: int = 0

    @classmethod
    def of(cls, values: Arrays, rates: Mapping[str, float]) -> Adam:
        """Begin."""
        first, second = ({n: np.zeros_like(v) for n, v in values.items()} for _ in range(2))
        return cls(values, rates, first, second)

    def update(self, gradients: Mapping[str, np.ndarray], share: float) -> None:
        """Make a step; parameters without a gradient, which nothing read, stay.

        Args:
            gradients: by parameter.
            share: of the learning rate.
        """
        self.step += 1
        unbiased = share / (1 - MOMENTUM**self.step)
        squares = 1 / (1 - SQUARES**self.step)
        for name, gradient in gradients.items():
            first, second = self.first[name], self.second[name]
            first *= np.float32(MOMENTUM)
            first += np.float32(1 - MOMENTUM) * gradient
            second *= np.float32(SQUARES)
            second += np.float32(1 - SQUARES) * np.square(gradient)
            length = np.sqrt(second * np.float32(squares)) + np.float32(1e-12)
            self.values[name] -= np.float32(self.rates[name] * unbiased) * first / length

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """All that it holds, by names."""
        for kind, arrays in (("value", self.values), ("1", self.first), ("2", self.second)):
            for name, values in arrays.items():
                yield f"{kind}/{name}", values

    def restore(self, arrays: Mapping[str, np.ndarray], step: int) -> None:
        """Take up what `arrays` gave."""
        for name, values in self.arrays():
            values[...] = arrays[name]
        self.step = step
