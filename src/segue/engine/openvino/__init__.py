"""The engine on OpenVINO: music on the processor alone, with weights that stay quantized."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.load_report import LoadReport
from ...checkpoints.quantize import quantized
from ...checkpoints.recipe import Recipe
from ...progress import SILENT, Progress
from .. import chroma
from ..base import Sampling, TakeGroup, check_finite, check_melody
from ..codec_rows import codes_of_rows, rows_of_codes, rows_of_samples, samples_of_rows
from ..groups import run_groups
from ..text import TextTokenizer
from .batch import OpenVINOBatch
from .codec import Codec
from .lm import LM, CrossKV, Prefix
from .runtime import device_name, give_back
from .t5 import T5Encoder
from .weights import Weights, unpacked_note


class OpenVINOEngine:
    """A checkpoint on OpenVINO's CPU device; fulfils `segue.engine.base.Engine`.

    Args:
        checkpoint: opened and checked; its tensors are read when a graph is built.
        cast_dtype: what the language model's weights are rounded to; they are computed with in
            float32 all the same.
        recipe: what is quantized in memory; None runs the checkpoint as it is.
        progress: shown while graphs are built and compiled.
        threads: how many to use; None for as many as there are cores.
        kv_bits: of a key or value in the cache, 8 or 16; None is 32.

    Attributes:
        lm: the language model.
        codec: the codec.
    """

    name = "openvino"

    def __init__(
        self,
        checkpoint: Checkpoint,
        cast_dtype: str | None = None,
        recipe: Recipe | None = None,
        progress: Progress = SILENT,
        threads: int | None = None,
        kv_bits: int | None = None,
    ) -> None:
        counted = "" if threads is None else f", {threads} thread{'s' if threads > 1 else ''}"
        self.device = device_name() + counted
        self.load_report = LoadReport()
        self.held: Mapping[str, int] = {}
        checkpoint = quantized(checkpoint, recipe, cast_dtype, self.load_report)
        self.config = checkpoint.config
        weights = Weights(checkpoint.lm, self.config.quantization)
        if note := self._unpacked_note(checkpoint):
            self.load_report.notes.append(note)
        self.codec = Codec(self.config.codec, checkpoint.codec, threads)
        self._checkpoint, self._progress, self._threads = checkpoint, progress, threads
        with progress.stage("load"):
            self.lm = LM(self.config.lm, weights, threads, kv_bits)
            self._load_lm(weights, threads, kv_bits)
        give_back()
        widened = ", ".join(sorted(weights.widened))
        self.dtype = f"float32 ({widened} weights widened to it)" if widened else "float32"
        self._conditioned = lru_cache(16)(self._condition)

    def _unpacked_note(self, checkpoint: Checkpoint) -> str | None:
        """What to say of quantized modules that this engine does not keep as they are stored."""
        return unpacked_note(checkpoint.lm, checkpoint.config.quantization)

    def _load_lm(self, weights: Weights, threads: int | None, kv_bits: int | None) -> None:
        """Read the weights of the language model; an engine with one of its own does it here."""
        _ = self.lm.plain

    def read_weights(self) -> None:
        """See `Engine.read_weights`: whatever is compiled has been read."""

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """See `Engine.encode`."""
        lm = self.config.lm
        rows = rows_of_samples(samples)
        codes = self.codec.encode(rows, lm.num_codebooks // lm.audio_channels)
        return codes_of_rows(codes, lm.audio_channels, samples.shape[:-2])

    def decode(
        self, codes: np.ndarray, advance: Callable[[int], None] = lambda done: None
    ) -> np.ndarray:
        """See `Engine.decode`."""
        channels = self.config.lm.audio_channels
        rows = rows_of_codes(codes, channels)
        samples = self.codec.decode(rows, lambda done: advance(done // channels))
        return check_finite(
            samples_of_rows(samples, channels, codes.shape[:-2]), "samples", fixed=True
        )

    def condition(self, text: str, melody: np.ndarray | None = None) -> CrossKV | Prefix:
        """See `Engine.condition`; the last texts are cached."""
        config = self.config.lm.melody
        check_melody(config, melody)
        if config is None:
            return self._conditioned(text)
        followed = None
        if melody is not None:
            followed = chroma.features(melody, self.config.codec.sample_rate, config)
        prefix = self.lm.prefix(followed, self._encoded(text) if text.strip() else None)
        check_finite(prefix.given, "values of the text")
        return prefix

    def _encoded(self, text: str) -> np.ndarray:
        encoder, tokenizer = self.text_encoder
        return encoder(np.array(tokenizer.encode(text).ids))

    def _condition(self, text: str) -> CrossKV:
        cross = self.lm.project(self._encoded(text))
        for part in (part for pair in cross for part in pair):
            check_finite(part, "values of the text")
        return cross

    def text_note(self, text: str) -> str | None:
        """See `Engine.text_note`."""
        return self._tokenizer.note(text)

    def _make_room(self) -> None:
        """Release the graphs around the language model, which is about to need the memory.

        They are read again from the cache of compiled models.
        """
        self.__dict__.pop("text_encoder", None)
        self.codec.release()

    @cached_property
    def text_encoder(self) -> tuple[T5Encoder, TextTokenizer]:
        """The text encoder and its tokenizer, loaded when they are first needed."""
        part = self._checkpoint.text(self._progress)
        with self._progress.stage("load the text encoder"):
            return T5Encoder(part.config, part.tensors, self._threads), self._tokenizer

    @cached_property
    def _tokenizer(self) -> TextTokenizer:
        part = self._checkpoint.text(self._progress)
        return TextTokenizer(part.tokenizer, part.config.max_tokens)

    def prefill(
        self,
        sequence: np.ndarray,
        seeds: tuple[int, ...],
        sampling: Sampling,
        conditioning: CrossKV | Prefix | None = None,
        first_step: int = 0,
    ) -> Iterator[np.ndarray]:
        """See `Engine.prefill`."""
        return self.prefill_groups([TakeGroup(sequence, seeds, sampling, conditioning, first_step)])

    def prefill_groups(self, groups: Sequence[TakeGroup]) -> Iterator[np.ndarray]:
        """See `Engine.prefill_groups`."""
        return run_groups(self.batch(sum(group.rows for group in groups)), groups)

    def batch(self, max_rows: int) -> OpenVINOBatch:
        """See `Engine.batch`."""
        return OpenVINOBatch(self.lm, self._apart, self._make_room, max_rows)

    def logits(
        self, sequence: np.ndarray, conditioning: CrossKV | Prefix | None = None
    ) -> np.ndarray:
        """See `Engine.logits`."""
        cross, prefix = self._apart(conditioning)
        K, S = sequence.shape
        hidden = self.lm.embed(sequence.T[None], 0 if prefix is None else prefix.length)
        if prefix is not None:
            hidden = prefix.before(hidden, guided=False)
        run, row = self.lm.run(cross), np.zeros(1, np.int32)
        if self.lm.kv_bits is None:
            return run(hidden, row, last=S).reshape(S, K, -1)
        # One column at a time, as music is generated: those of one run are not read from the cache.
        before = hidden.shape[1] - S
        logits = [run(hidden[:, : before + 1], row)]
        logits += [run(hidden[:, n : n + 1], row) for n in range(before + 1, before + S)]
        return np.concatenate(logits, axis=1).reshape(S, K, -1)

    def _apart(self, conditioning: CrossKV | Prefix | None) -> tuple[CrossKV | None, Prefix | None]:
        """What layers attend to, and what comes before the sequence."""
        if isinstance(conditioning, Prefix):
            return None, conditioning
        if self.config.lm.melody is None:
            return conditioning, None
        return None, self.lm.prefix(None, None)
