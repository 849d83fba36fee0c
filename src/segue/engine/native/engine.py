"""The engine for processors: the language model in C of our own, the rest on OpenVINO."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.recipe import Recipe
from ...progress import SILENT, Progress
from ..openvino import OpenVINOEngine
from ..openvino.lm import Prefix
from ..openvino.weights import Weights, unpacked_note
from .batch import NativeBatch
from .lm import Cache, NativeLM, Rows, TextCache
from .packing import STORED_BITS


class NativeEngine(OpenVINOEngine):
    """A checkpoint on the processor; fulfils `segue.engine.base.Engine`.

    The codec, the text encoder and the projections of what it says are OpenVINO's; what runs for
    every column is `NativeLM`.  Quantized weights stay packed, at 2, 4 and 8 bits as they are, at
    3, 5 and 6 in 4 or 8.

    Args: see `OpenVINOEngine`.  Of `kv_bits` there are 16 and 8; None is 32 for a checkpoint in
    float32 that is not quantized, else 16.  `activations` is what quantized weights are multiplied
    with: `"int16"`, as is None, or `"int8"`.

    Attributes:
        native: the language model.
    """

    name = "native"

    def __init__(
        self,
        checkpoint: Checkpoint,
        cast_dtype: str | None = None,
        recipe: Recipe | None = None,
        progress: Progress = SILENT,
        threads: int | None = None,
        kv_bits: int | None = None,
        activations: str | None = None,
    ) -> None:
        self._activations = 8 if activations == "int8" else 16
        super().__init__(checkpoint, cast_dtype, recipe, progress, threads, kv_bits)
        if activations is not None and not self.native.packed:
            self.load_report.notes.append(
                f"no weights are quantized in a way that is multiplied with {activations}; "
                "activations are floats"
            )

    def _unpacked_note(self, checkpoint: Checkpoint) -> str | None:
        """See `OpenVINOEngine`."""
        return unpacked_note(
            checkpoint.lm,
            checkpoint.config.quantization,
            [bits for bits, stored in STORED_BITS.items() if bits == stored],
            "which this engine stores in the next of 4 and 8 bits: they are computed exactly, and "
            "take its memory and time",
        )

    def _load_lm(self, weights: Weights, threads: int | None, kv_bits: int | None) -> None:
        """See `OpenVINOEngine`."""
        self.native = NativeLM(
            self.config.lm,
            weights,
            threads,
            kv_bits,
            table=self.lm.table,
            activations=self._activations,
        )
        self.held = self.native.held
        self.device += f" ({self.native.path})"

    def batch(self, max_rows: int) -> Any:
        """See `Engine.batch`."""
        return NativeBatch(self.native, self.attended, self._make_room, max_rows)

    def logits(self, sequence: np.ndarray, conditioning: Any = None) -> np.ndarray:
        """See `Engine.logits`."""
        text, prefix = self.attended(conditioning)
        K, S = sequence.shape
        hidden = self.native.embed(sequence.T, 0 if prefix is None else prefix.length)
        if prefix is not None:
            hidden = prefix.before(hidden[None], guided=False)[0]
        rows = Rows(Cache(self.native, len(hidden)), hidden, text, last=S)
        return self.native.run([rows]).reshape(S, K, -1)

    def attended(self, conditioning: Any) -> tuple[TextCache | None, Prefix | None]:
        """What layers attend to, and what comes before the sequence."""
        cross, prefix = self._apart(conditioning)
        return None if cross is None else TextCache(self.native, cross), prefix
