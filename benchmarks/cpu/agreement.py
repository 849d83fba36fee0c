"""How far an engine's logits are from MLX's on one checkpoint, in one pass and step by step.

Arguments: folder, threads, runs, seconds, engine.  Prints JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from .segue_row import engine_named

FRAMES = 20


def stepwise(engine: Any, sequence: np.ndarray) -> np.ndarray:
    """Logits after each column, run by itself."""
    if engine.name == "native":
        from segue.engine.native.lm import Cache, Rows

        lm = engine.native
        cache = Cache(lm, sequence.shape[1])
        return np.concatenate(
            [lm.run([Rows(cache, lm.embed(c[None], n))]) for n, c in enumerate(sequence.T)]
        )
    run, row = engine.lm.run(None), np.zeros(1, np.int32)
    embedded = [engine.lm.embed(column[None, None], n) for n, column in enumerate(sequence.T)]
    return np.concatenate([run(hidden, row) for hidden in embedded])


def divergence(expected: np.ndarray, found: np.ndarray) -> float:
    """Mean KL divergence over columns and codebooks."""
    p, q = (x.astype(np.float64) for x in (expected, found))
    p, q = (x - x.max(-1, keepdims=True) for x in (p, q))
    p, q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (p, q))
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def main(folder: str, threads: str, runs: str, seconds: str, name: str) -> None:
    """Measure and print."""
    from segue.checkpoints.opening import open_checkpoint
    from segue.engine.mlx import MLXEngine
    from segue.pattern import delay

    engine = engine_named(name, open_checkpoint(folder), int(threads))
    lm = engine.config.lm
    codes = np.random.default_rng(0).integers(0, lm.cardinality, (lm.num_codebooks, FRAMES))
    sequence = delay(codes.astype(np.int32), lm.delays, lm.special_token)
    theirs = MLXEngine(open_checkpoint(folder)).logits(sequence)
    # Step by step, earlier positions come from the cache, which rounds them.
    steps = stepwise(engine, sequence).reshape(theirs.shape)
    print(
        json.dumps(
            {
                "logits beside MLX": float(np.abs(engine.logits(sequence) - theirs).max()),
                "logits, stepwise": float(np.abs(steps - theirs).max()),
                "KL to MLX, stepwise": divergence(theirs, steps),
                "largest logit": float(np.abs(theirs).max()),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
