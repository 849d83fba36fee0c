"""The language model of MusicGen as a graph: a decoder-only transformer over codes.

Little is left to a step: embeddings and positions are looked up by the host, Q, K and V are one
product, so are the heads of all codebooks, and OpenVINO fuses each layer's cache and attention into
one node.  Cross-attention's keys and values are projected once per request, and without text there
is no cross-attention at all (its projections have no bias, so over zeros it adds nothing).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...checkpoints.config import LMConfig
from ...checkpoints.layouts import LM as PREFIX
from ...checkpoints.layouts import MELODY_PROJECTION, PROJECTION
from .. import chroma
from . import graph
from .graph import Output
from .runtime import compiled, give_back, ops, ov, page_out, run, states
from .weights import Table, Weights

CrossKV = list[tuple[np.ndarray, np.ndarray]]
"""For each layer, keys and values `(1, H, L, D)` of the conditioning."""


@dataclass(frozen=True)
class Prefix:
    """What comes before the sequence in a melody model: its melody, then its text.

    Attributes:
        given: `(1, L, dim)` of the conditioned stream, positions added.
        nothing: likewise of the unconditioned one.
    """

    given: np.ndarray
    nothing: np.ndarray

    @property
    def length(self) -> int:
        """Positions that it takes."""
        return int(self.given.shape[1])

    def before(self, hidden: np.ndarray, guided: bool) -> np.ndarray:
        """Hidden states `(B, L + S, dim)` of `hidden` `(B, S, dim)` with this before them."""
        takes = len(hidden) // 2 if guided else len(hidden)
        rows = np.repeat(self.given, takes, axis=0)
        if guided:
            rows = np.concatenate([rows, np.repeat(self.nothing, takes, axis=0)])
        return np.concatenate([rows, hidden], axis=1)


COLUMNS_BETWEEN_TRIMS = 512
"""OpenVINO doubles a cache that is full and frees the old one, which the C heap would keep."""


def positions(start: int, count: int, dim: int) -> np.ndarray:
    """Sinusoidal positions `(count, dim)` from `start` on, cosines first.

    The denominator is `dim / 2 - 1`, as in AudioCraft's `create_sin_embedding`.
    """
    half = dim // 2
    steps = np.arange(half, dtype=np.float32)
    frequency = np.exp(steps * np.float32(-math.log(10_000) / (half - 1)))
    phase = np.arange(start, start + count, dtype=np.float32)[:, None] * frequency[None, :]
    return np.concatenate([np.cos(phase), np.sin(phase)], axis=-1)


class LM:
    """Codes in, logits over the next codes out.

    Args:
        config: its shape.
        weights: its weights.
        threads: how many to use; None for as many as there are cores.
        kv_bits: of a key or value in the cache, 8 or 16; None is 32.

    Attributes:
        kv_bits: as given.
        table: the embeddings.
    """

    def __init__(
        self,
        config: LMConfig,
        weights: Weights,
        threads: int | None,
        kv_bits: int | None = None,
    ) -> None:
        self._config, self._weights, self._threads = config, weights, threads
        self.kv_bits = kv_bits
        K = range(config.num_codebooks)
        self.table = Table(weights, [f"{PREFIX}embed_tokens.{k}" for k in K])
        self._offsets = np.arange(config.num_codebooks) * (config.cardinality + 1)

    def embed(self, tokens: np.ndarray, position: int) -> np.ndarray:
        """Hidden states `(B, S, dim)` of `tokens` `(B, S, K)` that start at `position`."""
        embedded: np.ndarray = self.table.rows(tokens + self._offsets).sum(axis=2)
        embedded += positions(position, tokens.shape[1], self._config.dim)
        return embedded

    @property
    def config(self) -> LMConfig:
        """Its shape."""
        return self._config

    def run(self, cross: CrossKV | None) -> Run:
        """A run from an empty cache, with or without text."""
        run = self.empty_run(cross is not None)
        run.attend_to(cross)
        return run

    def empty_run(self, text: bool) -> Run:
        """A run from an empty cache; with text, `Run.attend_to` says which."""
        model = self.with_text if text else self.plain
        return Run(model, (1, self._config.num_heads, 1, self._config.head_dim))

    @cached_property
    def plain(self) -> Any:
        """The model without cross-attention, compiled."""
        return self._compiled(text=False)

    @cached_property
    def with_text(self) -> Any:
        """The model with cross-attention, compiled."""
        return self._compiled(text=True)

    def _compiled(self, text: bool) -> Any:
        model = _decoder(self._config, self._weights, text)
        return compiled(model, self._threads, self.kv_bits)

    @cached_property
    def _projection(self) -> Any:
        return compiled(_cross_projection(self._config, self._weights), self._threads)

    def project(self, encoded: np.ndarray) -> CrossKV:
        """Every layer's keys and values of a text encoder's output `(1, L, text_dim)`."""
        rows = run(self._projection, encoded)
        return list(zip(rows[::2], rows[1::2], strict=True))

    def prefix(self, melody: np.ndarray | None, encoded: np.ndarray | None) -> Prefix:
        """What comes before the sequence in a melody model.

        Args:
            melody: `(F, bins)`, from `chroma.features`; None for no melody.
            encoded: a text encoder's output `(1, L, text_dim)`; None for no text.
        """
        config = self._config.melody
        assert config is not None  # noqa: S101 - asked for of melody models alone
        nothing = chroma.silence(config)
        # In place of no text there is one zero vector, in AudioCraft the mask of an empty text's.
        text = np.zeros((1, 1, self._config.dim), np.float32)
        if encoded is not None:
            text = run(self._text_projection, encoded)[0]

        def behind(melody: np.ndarray, text: np.ndarray) -> np.ndarray:
            projected = run(self._melody_projection, melody[None])[0]
            whole: np.ndarray = np.concatenate([projected, text], axis=1)
            whole += positions(0, whole.shape[1], self._config.dim)
            return whole

        given = behind(nothing if melody is None else melody, text)
        return Prefix(given, behind(nothing, np.zeros_like(text)))

    @cached_property
    def _text_projection(self) -> Any:
        return compiled(_projection(self._weights, PROJECTION), self._threads)

    @cached_property
    def _melody_projection(self) -> Any:
        return compiled(_projection(self._weights, MELODY_PROJECTION), self._threads)


class Run:
    """A cache that is being filled.

    Args:
        model: compiled; what `_decoder` made.
        entry: the shape of one column's keys, or values.
    """

    def __init__(self, model: Any, entry: tuple[int, ...]) -> None:
        self._request, self._entry = model.create_infer_request(), entry
        self._length = 0
        self._held: dict[int, Any] = {}
        self._no_mask = np.zeros(0, np.float32)

    def attend_to(self, cross: CrossKV | None, mask: np.ndarray | None = None) -> None:
        """Take other keys and values of the text from now on, as the batch grows.

        Args:
            cross: keys and values `(B, H, L, D)`.
            mask: `(B, 1, 1, L)`, 0 where a row has a token, else minus infinity; None where all
                rows have all.
        """
        if cross is None:
            return
        if mask is None:
            mask = np.zeros((1, 1, 1, cross[0][0].shape[2]), np.float32)
        for n, array in enumerate([mask, *(array for pair in cross for array in pair)]):
            self._put(4 + n, array)

    def __call__(
        self,
        hidden: np.ndarray,
        rows: np.ndarray,
        last: int = 1,
        mask: np.ndarray | None = None,
    ) -> np.ndarray:
        """Logits `(B, last, K * V)` float32 after the `last` of some columns.

        Args:
            hidden: `(B, S, dim)`, from `LM.embed`.
            rows: `(B,)` int32, the row of the cache that each row of the batch goes on with.
            last: after how many columns logits are wanted.
            mask: `(B, 1, S, length)`, 0 or minus infinity; None for columns that attend to all
                before them.
        """
        S = hidden.shape[1]
        self._put(0, hidden)
        self._put(1, rows)
        self._put(2, self._mask(S) if mask is None else mask)
        self._put(3, np.arange(S - last, S, dtype=np.int32))
        self._request.infer()
        before, self._length = self._length, self._length + S
        if before // COLUMNS_BETWEEN_TRIMS < self._length // COLUMNS_BETWEEN_TRIMS:
            give_back()
        if S > 1:  # which packs the weights, for a step as well
            page_out()
        return np.array(self._request.get_output_tensor(0).data)

    @property
    def length(self) -> int:
        """How many columns have been run, or loaded."""
        return self._length

    @property
    def caches(self) -> list[str]:
        """The names of the caches: keys and values of each layer."""
        return sorted(state.name for state in self._request.query_state())

    def cache(self, name: str) -> np.ndarray:
        """A copy of keys or values `(B, H, length, D)` float32."""
        return np.array(self._states()[name].state.data)

    def load(self, name: str, values: np.ndarray) -> None:
        """Put keys or values `(B, H, length, D)` in the place of a cache; all must be alike."""
        self._states()[name].state = ov.Tensor(np.ascontiguousarray(values))
        self._length = values.shape[2]

    def _states(self) -> dict[str, Any]:
        return {state.name: state for state in self._request.query_state()}

    @property
    def stored_columns(self) -> int:
        """How many columns the cache holds; 1, of zeros, once it is released."""
        return max(int(state.state.shape[2]) for state in self._request.query_state())

    def release(self) -> None:
        """Empty the cache; the run is over.

        The compiled model would hold it until its next run: 0.3 GB of MusicGen small.
        """
        for state in self._request.query_state():
            state.state = ov.Tensor(np.zeros(self._entry, np.float32))
        give_back()

    def _mask(self, S: int) -> np.ndarray:
        """What each of S columns must not attend to: `(1, 1, S, length)`, 0 or minus infinity."""
        length = self._length + S
        if S > 1:
            later = np.arange(length)[None, :] > np.arange(self._length, length)[:, None]
            return np.where(later, np.float32(-np.inf), np.float32(0))[None, None]
        if self._no_mask.size < length:
            self._no_mask = np.zeros(2 * length, np.float32)
        return self._no_mask[:length].reshape(1, 1, 1, length)

    def _put(self, n: int, array: np.ndarray) -> None:
        # OpenVINO reads the array where it lies, so it is held for as long as it is an input.
        self._held[n] = np.ascontiguousarray(array)
        self._request.set_input_tensor(n, ov.Tensor(self._held[n], shared_memory=True))


def _decoder(config: LMConfig, weights: Weights, text: bool) -> ov.Model:
    """The graph of a step, or of many columns at once.

    Inputs: hidden states `(B, S, dim)`, the cache's row for each row of the batch `(B,)`, the mask
    `(1 or B, 1, S, length)`, the columns to give logits for `(n,)`, and with text its mask
    `(1 or B, 1, 1, L)` and keys and values for each layer.  Output: logits `(B, n, K * V)`.
    """
    dim, heads = config.dim, config.num_heads
    hidden = graph.parameter("hidden", (-1, -1, dim))
    rows = graph.parameter("rows", (-1,), ov.Type.i32)
    mask = graph.parameter("mask", (-1, 1, -1, -1))
    wanted = graph.parameter("wanted", (-1,), ov.Type.i32)
    inputs, sinks = [hidden, rows, mask, wanted], []
    if text:
        inputs.append(text_mask := graph.parameter("text_mask", (-1, 1, 1, -1)))
    batch = ops.gather(ops.shape_of(hidden), graph.integers(0), graph.integer(0))
    nothing = ops.broadcast(
        graph.constant(np.float32(0)),
        ops.concat([batch, graph.integers(heads, 0, config.head_dim)], 0),
    )

    def cached(name: str, new: Output) -> Output:
        """What the cache holds, and `new` behind it: ReadValue, Gather, Concat, Assign."""
        shape = ov.PartialShape([-1, heads, -1, config.head_dim])
        past = states.read_value(nothing, name, ov.Type.f32, shape)
        whole = ops.concat([ops.gather(past, rows, graph.integer(0)), new], 2)
        sinks.append(states.assign(whole, name))
        return whole

    def linear(x: Output, *modules: str) -> Output:
        return ops.matmul(x, weights.matrix(list(modules)), False, True)

    def norm(x: Output, module: str) -> Output:
        weight, bias = (weights.floats(f"{module}.{part}") for part in ("weight", "bias"))
        return graph.layer_norm(x, weight, bias)

    x = hidden
    for n in range(config.num_layers):
        layer = f"{PREFIX}layers.{n}."
        attention = f"{layer}self_attn."
        qkv = linear(
            norm(x, f"{layer}self_attn_layer_norm"), *(f"{attention}{p}_proj" for p in "qkv")
        )
        apart = ops.reshape(qkv, graph.integers(0, 0, 3 * heads, config.head_dim), True)
        parts = ops.variadic_split(apart, graph.integer(2), graph.integers(heads, heads, heads))
        q, k, v = (graph.swapped(part) for part in parts.outputs())
        y = ops.scaled_dot_product_attention(
            q, cached(f"{layer}k", k), cached(f"{layer}v", v), mask
        )
        x = ops.add(x, linear(graph.join_heads(y, dim), f"{attention}out_proj"))
        if text:
            attention = f"{layer}encoder_attn."
            keys, values = (
                graph.parameter(f"{layer}cross_{part}", (-1, heads, -1, config.head_dim))
                for part in "kv"
            )
            inputs += [keys, values]
            q = linear(norm(x, f"{layer}encoder_attn_layer_norm"), f"{attention}q_proj")
            y = ops.scaled_dot_product_attention(
                graph.split_heads(q, heads, config.head_dim), keys, values, text_mask
            )
            x = ops.add(x, linear(graph.join_heads(y, dim), f"{attention}out_proj"))
        y = ops.gelu(linear(norm(x, f"{layer}final_layer_norm"), f"{layer}fc1"), "erf")
        x = ops.add(x, linear(y, f"{layer}fc2"))
    last = norm(ops.gather(x, wanted, graph.integer(1)), f"{PREFIX}layer_norm")
    heads_of_all = [f"decoder.lm_heads.{k}" for k in range(config.num_codebooks)]
    return graph.model([linear(last, *heads_of_all)], inputs, sinks)


def _projection(weights: Weights, prefix: str) -> ov.Model:
    """The graph of a projection with a bias."""
    module, x = prefix.removesuffix("."), graph.parameter("x", (-1, -1, -1))
    y = ops.matmul(x, weights.matrix([module]), False, True)
    return graph.model([ops.add(y, graph.constant(weights.floats(f"{module}.bias")))], [x])


def _cross_projection(config: LMConfig, weights: Weights) -> ov.Model:
    """The graph from a text encoder's output to every layer's keys and values."""
    module = PROJECTION.removesuffix(".")
    encoded = graph.parameter("encoded", (-1, -1, -1))
    x = ops.matmul(encoded, weights.matrix([module]), False, True)
    x = ops.add(x, graph.constant(weights.floats(f"{module}.bias")))
    outputs = [
        graph.split_heads(
            ops.matmul(
                x,
                weights.matrix([f"{PREFIX}layers.{n}.encoder_attn.{part}_proj"]),
                False,
                True,
            ),
            config.num_heads,
            config.head_dim,
        )
        for n in range(config.num_layers)
        for part in "kv"
    ]
    return graph.model(outputs, [encoded])
