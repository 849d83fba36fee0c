"""What steps and the codec need compiled, found out before they run: it compiles meanwhile."""

from __future__ import annotations

from concurrent.futures import Future, as_completed
from typing import Any

import mlx.core as mx

from ...progress import Progress
from . import kernels
from .cache import BUCKET
from .codec import Codec
from .kernels import runtime
from .lm import LM
from .sampling import Sampler
from .step import Step

Code = Future[tuple[str, bytes]]

CODEC_FRAMES = 64
"""That the codec is tried with: more than any of its convolutions pads."""


def start_compiling(
    lm: LM, sampler: Sampler, kernels_on: frozenset[str], takes: int, tokens: int
) -> list[Code]:
    """Have what prefill and a step launch compiled in threads; see `kernels_of`."""
    return runtime.start_compiling(kernels_of(lm, sampler, kernels_on, takes, tokens))


def start_compiling_codec(codec: Codec, channels: int, num_codebooks: int) -> None:
    """Have what encodes and decodes one take compiled in threads; see `codec_kernels_of`."""
    runtime.start_compiling(codec_kernels_of(codec, channels, num_codebooks))


def start_compiling_joins(lm: LM) -> None:
    """Have what a request launches that joins a batch compiled in threads; see `joins_of`."""
    runtime.start_compiling(joins_of(lm))


def wait_for(compiling: list[Code], progress: Progress) -> None:
    """Wait for kernels, and show it where there is something to wait for.

    Raises:
        RequestError: one cannot be compiled.
    """
    if all(code.done() for code in compiling):
        return
    with progress.stage("compile", len(compiling), "kernels") as advance:
        for n, code in enumerate(as_completed(compiling)):
            code.result()
            advance(n + 1)


def kernels_of(
    lm: LM, sampler: Sampler, kernels_on: frozenset[str], takes: int, tokens: int
) -> list[runtime.Kernel]:
    """The kernels that prefill and a step launch; nothing is launched, nor computed of the model.

    Args:
        lm: the model, or one of its shapes and types whose weights mean nothing.
        sampler: see `Step`.
        kernels_on: see `Step`.
        takes: how many, N.
        tokens: of the text, 0 for none.
    """
    config = lm.config
    rows = 2 * takes if sampler.guided else takes
    K, V, H, D = config.num_codebooks, config.cardinality, config.num_heads, config.head_dim
    with runtime.collecting() as found:
        step = Step(lm, sampler, kernels_on)
        column = mx.zeros((takes, K), mx.int32)
        step.lookup(lm.embed_tokens, column)
        keys = mx.zeros((takes, 2), mx.uint32)
        noise = keys if step.makes_noise else mx.zeros((takes, K, V))
        cross: Any = None
        if tokens:
            text = mx.zeros((1, H, tokens, D), lm.dtype)
            cross = step.folded([(text, text)] * len(lm.layers), takes)
        step(
            column,
            column,
            mx.zeros((1,), mx.int32),
            None,
            noise if sampler.noisy else None,
            (mx.array(1.0), mx.array(1.0)),
            [mx.zeros((rows, 2, H, BUCKET, D), lm.dtype)] * len(lm.layers),
            cross,
            mx.zeros((4,), mx.int32) if takes > 1 else None,
        )
    return list(found)


def joins_of(lm: LM) -> list[runtime.Kernel]:
    """The kernels of a prompt for a batch, besides those that any prefill launches."""
    config, layers = lm.config, len(lm.layers)
    with runtime.collecting() as found:
        kernels.gelu(mx.zeros((1, 1, config.ffn_dim), lm.dtype))
        product = mx.zeros((1, 1, 3 * config.dim), lm.dtype)
        cache = mx.zeros((1, 2, config.num_heads, 1, config.head_dim), lm.dtype)
        kernels.write_rows([cache] * layers, [product] * layers, [0], [0], 1)
    return list(found)


def codec_kernels_of(codec: Codec, channels: int, num_codebooks: int) -> list[runtime.Kernel]:
    """The kernels that encoding and decoding a take launch; nothing is launched, nor computed.

    Args:
        codec: one of its shape, whose weights may mean nothing.
        channels: of a take, each of which is a row.
        num_codebooks: of a channel.
    """
    with runtime.collecting() as found:
        samples = mx.zeros((channels, CODEC_FRAMES * codec.config.hop_length, 1))
        codec.encode(samples, num_codebooks)
        codes = mx.zeros((channels, num_codebooks, CODEC_FRAMES), mx.int32)
        codec.synthesize(codec.remember(codes))
    return list(found)
