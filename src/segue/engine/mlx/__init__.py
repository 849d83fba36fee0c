"""The engine on MLX: Metal, CUDA and CPU with the same code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property, lru_cache

# MLX multiplies float32 in TF32 on CUDA, with ten bits of mantissa: enough to flip one code in a
# hundred of the codec's.  What is float32 here is meant; what may be rough is float16 or quantized.
# MLX reads this when it is imported.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

import mlx.core as mx
import numpy as np

from ...checkpoints.arrays import DTYPES
from ...checkpoints.load_report import LoadReport
from ...checkpoints.opening import Checkpoint
from ...checkpoints.quantize import quantized
from ...checkpoints.recipe import Recipe
from ...errors import ModelOverflowError
from ...progress import SILENT, Progress
from ..base import Sampling, check_finite
from ..text import TextTokenizer
from . import kernels
from .decoding import Decoding
from .lm import CrossKV
from .sampling import Sampler, controls
from .step import make_step
from .t5 import T5Encoder
from .weights import lm_sources, load_codec, load_lm, load_t5

COLUMNS_READ = 8
"""Columns that are read at a time on CUDA, where MLX allocates memory for every read."""


class MLXEngine:
    """A checkpoint on MLX's default device; fulfils `segue.engine.base.Engine`.

    Args:
        checkpoint: opened and checked; its tensors are taken from it.
        cast_dtype: what the language model's weights are cast to; None leaves them as stored.  On
            the CPU they are rounded to it, and computed with in float32 all the same: MLX's CPU
            kernels are slow in any other type.
        recipe: what is quantized in memory; None runs the checkpoint as it is.
        progress: shown while weights are read.

    Attributes:
        kernels: those of `kernels.NAMES` that steps run.
    """

    name = "mlx"

    def __init__(
        self,
        checkpoint: Checkpoint,
        cast_dtype: str | None = None,
        recipe: Recipe | None = None,
        progress: Progress = SILENT,
    ) -> None:
        on_gpu = mx.default_device().type == mx.DeviceType.gpu
        self.device = device_name()
        stored = checkpoint.lm["decoder.model.decoder.layer_norm.weight"].read().dtype.name
        self.dtype = (cast_dtype or stored) if on_gpu else "float32"
        self.load_report = LoadReport()
        checkpoint = quantized(checkpoint, recipe, cast_dtype, self.load_report)
        self.config = checkpoint.config
        with progress.stage("load", len(lm_sources(self.config.lm))) as advance:
            compute = DTYPES.get(self.dtype, mx.float32)
            self._lm = load_lm(self.config, checkpoint.lm, compute, self.load_report, advance)
            self._codec = load_codec(self.config.codec, checkpoint.codec)
        self._checkpoint = checkpoint
        self._progress = progress
        # MLX compiles fused CPU kernels with the machine's C++ compiler, which may not be there.
        self.kernels = kernels.chosen(self.config.lm.head_dim)
        self._step = lru_cache(8)(
            lambda sampler: make_step(self._lm, sampler, on_gpu, self.kernels)
        )
        self._conditioned = lru_cache(16)(self._condition)

    def read_weights(self) -> None:
        """See `Engine.read_weights`."""
        mx.eval(self._lm.parameters())

    @property
    def peak_memory_bytes(self) -> int:
        """The most that MLX has held at a time, in this process."""
        return mx.get_peak_memory()

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """See `Engine.encode`."""
        lm = self.config.lm
        per_channel = lm.num_codebooks // lm.audio_channels
        channels = mx.array(np.ascontiguousarray(samples.T, np.float32))[..., None]
        found, finite = self._codec.encode(channels, per_channel)
        codes = np.array(found)  # (C, K, F)
        if not finite.item():
            raise ModelOverflowError("encoder's values", fixed=True)
        return codes.transpose(1, 0, 2).reshape(lm.num_codebooks, -1)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """See `Engine.decode`."""
        channels = self.config.lm.audio_channels
        per_channel = codes.reshape(-1, channels, codes.shape[-1]).transpose(1, 0, 2)
        samples = np.array(self._codec.decode(mx.array(per_channel)))[..., 0].T
        return check_finite(samples, "samples", fixed=True)

    def condition(self, text: str) -> CrossKV:
        """See `Engine.condition`; the last texts are kept."""
        return self._conditioned(text)

    def _condition(self, text: str) -> CrossKV:
        encoder, tokenizer = self._text_encoder
        ids = mx.array([tokenizer.encode(text).ids])
        cross = self._lm.project(encoder(ids).astype(self._lm.dtype))
        finite = mx.stack([mx.isfinite(part).all() for pair in cross for part in pair]).all()
        mx.eval(cross, finite)
        if not finite.item():
            raise ModelOverflowError("values of the text")
        return cross

    def text_note(self, text: str) -> str | None:
        """See `Engine.text_note`."""
        return self._text_encoder[1].note(text)

    @cached_property
    def _text_encoder(self) -> tuple[T5Encoder, TextTokenizer]:
        part = self._checkpoint.text(self._progress)
        with self._progress.stage("load the text encoder"):
            tokenizer = TextTokenizer(part.tokenizer, part.config.max_tokens)
            return load_t5(part.config, part.tensors), tokenizer

    def prefill(
        self,
        sequence: np.ndarray,
        seeds: tuple[int, ...],
        sampling: Sampling,
        conditioning: CrossKV | None = None,
        first_step: int = 0,
    ) -> Iterator[np.ndarray]:
        """See `Engine.prefill`."""
        sampler = Sampler.of(sampling)
        return iter(
            Decoding(
                self._lm,
                self._step(sampler),
                sampler,
                controls(sampling),
                seeds,
                sequence,
                conditioning,
                first_step,
                kernels.ATTEND in self.kernels,
                COLUMNS_READ if kernels.on_cuda() else 1,
            )
        )

    def logits(self, sequence: np.ndarray, conditioning: CrossKV | None = None) -> np.ndarray:
        """See `Engine.logits`."""
        cache = self._lm.empty_cache(1, sequence.shape[-1])
        hidden, _ = self._lm(mx.array(sequence.T)[None], mx.array([0]), cache, conditioning)
        return np.array(self._lm.logits(hidden)[0])


def device_name() -> str:
    """What MLX computes on: the CPU, or a GPU's name."""
    if mx.default_device().type == mx.DeviceType.cpu:
        return "CPU"
    return str(mx.device_info().get("device_name", "GPU"))
