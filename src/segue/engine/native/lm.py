"""The language model of MusicGen on the native library: columns in, logits out.

What runs is `c/step.c`.  Here the checkpoint's weights become its matrices, and rows their caches.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...checkpoints.config import LMConfig
from ...checkpoints.layouts import LM as PREFIX
from ..openvino.lm import CrossKV, positions
from ..openvino.weights import Table, Weights
from . import library, packing
from .matrices import Matrices
from .structures import (
    BLOCK,
    MAX_COLUMNS,
    CacheStructure,
    Column,
    Config,
)


class Cache:
    """Keys and values of one row, or of what several rows have in common.

    Args:
        model: whose they are.
        capacity: positions that it holds; with a base, those that follow what is in that.
        base: what comes before; it is read, and never written any more.

    Attributes:
        length: positions that are in it, those of `base` included.
    """

    def __init__(self, model: NativeLM, capacity: int, base: Cache | None = None) -> None:
        self.length: int = 0 if base is None else base.length
        # Whole blocks of the base are read where they lie, so that a row's sums have the order
        # that they have without a base; the rest is copied.
        self._first: int = self.length // BLOCK * BLOCK
        rest = self.length - self._first
        capacity = -(-max(capacity + rest, 1) // BLOCK) * BLOCK
        self._memory = packing.zeros(model.cache_bytes(capacity))
        self._base = base if self._first else None
        self.structure: CacheStructure = CacheStructure(
            data=self._memory.ctypes.data,
            base=None if self._base is None else ctypes.addressof(self._base.structure),
            capacity=capacity,
            base_length=self._first,
        )
        model.reserve(self.end)
        if base is not None and rest:
            theirs, ours = (model.keys_and_values(cache) for cache in (base, self))
            at = (self._first - base.first) // BLOCK
            for given, taken in zip(theirs, ours, strict=True):
                taken[:, :, 0] = given[:, :, at]

    @property
    def first(self) -> int:
        """Its first position that is not in `base`."""
        return self._first

    @property
    def memory(self) -> np.ndarray:
        """All of it, in bytes."""
        return self._memory

    @property
    def end(self) -> int:
        """The position that it has no room for."""
        return self._first + int(self.structure.capacity)


class TextCache:
    """Keys and values of a text.

    Args:
        model: whose they are.
        cross: for each layer, keys and values `(1, H, L, D)` float32.
    """

    def __init__(self, model: NativeLM, cross: CrossKV) -> None:
        self.length = cross[0][0].shape[2]
        capacity = -(-self.length // BLOCK) * BLOCK
        self._memory = packing.zeros(model.cache_bytes(capacity, text=True))
        self.structure = CacheStructure(
            data=self._memory.ctypes.data, capacity=capacity, length=self.length
        )
        model.store_text(self, cross)


@dataclass(frozen=True)
class Rows:
    """Columns that follow each other in one cache.

    Attributes:
        cache: where they are written.
        hidden: `(S, dim)` float32, from `NativeLM.embed`.
        text: what they attend to, or None.
        last: after how many of them, the last ones, logits are wanted.
    """

    cache: Cache
    hidden: np.ndarray
    text: TextCache | None = None
    last: int = 1


class NativeLM:
    """Codes in, logits over the next codes out.

    Args:
        config: its shape.
        weights: its weights.
        threads: how many to use; None for as many as this process may run on.
        kv_bits: of a key or value: 32 and 16 are floats, 8 integers with a scale for each head of
            each position; None is 32 where all weights are float32, else 16.
        path: the name of the path to run; None for the best one.
        table: its embeddings, where they have been read.
        activations: bits of what packed weights are multiplied with, 8 or 16.

    Attributes:
        held: the bytes of each module whose weights the library reads.
        packed: whether any of them are quantized and stay so.

    Raises:
        UnavailableError: there is no library.
    """

    def __init__(
        self,
        config: LMConfig,
        weights: Weights,
        threads: int | None = None,
        kv_bits: int | None = None,
        path: str | None = None,
        table: Table | None = None,
        activations: int = 16,
    ) -> None:
        self._library = library.load()
        self._turn = threading.Lock()
        self.config = config
        self._table = table or Table(
            weights, [f"{PREFIX}embed_tokens.{k}" for k in range(config.num_codebooks)]
        )
        self._offsets = np.arange(config.num_codebooks) * (config.cardinality + 1)
        matrices = Matrices(config, weights)
        self._memory, self.held = matrices.memory, matrices.held
        self.packed = matrices.packed
        if kv_bits is None:
            kv_bits = 16 if matrices.narrow else 32
        self._structure = Config(
            dim=config.dim,
            heads=config.num_heads,
            ffn=config.ffn_dim,
            layers=config.num_layers,
            logits=config.num_codebooks * config.cardinality,
            threads=threads or library.processors(),
            cache_size=kv_bits // 8,
            text=matrices.text,
            activations=activations,
        )
        path = path or os.environ.get(library.PATH_VARIABLE, "")
        self._model = self._library.segue_new(
            self._structure, matrices.layers, matrices.norm, matrices.heads, path.encode()
        )
        if not self._model:
            paths = self._library.segue_paths().decode()
            raise library.UnavailableError(
                f"the library refuses this model, or the path {path!r}; here run {paths}"
            )
        # At the end of the process a thread may still be in it; then its memory just goes.
        weakref.finalize(self, self._library.segue_free, self._model).atexit = False

    # --- Caches -----------------------------------------------------------------------------------

    @property
    def kv_bits(self) -> int:
        """Bits of a key or value."""
        return 8 * int(self._structure.cache_size)

    @property
    def path(self) -> str:
        """The name of the path that runs."""
        return str(self._library.segue_path(self._model).decode())

    def cache_bytes(self, capacity: int, text: bool = False) -> int:
        """Bytes of a cache of some positions; a text's are never in 8 bits."""
        structure = Config.from_buffer_copy(self._structure)
        if text:
            structure.cache_size = max(2, int(structure.cache_size))
        return int(self._library.segue_cache_bytes(structure, capacity))

    def keys_and_values(self, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of a cache in blocks `(layers, heads, capacity / BLOCK, bytes)`."""
        heads, dim, size = self.config.num_heads, self.config.head_dim, self.kv_bits // 8
        scales = 4 * BLOCK if size == 1 else 0
        key, value = (BLOCK * n * size + scales for n in (dim, -(-dim // BLOCK) * BLOCK))
        blocks = int(cache.structure.capacity) // BLOCK
        layers = cache.memory.reshape(self.config.num_layers, -1)
        keys = heads * blocks * key
        shape = (len(layers), heads, blocks)
        return layers[:, :keys].reshape(*shape, key), layers[:, keys:].reshape(*shape, value)

    def reserve(self, positions: int) -> None:
        """Have room for rows of so many positions."""
        with self._turn:
            if self._library.segue_reserve(self._model, positions):
                raise MemoryError

    def store_text(self, text: TextCache, cross: CrossKV) -> None:
        """Fill the keys and values of a text, see `TextCache`."""
        self.reserve(text.length)
        for layer, pair in enumerate(cross):
            keys, values = (np.ascontiguousarray(part[0], np.float32) for part in pair)
            _check(
                self._library.segue_store_text(
                    self._model, text.structure, layer, _floats(keys), _floats(values)
                )
            )

    # --- Columns ----------------------------------------------------------------------------------

    def embed(self, tokens: np.ndarray, position: int, abreast: bool = False) -> np.ndarray:
        """Hidden states `(S, dim)` of `tokens` `(S, K)`, from `position` on or `abreast` at it."""
        embedded: np.ndarray = self._table.rows(tokens + self._offsets).sum(axis=1)
        embedded += positions(position, 1 if abreast else len(tokens), self.config.dim)
        return embedded

    def run(self, rows: Sequence[Rows]) -> np.ndarray:
        """Run columns of some rows; weights are read once for up to `MAX_COLUMNS` of them.

        Args:
            rows: each with a cache of its own.

        Returns:
            Logits `(n, K * V)` float32 after the columns for which they are wanted, in their order.
        """
        starts = [row.cache.length for row in rows]
        for row, start in zip(rows, starts, strict=True):
            if start + len(row.hidden) > row.cache.end:
                raise ValueError("a cache has no room for its columns")
            if row.hidden.shape[1] != self.config.dim:
                raise ValueError("hidden states are not the model's")
        pieces = [
            (row, start + at, at, at + 1 > len(row.hidden) - row.last)
            for row, start in zip(rows, starts, strict=True)
            for at in range(len(row.hidden))
        ]
        found = [np.zeros((0, self._width), np.float32)]
        for first in range(0, len(pieces), MAX_COLUMNS):
            found.append(self._some(pieces[first : first + MAX_COLUMNS]))
        for row, start in zip(rows, starts, strict=True):
            row.cache.length = start + len(row.hidden)
        logits = found[1] if len(found) == 2 else np.concatenate(found)
        return logits[:, : int(self._structure.logits)]

    def _some(self, pieces: list[tuple[Rows, int, int, bool]]) -> np.ndarray:
        columns = (Column * len(pieces))(
            *(
                Column(
                    cache=ctypes.addressof(row.cache.structure),
                    text=None if row.text is None else ctypes.addressof(row.text.structure),
                    position=position,
                    wanted=wanted,
                )
                for row, position, _, wanted in pieces
            )
        )
        hidden = np.array([row.hidden[at] for row, _, at, _ in pieces], np.float32)
        logits = np.empty((sum(wanted for *_, wanted in pieces), self._width), np.float32)
        with self._turn:
            _check(
                self._library.segue_forward(
                    self._model, columns, len(columns), _floats(hidden), _floats(logits)
                )
            )
        return logits

    @property
    def _width(self) -> int:
        return -(-int(self._structure.logits) // BLOCK) * BLOCK


def _floats(values: np.ndarray) -> Any:
    return values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def _check(status: int) -> None:
    if status:
        raise ValueError("the native library refuses columns that are not in their caches")
