"""Whether what a kernel writes to a cache persists, with this MLX on this GPU.

To MLX a kernel's inputs are only read: it may copy them first, and promises nothing of what is
written there.  `attend` writes all the same, so it is tried once before it is relied upon.
"""

from __future__ import annotations

from functools import cache

import mlx.core as mx
import numpy as np

from .attention import attend

STEPS, HEADS, DIM = 4, 2, 64


@cache
def cache_write_persists() -> bool:
    """Whether each of a few steps of `attend` attends to all before it."""
    random = np.random.default_rng(0).standard_normal((STEPS, 1, 3 * HEADS * DIM))
    qkv = random.astype(np.float32)
    step = mx.compile(lambda x, filled, at: (attend(x, filled, at, HEADS), filled))
    filled, found = mx.zeros((1, 2, HEADS, STEPS, DIM)), [mx.zeros((1, HEADS * DIM))]
    try:
        for n in range(STEPS):
            x = mx.array(qkv[n]) + 0 * mx.concatenate([found[-1]] * 3, axis=1)
            attended, filled = step(x, filled, mx.array([n]))
            found.append(attended)
        outputs = np.array(mx.concatenate(found[1:]))
    except RuntimeError:  # whatever CUDA says to a kernel that it cannot run
        return False
    return np.allclose(outputs, _expected(qkv), rtol=0, atol=1e-4)


def _expected(qkv: np.ndarray) -> np.ndarray:
    """Attention `(STEPS, HEADS · DIM)` of each step over itself and those before."""
    q, k, v = qkv.reshape(STEPS, 3, HEADS, DIM).transpose(1, 2, 0, 3)
    scores = q @ k.swapaxes(1, 2) / DIM**0.5
    scores[:, np.triu(np.ones((STEPS, STEPS), bool), 1)] = -np.inf
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    attended = shares / shares.sum(axis=-1, keepdims=True) @ v
    return np.ascontiguousarray(attended.transpose(1, 0, 2)).reshape(STEPS, -1)
