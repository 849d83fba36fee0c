"""How a matrix becomes integers and grids: by its values alone, or by what it does to its inputs.

A grid is `scale · q + bias` for q from 0 to `2 ** bits - 1`, one for each group of a row.  With `E`
the error of a row and `H` the second moments of its inputs, what a row loses is `E · H · Eᵀ`: the
mean square of what comes out wrong.  All rows of a matrix share H, and are solved side by side.

Matrices lie transposed here, `(columns, rows)`: the steps go from column to column, and do the same
for every row.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import ml_dtypes
import numpy as np

SHARES = (1.0, 0.88, 0.76)
"""Shares of a group's least and of its greatest value that a grid may begin from, in all pairs."""

CLIPPED_BITS = 5
"""Up to so many bits clipping pays: with more, the whole range is always the best."""

REFITS, MORE_REFITS = 3, 8
"""Times that a grid is fitted to its integers, and the integers chosen anew: of each beginning, and
then of the best one.  Twice as many of each gain a hundredth."""

DAMPING = 0.01
"""Of the mean of H's diagonal, added to it: calibration is a sample, and H may be singular."""

SWEEPS = 4
"""Of coordinate descent over all columns; more gain less than a hundredth."""

_BLOCK = 64
_GROUPS_AT_A_TIME = 4096
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


def stored(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return float32 values as they are after they were stored in a type."""
    return values.astype(dtype).astype(np.float32) if dtype != np.float32 else values


def search(
    weight: np.ndarray,
    bits: int,
    group_size: int,
    dtype: np.dtype,
    importance: np.ndarray | None = None,
) -> Rounded:
    """Choose for each group the grid with the least squared error, among narrower ones too.

    For each pair of `SHARES` the integers are those of a grid over that part of the range; scale
    and bias are then fitted to them by least squares, and integers chosen anew (`REFITS`).

    Args:
        weight: `(columns, rows)` float32.
        bits: of an integer.
        group_size: weights of a row that share a grid.
        dtype: what scales and biases are stored in; errors are those after that.
        importance: of each column, `(columns,)`, what its squared error is multiplied with.
    """
    columns, rows = weight.shape
    groups = weight.reshape(-1, group_size, rows)
    weights = np.ones(columns) if importance is None else importance
    weights = np.maximum(weights, 1e-8 * max(weights.max(), 1e-30))
    weights = weights.reshape(-1, group_size)
    weights = (weights / weights.mean(axis=1, keepdims=True)).astype(np.float32)
    codes = np.empty(groups.shape, np.uint8)
    scales, biases = (np.empty((len(groups), rows), np.float32) for _ in range(2))
    step = max(1, _GROUPS_AT_A_TIME // len(groups))

    def part(start: int) -> None:
        at = slice(start, start + step)
        for g in range(len(groups)):
            found = _searched(np.ascontiguousarray(groups[g, :, at]), weights[g], bits, dtype)
            codes[g, :, at], scales[g, at], biases[g, at] = found

    with ThreadPoolExecutor() as pool:
        list(pool.map(part, range(0, rows, step)))
    return Rounded(codes.reshape(columns, rows), scales, biases)


def _searched(
    x: np.ndarray, weights: np.ndarray, bits: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best codes, scales and biases of groups `(size, n)`."""
    most = np.float32((1 << bits) - 1)
    w, total = weights[:, None], weights.sum()
    mean = (w * x).sum(axis=0) / total
    low, high = x.min(axis=0), x.max(axis=0)

    def fitted(
        scale: np.ndarray, bias: np.ndarray, times: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Error, integers, scale and bias after fitting from there so many times."""
        for _ in range(times):
            scale, bias = _fitted(x, _nearest(x, scale, bias, most), w, total, mean)
        scale, bias = stored(scale, dtype), stored(bias, dtype)
        scale = np.where(scale == 0, 1, scale)  # too small for the type
        q = _nearest(x, scale, bias, most)
        error = q * scale
        error += bias
        error -= x
        np.square(error, out=error)
        error *= w
        return error.sum(axis=0), q, scale, bias

    best = np.full(x.shape[1], np.inf, np.float32)
    scales, biases = np.ones_like(best), mean
    shares = SHARES if bits <= CLIPPED_BITS else SHARES[:1]
    for below, above in product(shares, shares):
        bias = np.float32(below) * low
        scale = np.maximum((np.float32(above) * high - bias) / most, _TINY)
        error, _, scale, bias = fitted(scale, bias, REFITS)
        better = error < best
        best = np.where(better, error, best)
        scales, biases = np.where(better, scale, scales), np.where(better, bias, biases)
    error, q, scale, bias = fitted(scales, biases, MORE_REFITS)
    worse = error > best
    scales, biases = np.where(worse, scales, scale), np.where(worse, biases, bias)
    q = _nearest(x, scales, biases, most)
    return q.astype(np.uint8), scales, biases


def _nearest(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, most: np.float32) -> np.ndarray:
    q: np.ndarray = x - bias
    q *= 1 / scale
    np.rint(q, out=q)
    np.clip(q, 0, most, out=q)
    return q


def _fitted(
    x: np.ndarray, q: np.ndarray, w: np.ndarray, total: np.float32, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and bias with the least weighted error; a group of one integer keeps scale 1."""
    wq = w * q
    mean_q = wq.sum(axis=0) / total
    spread = (wq * q).sum(axis=0) - total * mean_q * mean_q
    together = (wq * x).sum(axis=0) - total * mean_q * mean
    flat = spread <= 1e-6 * total
    scale = np.where(flat, 1, together / np.where(flat, 1, spread))
    scale = np.where(np.abs(scale) < _TINY, 1, scale).astype(np.float32)
    return scale, (mean - scale * mean_q).astype(np.float32)


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
    diagonal = np.diag(moments).astype(np.float64)
    mean = max(float(diagonal.mean()), 1e-30)
    grid = search(weight, bits, group_size, dtype, diagonal + 1e-3 * mean)
    H = moments.astype(np.float64)
    H[np.diag_indices(len(H))] += DAMPING * mean
    order = np.argsort(-diagonal, kind="stable")
    found = _ldlq(weight, H, grid, bits, order)
    return _swept(weight, H.astype(np.float32), found, bits, dtype, sweeps)


def _ldlq(
    weight: np.ndarray, H: np.ndarray, grid: Rounded, bits: int, order: np.ndarray
) -> Rounded:
    columns = len(weight)
    size, most = columns // len(grid.scales), np.float32((1 << bits) - 1)
    # Upper triangular with H = R · Rᵀ: the usual factor of H with rows and columns reversed.
    backwards = order[::-1]
    R = np.linalg.cholesky(H[np.ix_(backwards, backwards)])[::-1, ::-1]
    U = (R / np.diag(R)).astype(np.float32)
    del R
    w = weight[order]
    errors, codes = np.empty_like(w), np.empty(w.shape, np.uint8)
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
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
