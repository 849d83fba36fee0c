"""How far the two engines' logits are apart on one checkpoint, in one pass and step by step.

Arguments: folder, threads.  Prints JSON.
"""

from __future__ import annotations

import json
import sys

import numpy as np

FRAMES = 20


def main(folder: str, threads: str, *_: str) -> None:
    """Measure and print."""
    from segue.checkpoints.opening import open_checkpoint
    from segue.engine.mlx import MLXEngine
    from segue.engine.openvino import OpenVINOEngine
    from segue.pattern import delay

    engine = OpenVINOEngine(open_checkpoint(folder), threads=int(threads))
    lm = engine.config.lm
    codes = np.random.default_rng(0).integers(0, lm.cardinality, (lm.num_codebooks, FRAMES))
    sequence = delay(codes.astype(np.int32), lm.delays, lm.special_token)
    theirs = MLXEngine(open_checkpoint(folder)).logits(sequence)
    # Step by step, earlier positions come from the cache, which rounds them.
    run, row = engine.lm.run(None), np.zeros(1, np.int32)
    embedded = [engine.lm.embed(column[None, None], n) for n, column in enumerate(sequence.T)]
    steps = np.concatenate([run(hidden, row) for hidden in embedded]).reshape(theirs.shape)
    print(
        json.dumps(
            {
                "logits beside MLX": float(np.abs(engine.logits(sequence) - theirs).max()),
                "logits, stepwise": float(np.abs(steps - theirs).max()),
                "largest logit": float(np.abs(theirs).max()),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
