"""segue on MLX: a whole request, and the time to its first second of audio."""

from __future__ import annotations

import re
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from segue.audio import from_array
from segue.checkpoints.recipe import Recipe
from segue.continuation import Continuation, Request
from segue.engine.base import Sampling
from segue.engine.mlx import MLXEngine
from segue.preview import Preview

from . import shapes

BITS = {"float16": None, "8-bit": 8, "4-bit": 4}
TEXT = "drums piano fast slow bass strings minor drums"
RATE = 32_000


class Row:
    """One checkpoint, loaded once.

    Args:
        weights: one of `BITS`.
        shape: one of `shapes.DECODERS`.
        prompt_s: length of the prompt.
        output_s: of prompt and continuation together.
    """

    def __init__(self, weights: str, shape: str, prompt_s: float, output_s: float) -> None:
        mx.set_cache_limit(shapes.CACHE_BYTES)
        bits = BITS[weights]
        recipe = Recipe("decoder-linears", bits, 64 if shape != "toy" else 32) if bits else None
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = shapes.checkpoint(shape, Path(folder))
            self._engine = MLXEngine(checkpoint, recipe=recipe)
            self._engine.read_weights()
            self._engine.condition(TEXT)
        noise = np.random.default_rng(0).standard_normal((round(prompt_s * RATE), 1))
        self._audio = from_array((0.1 * noise).astype(np.float32), RATE)
        self._lengths = {"prompt_seconds": prompt_s, "output_seconds": output_s}
        self.about = {
            "device": self._engine.device,
            "dtype": self._engine.dtype,
            "kernels": sorted(self._engine.kernels),
            "mlx": version("mlx"),
        }

    def bytes_a_step(self) -> int:
        """Count the bytes of weights that every step reads: layers and heads alone."""
        lm = self._engine.lm
        parts = [lm.lm_heads, lm.layer_norm]
        for layer in lm.layers:
            parts += [layer.self_attn, layer.fc1, layer.fc2]
        arrays = [a for part in parts for _, a in _leaves(part.parameters())]
        return sum(a.nbytes for a in arrays)

    def run(self, variant: str) -> dict[str, float]:
        """Run one request; `variant` is a combination of `guided` and a number of takes.

        Beside the peak is what had been planned: what is held at the start, and the footprint.
        """
        takes = int(found[1]) if (found := re.search(r"(\d+) takes", variant)) else 1
        options: dict[str, Any] = {
            "text": TEXT if "guided" in variant else "",
            "variations": takes,
            "seed": 1,
            **self._lengths,
        }
        request = Request(self._audio, **options)
        first_s = self._first_audio(request)
        planned = mx.get_active_memory() + self._planned(request)
        mx.reset_peak_memory()
        start = time.perf_counter()
        continuation = Continuation(self._engine, request)
        for _ in continuation.frames():
            pass
        result = continuation.result()
        whole_s = time.perf_counter() - start
        times = result.timings
        return {
            "ms a step": 1000 * times["token_generate_s"] / result.steps,
            "encode s": times["prompt_encode_s"],
            "prefill s": times["prefill_s"],
            "decode s": times["decode_full_s"],
            "first audio s": first_s,
            "end to end s": whole_s,
            "peak GB": mx.get_peak_memory() / 1e9,
            "planned GB": planned / 1e9,
        }

    def _planned(self, request: Request) -> int:
        """Bytes that the engine plans for a request's steps."""
        frames = [round(50 * seconds) for seconds in self._lengths.values()]
        found = self._engine.footprint(
            request.variations,
            Sampling(guidance_coef=3.0 if request.guided else None),
            known=frames[0] + 1,
            length=frames[1] + 4,
            tokens=len(TEXT.split()) + 1 if request.text.strip() else 0,
        )
        return found.total

    def _first_audio(self, request: Request) -> float:
        """Seconds from the request to the first window of audio."""
        start = time.perf_counter()
        continuation = Continuation(self._engine, request)
        frames = continuation.prompt_codes.shape[1]
        preview = Preview(self._engine, frames, request.audio.sample_rate, request.audio.channels)
        for _ in continuation.frames():
            if preview.more(continuation.codes) is not None:
                break
        return time.perf_counter() - start


def _leaves(tree: object) -> list[tuple[str, mx.array]]:
    return list(dict(tree_flatten(tree)).items())


def bytes_per_second() -> float:
    """Measure how fast the device reads its memory."""
    on_gpu = mx.default_device().type == mx.DeviceType.gpu
    values = mx.ones(((1 << 30 if on_gpu else 1 << 26) // 4,), mx.float32)
    mx.eval(values)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        mx.eval(values.sum())
        best = max(best, values.nbytes / (time.perf_counter() - start))
    return best
