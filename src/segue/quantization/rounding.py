"""How a matrix becomes integers and grids: by its values alone, or by what it does to its inputs.

A grid is `scale · q + bias` for q from 0 to `2 ** bits - 1`, one for each group of a row.  With `E`
the error of a row and `H` the second moments of its inputs, what a row loses is `E · H · Eᵀ`: the
mean square of what comes out wrong.  All rows of a matrix share H, and are solved side by side.

Matrices lie transposed here, `(columns, rows)`: the steps go from column to column, and do the same
for every row.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from . import grid_search
from .grid_search import stored

DAMPING = 0.01
"""Of the mean of H's diagonal, added to it: calibration is a sample, and H may be singular."""

SWEEPS = 4
"""Of coordinate descent over all columns; more gain less than a hundredth."""

BLOCK = 64
"""Columns that are rounded before what they changed is carried on to all later ones."""

_FACTOR_BLOCK = 512
_TINY = np.float32(1e-20)

DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
}
"""How scales and biases are stored, by name."""


@dataclass(frozen=True, eq=False)
class Rounded:
    """A matrix in integers.

    Attributes:
        codes: `(columns, rows)` uint8.
        scales, biases: `(groups, rows)` float32, exact in the type that they are stored in.
    """

    codes: np.ndarray
    scales: np.ndarray
    biases: np.ndarray

    def values(self) -> np.ndarray:
        """The matrix `(columns, rows)` float32 that they stand for."""
        groups, rows = self.scales.shape
        values = self.codes.reshape(groups, -1, rows).astype(np.float32)
        values *= self.scales[:, None]
        values += self.biases[:, None]
        return values.reshape(-1, rows)


def search(
    weight: np.ndarray,
    bits: int,
    group_size: int,
    dtype: np.dtype,
    importance: np.ndarray | None = None,
) -> Rounded:
    """Search for grids as `grid_search.search` does, of a matrix that lies transposed.

    Args:
        weight: `(columns, rows)` float32.
        bits: of an integer.
        group_size: weights of a row that share a grid.
        dtype: what scales and biases are stored in; errors are those after that.
        importance: of each column, `(columns,)`, what its squared error is multiplied with.
    """
    found = grid_search.search(weight.T, bits, group_size, dtype, importance)
    return Rounded(*(np.ascontiguousarray(x.T) for x in (found.codes, found.scales, found.biases)))


def calibrated(
    weight: np.ndarray,
    moments: np.ndarray,
    bits: int,
    group_size: int,
    dtype: np.dtype,
    sweeps: int = SWEEPS,
) -> Rounded:
    """Choose integers and grids that lose the least of what a matrix makes of its inputs.

    1. A grid for each group by `search`, columns weighted by H's diagonal.
    2. Columns are rounded one after the other, the ones with the largest inputs first, each aiming
       at what makes up for the errors before it (GPTQ, Frantar and others 2022, in the form of
       LDLQ, Chee and others 2023: with `H = U · D · Uᵀ`, U unit upper triangular, column k aims at
       `w_k + Σ E_i · U_ik` over the columns i before it).
    3. Sweeps over the groups: each integer becomes the best one for the others as they are
       (coordinate descent), then scale and bias of the group are the best for its integers.

    Args:
        weight: `(columns, rows)` float32.
        moments: H, `(columns, columns)`, symmetric.
        bits: of an integer.
        group_size: weights of a row that share a grid.
        dtype: what scales and biases are stored in.
        sweeps: of step 3.
    """
    diagonal, importance, damping = damped(moments)
    grid = search(weight, bits, group_size, dtype, importance)
    order = np.argsort(-diagonal, kind="stable")
    found = _ldlq(weight, unit_factor(moments, damping, order), grid, bits, order)
    H = moments.copy()
    H[np.diag_indices(len(H))] += np.float32(damping)
    return _swept(weight, H, found, bits, dtype, sweeps)


def damped(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return H's diagonal, what columns are weighted with in a search, and what is added to it."""
    diagonal = np.diag(moments).astype(np.float64)
    mean = max(float(diagonal.mean()), 1e-30)
    return diagonal, diagonal + 1e-3 * mean, DAMPING * mean


def unit_factor(moments: np.ndarray, damping: float, order: np.ndarray) -> np.ndarray:
    """Return U `(columns, columns)` float32 of `H = U · D · Uᵀ`, unit upper triangular.

    H are the moments with columns in an order, and damped.  What lies below U's diagonal has no
    meaning.  Computed in float64, on the host: it is a small part of the work, and H may be close
    to singular.  H is factored in place, since of 8,192 columns it takes half a GiB.
    """
    # Upper triangular with H = R · Rᵀ: the usual factor of H with rows and columns reversed.
    backwards, columns = order[::-1], len(order)
    L = np.empty(moments.shape, np.float64)
    for start in range(0, columns, _FACTOR_BLOCK):
        stop = start + _FACTOR_BLOCK
        L[start:stop] = moments[backwards[start:stop]][:, backwards]
    L[np.diag_indices(columns)] += damping
    _factor(L)
    U, R = np.empty(L.shape, np.float32), L[::-1, ::-1]
    diagonal = np.diag(R).copy()
    for start in range(0, columns, _FACTOR_BLOCK):
        stop = start + _FACTOR_BLOCK
        np.divide(R[start:stop], diagonal, out=U[start:stop], casting="same_kind")
    return U


def _factor(H: np.ndarray) -> None:
    """Cholesky's lower factor in place; what lies above the diagonal's blocks stays."""
    for start in range(0, len(H), _FACTOR_BLOCK):
        stop = min(start + _FACTOR_BLOCK, len(H))
        H[start:, start:stop] -= H[start:, :start] @ H[start:stop, :start].T
        top = np.linalg.cholesky(H[start:stop, start:stop])
        H[start:stop, start:stop] = top
        # top · Xᵀ = Hᵀ; the inverse of a block is as exact as its solution.
        H[stop:, start:stop] = H[stop:, start:stop] @ np.linalg.inv(top).T


def _ldlq(
    weight: np.ndarray, U: np.ndarray, grid: Rounded, bits: int, order: np.ndarray
) -> Rounded:
    columns = len(weight)
    size, most = columns // len(grid.scales), np.float32((1 << bits) - 1)
    w = weight[order]
    errors, codes = np.empty_like(w), np.empty(w.shape, np.uint8)
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        aims = w[start:stop] + U[:start, start:stop].T @ errors[:start]
        for k in range(start, stop):
            group = order[k] // size
            scale, bias = grid.scales[group], grid.biases[group]
            aim = aims[k - start] + U[start:k, k] @ errors[start:k]
            q = np.clip(np.rint((aim - bias) / scale), 0, most)
            codes[k] = q
            errors[k] = w[k] - (scale * q + bias)
    found = np.empty_like(codes)
    found[order] = codes
    return Rounded(found, grid.scales, grid.biases)


def _swept(
    weight: np.ndarray, H: np.ndarray, start: Rounded, bits: int, dtype: np.dtype, sweeps: int
) -> Rounded:
    size, most = len(weight) // len(start.scales), np.float32((1 << bits) - 1)
    codes = start.codes.astype(np.float32)
    scales, biases = start.scales.copy(), start.biases.copy()
    errors = weight - start.values()
    gradient = H @ errors
    for _ in range(sweeps):
        for group in range(len(scales)):
            at = slice(group * size, (group + 1) * size)
            part = _Group(weight[at], codes[at], errors[at], gradient[at].copy(), H[at, at])
            part.descend(scales[group], biases[group], most)
            scale, bias = part.refitted(scales[group], biases[group])
            scales[group], biases[group] = stored(scale, dtype), stored(bias, dtype)
            before = part.before
            errors[at] = weight[at] - (scales[group] * codes[at] + biases[group])
            gradient += H[:, at] @ (errors[at] - before)
    return Rounded(codes.astype(np.uint8), scales, biases)


class _Group:
    """The columns of a group: views of codes and errors, and a gradient `H · E` of their own."""

    def __init__(
        self,
        weight: np.ndarray,
        codes: np.ndarray,
        errors: np.ndarray,
        gradient: np.ndarray,
        H: np.ndarray,
    ) -> None:
        self.weight, self.codes, self.errors = weight, codes, errors
        self.gradient, self.H, self.before = gradient, H, errors.copy()

    def descend(self, scale: np.ndarray, bias: np.ndarray, most: np.float32) -> None:
        """Choose each integer anew, the others as they are."""
        per_scale = 1 / scale
        for k, (w, error) in enumerate(zip(self.weight, self.errors, strict=True)):
            aim = w - error
            aim += self.gradient[k] / self.H[k, k]
            aim -= bias
            aim *= per_scale
            q = np.clip(np.rint(aim, out=aim), 0, most, out=aim)
            new = w - (scale * q + bias)
            changed = new - error
            self.gradient += np.multiply.outer(self.H[:, k], changed)
            self.codes[k], self.errors[k] = q, new

    def refitted(self, scale: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best scale and bias `(rows,)` for the integers, all other groups as they are."""
        q, ones = self.codes, self.H.sum(axis=1)
        qq, q1, n = (q * (self.H @ q)).sum(axis=0), ones @ q, ones.sum()
        aim_q, aim_1 = (q * self.gradient).sum(axis=0), self.gradient.sum(axis=0)
        determinant = qq * n - q1 * q1
        singular = determinant <= 1e-6 * qq * n
        safe = np.where(singular, 1, determinant)
        more = np.where(singular, 0, (aim_q * n - aim_1 * q1) / safe)
        shift = np.where(singular, aim_1 / n, (aim_1 * qq - aim_q * q1) / safe)
        new = scale + more
        usable = np.abs(new) > _TINY
        return np.where(usable, new, scale), np.where(usable, bias + shift, bias)
