"""The engine on MLX: Metal, CUDA and CPU with the same code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, TypeVar

# MLX multiplies float32 in TF32 on CUDA, with ten bits of mantissa: enough to flip one code in a
# hundred of the codec's.  What is float32 here is meant; what may be rough is float16 or quantized.
# MLX reads this when it is imported.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ...checkpoints.arrays import DTYPES
from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.load_report import LoadReport
from ...checkpoints.quantize import quantized
from ...checkpoints.recipe import Recipe
from ...errors import ModelOverflowError
from ...pattern import first_unknown
from ...progress import SILENT, Progress
from .. import chroma
from ..base import Sampling, TakeGroup, check_melody
from ..codec_rows import codes_of_rows, rows_of_codes, rows_of_samples, samples_of_rows
from ..groups import run_groups
from ..text import TextTokenizer
from . import codec_pieces, kernels
from .batch import MLXBatch
from .codec import Codec
from .compiled_cache import keep_compiled
from .decoding import decode, prefill
from .device import device_name
from .execution import Execution
from .footprint import Footprint, footprint, in_turns, takes_at_once
from .lm import LM, CrossKV, Prefix
from .lookups import Lookup
from .preparing import Code, start_compiling, start_compiling_codec, start_compiling_joins, wait_for
from .sampling import Sampler, controls
from .step import Step, StepFunction
from .t5 import T5Encoder
from .turns import turn
from .weights import lm_sources, load_codec, load_lm, load_t5
from .wired import WIRED_LIMIT, WiredLimit


class MLXEngine:
    """A checkpoint on MLX's default device; fulfils `segue.engine.base.Engine`.

    Several threads may use it, and several engines, at a time: see `turns`.

    Args:
        checkpoint: opened and checked; its tensors are taken from it.
        cast_dtype: what the language model's weights are cast to; None leaves them as stored.  On
            the CPU they are rounded to it, and computed with in float32 all the same: MLX's CPU
            kernels are slow in any other type.
        recipe: what is quantized in memory; None runs the checkpoint as it is.
        progress: shown while weights are read.
        execution: how steps run; None for what suits the device.
        wired_limit: keeps a large model's memory resident while it generates.

    Attributes:
        lm: the language model.
        codec: the codec.
        execution: how steps run.
    """

    name = "mlx"

    def __init__(
        self,
        checkpoint: Checkpoint,
        cast_dtype: str | None = None,
        recipe: Recipe | None = None,
        progress: Progress = SILENT,
        *,
        execution: Execution | None = None,
        wired_limit: WiredLimit = WIRED_LIMIT,
    ) -> None:
        keep_compiled()
        on_gpu = mx.default_device().type == mx.DeviceType.gpu
        self.device = device_name()
        stored = checkpoint.lm["decoder.model.decoder.layer_norm.weight"].read().dtype.name
        self.dtype = (cast_dtype or stored) if on_gpu else "float32"
        self.load_report = LoadReport()
        self.held: Mapping[str, int] = {}
        checkpoint = quantized(checkpoint, recipe, cast_dtype, self.load_report)
        self.config = checkpoint.config
        self.execution = execution or Execution.here(self.config.lm.head_dim)
        self._lookup, self._compiling = Lookup(self.kernels), list[Code]()
        with progress.stage("load", len(lm_sources(self.config.lm))) as advance:
            compute = DTYPES.get(self.dtype, mx.float32)
            self.lm = load_lm(
                self.config, checkpoint.lm, compute, self.load_report, advance, self._expect_lm
            )
            self.codec = load_codec(
                self.config.codec, checkpoint.codec, self.execution.kernels, self._lookup
            )
        wait_for(self._compiling, progress)
        self._checkpoint, self._progress = checkpoint, progress
        self._wired_limit = wired_limit
        self._bytes = _bytes_of(self.lm) + _bytes_of(self.codec)
        if (note := wired_limit.note(self._bytes)) is not None:
            self.load_report.notes.append(note)
        self._steps = lru_cache(8)(self._new_step)
        self._conditioned = lru_cache(16)(self._condition)
        self._prepare = lru_cache(64)(self._start_compiling)

    def _new_step(self, sampler: Sampler) -> tuple[Step, StepFunction]:
        """The step for a sampler, and what runs it."""
        step = Step(self.lm, sampler, self.execution.kernels)
        return step, step.compiled() if self.execution.compiled else step

    def _expect_lm(self, shaped: LM) -> None:
        """Compile what one take without a text runs, while weights are read.

        What the codec runs comes after it; who encodes first waits for what is not ready then.
        """
        if self.kernels:
            lm = self.config.lm
            with turn():
                self._compiling = start_compiling(
                    shaped, Sampler.of(Sampling()), self.kernels, 1, 0
                )
                start_compiling_codec(
                    Codec(self.config.codec, self.kernels, self._lookup),
                    lm.audio_channels,
                    lm.num_codebooks // lm.audio_channels,
                )

    def _start_compiling(self, sampler: Sampler, takes: int, tokens: int) -> None:
        """Compile what a request runs, several kernels at a time and while its prompt is run."""
        if self.kernels:
            start_compiling(self.lm, sampler, self.kernels, takes, tokens)

    @property
    def kernels(self) -> frozenset[str]:
        """Those of `kernels.NAMES` that steps run."""
        return self.execution.kernels

    @property
    def compilations(self) -> int:
        """How many different steps were made so far, each of which is compiled by itself."""
        return self._steps.cache_info().misses

    def read_weights(self) -> None:
        """See `Engine.read_weights`."""
        with turn():
            mx.eval(self.lm.parameters())

    @property
    def peak_memory_bytes(self) -> int:
        """The most that MLX has held at a time, in this process."""
        return mx.get_peak_memory()

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """See `Engine.encode`."""
        lm = self.config.lm
        rows = rows_of_samples(samples)
        codes = codec_pieces.encode(self.codec, rows, lm.num_codebooks // lm.audio_channels)
        return codes_of_rows(codes, lm.audio_channels, samples.shape[:-2])

    def decode(
        self, codes: np.ndarray, advance: Callable[[int], None] = lambda done: None
    ) -> np.ndarray:
        """See `Engine.decode`."""
        channels = self.config.lm.audio_channels
        rows = rows_of_codes(codes, channels)
        samples = codec_pieces.decode(self.codec, rows, lambda done: advance(done // channels))
        return samples_of_rows(samples, channels, codes.shape[:-2])

    def condition(self, text: str, melody: np.ndarray | None = None) -> CrossKV | Prefix:
        """See `Engine.condition`; the last texts are cached."""
        config = self.config.lm.melody
        check_melody(config, melody)
        with turn():
            if config is None:
                return self._conditioned(text)
            followed = None
            if melody is not None:
                rate = self.config.codec.sample_rate
                followed = mx.array(chroma.features(melody, rate, config))
            encoded = self._encoded(text) if text.strip() else None
            prefix = self.lm.prefix(followed, encoded)
            return _checked(prefix, [prefix.given, prefix.nothing])

    def _condition(self, text: str) -> CrossKV:
        cross = self.lm.project(self._encoded(text))
        return _checked(cross, [part for pair in cross for part in pair])

    def _encoded(self, text: str) -> mx.array:
        encoder, tokenizer = self.text_encoder
        ids = mx.array([tokenizer.encode(text).ids])
        return encoder(ids).astype(self.lm.dtype)

    def text_note(self, text: str) -> str | None:
        """See `Engine.text_note`."""
        with turn():
            return self.text_encoder[1].note(text)

    @cached_property
    def text_encoder(self) -> tuple[T5Encoder, TextTokenizer]:
        """The text encoder and its tokenizer, loaded when they are first needed."""
        part = self._checkpoint.text(self._progress)
        with self._progress.stage("load the text encoder"):
            tokenizer = TextTokenizer(part.tokenizer, part.config.max_tokens)
            return load_t5(part.config, part.tensors, self._lookup), tokenizer

    def prefill(
        self,
        sequence: np.ndarray,
        seeds: tuple[int, ...],
        sampling: Sampling,
        conditioning: CrossKV | Prefix | None = None,
        first_step: int = 0,
    ) -> Iterator[np.ndarray]:
        """See `Engine.prefill`."""
        cross, prefix = self._apart(conditioning)
        before = 0 if prefix is None else prefix.length
        at_once = takes_at_once(
            len(seeds),
            mx.get_memory_limit() - mx.get_active_memory(),
            lambda takes: self.footprint(
                takes,
                sampling,
                known=before + first_unknown(sequence),
                length=before + sequence.shape[-1],
                starts=min(takes, len(sequence)),
                tokens=0 if cross is None else cross[0][0].shape[2],
            ),
        )
        if at_once < len(seeds):
            return in_turns(
                len(seeds),
                at_once,
                lambda some: self.prefill(
                    sequence if len(sequence) == 1 else sequence[some],
                    seeds[some],
                    sampling,
                    conditioning,
                    first_step,
                ),
            )
        with turn():  # a new step packs weights, which may have to be read
            step, run = self._steps(Sampler.of(sampling))
            self._prepare(step.sampler, len(seeds), 0 if cross is None else cross[0][0].shape[2])
        numbers, in_place = controls(sampling), kernels.ATTEND in self.kernels
        with self._wired_limit.raised(self._bytes):
            start = prefill(
                lm=self.lm,
                step=step,
                sequence=sequence,
                seeds=seeds,
                controls=numbers,
                cross=cross,
                prefix=prefix,
                first_step=first_step,
                in_place=in_place,
            )
        columns = decode(
            lm=self.lm,
            run=run,
            start=start,
            controls=numbers,
            in_place=in_place,
            columns_per_read=self.execution.columns_per_read,
        )
        return self._wired(columns)

    def prefill_groups(self, groups: Sequence[TakeGroup]) -> Iterator[np.ndarray]:
        """See `Engine.prefill_groups`."""
        apart = [self._apart(group.conditioning) for group in groups]
        before = max(0 if prefix is None else prefix.length for _, prefix in apart)
        tokens = max(0 if cross is None else cross[0][0].shape[2] for cross, _ in apart)
        guided = [group.sampling for group in groups if group.sampling.guidance_coef is not None]
        takes = sorted((len(group.seeds) for group in groups), reverse=True)
        sequence = groups[0].sequence
        at_once = takes_at_once(
            len(groups),
            mx.get_memory_limit() - mx.get_active_memory(),
            lambda some: self.footprint(
                sum(takes[:some]),
                next(iter(guided), groups[0].sampling),
                known=before + first_unknown(sequence),
                length=before + sequence.shape[-1],
                tokens=tokens,
            ),
        )
        if at_once < len(groups):
            return in_turns(len(groups), at_once, lambda some: self.prefill_groups(groups[some]))
        if len(groups) == 1:
            (group,) = groups
            return self.prefill(
                group.sequence,
                group.seeds,
                group.sampling,
                group.conditioning,
                group.first_step,
            )
        return run_groups(self.batch(sum(group.rows for group in groups)), groups)

    def footprint(
        self,
        takes: int,
        sampling: Sampling,
        known: int,
        length: int,
        starts: int = 1,
        tokens: int = 0,
    ) -> Footprint:
        """What so many takes hold in memory beside the model; see `footprint.footprint`."""
        return footprint(
            self.config.lm,
            self.lm.dtype.size,
            takes,
            guided=sampling.guidance_coef is not None,
            known=known,
            length=length,
            starts=starts,
            tokens=tokens,
            in_place=kernels.ATTEND in self.kernels,
        )

    def _wired(self, columns: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The same columns; while they are generated, a large model's memory stays resident."""
        with self._wired_limit.raised(self._bytes):
            yield from columns

    def batch(self, max_rows: int) -> MLXBatch:
        """See `Engine.batch`."""
        if kernels.ATTEND in self.kernels:
            with turn():
                start_compiling_joins(self.lm)
        return MLXBatch(
            self.lm,
            self.execution,
            self._apart,
            self._steps,
            lambda: self._wired_limit.raised(self._bytes),
            max_rows,
        )

    def logits(
        self, sequence: np.ndarray, conditioning: CrossKV | Prefix | None = None
    ) -> np.ndarray:
        """See `Engine.logits`."""
        cross, prefix = self._apart(conditioning)
        before = 0 if prefix is None else prefix.length
        with turn():
            hidden, _ = self.lm(
                mx.array(sequence.T)[None],
                0,
                self.lm.empty_cache(1, before + sequence.shape[-1]),
                cross,
                None if prefix is None else prefix.given,
                self._lookup,
            )
            return np.array(self.lm.logits(hidden[:, before:])[0])

    def _apart(self, conditioning: CrossKV | Prefix | None) -> tuple[CrossKV | None, Prefix | None]:
        """What layers attend to, and what comes before the sequence."""
        if isinstance(conditioning, Prefix):
            return None, conditioning
        if self.config.lm.melody is None:
            return conditioning, None
        with turn():
            return None, self.lm.prefix(None, None)


Conditioned = TypeVar("Conditioned")


def _checked(conditioned: Conditioned, parts: list[mx.array]) -> Conditioned:
    """`conditioned`, if all values of its parts are finite."""
    finite = mx.stack([mx.isfinite(part).all() for part in parts]).all()
    mx.eval(parts, finite)
    if not finite.item():
        raise ModelOverflowError("values of the text")
    return conditioned


def _bytes_of(module: nn.Module) -> int:
    """What a module's parameters take in memory; nothing is read."""
    leaves: Any = tree_flatten(module.parameters())
    return sum(values.nbytes for _, values in leaves)
