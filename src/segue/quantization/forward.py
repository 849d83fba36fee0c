"""The language model over whole windows, layer by layer, with the inputs of its products in view.

What engines compute, in float32 and without a cache: one layer's weights are read, used and dropped
before the next one's, and all windows pass it, some at a time.  So memory has to hold one layer,
the hidden states of the windows (see `windows.empty_rows`), and what a chunk of them needs.

Windows may differ in length.  Their positions lie one below the other, as the rows of one matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..checkpoints.config import LMConfig
from ..checkpoints.layouts import LM, MELODY_PROJECTION, PROJECTION
from ..engine.mlx.lm import position_table
from .arithmetic import Arithmetic, Values, default_arithmetic
from .weights import HEADS, Weight
from .windows import Hidden, Windows, empty_rows

Capture = Callable[[str, Values], None]
"""Is given the input `(rows, columns)` of a product, some rows at a time, by the name of its site.

A site is what all modules read that have one input: see `site_of`.
"""

Advance = Callable[[int], None]
"""Is given the rows that have passed a layer."""


class Forward:
    """A language model that runs windows layer by layer.

    Args:
        config: its shape.
        weight: reads its tensors.
        arithmetic: computes; None is what is fastest here.
        folder: where hidden states are kept that memory has no room for; None is the system's.
    """

    def __init__(
        self,
        config: LMConfig,
        weight: Weight,
        arithmetic: Arithmetic | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config, self.weight = config, weight
        self.arithmetic = default_arithmetic() if arithmetic is None else arithmetic
        self._folder = folder

    def start(self, windows: Windows) -> Hidden:
        """Return the hidden states before the first layer."""
        c = self.config
        tables = [self.weight(f"{LM}embed_tokens.{k}.weight") for k in range(c.num_codebooks)]
        project = self.weight(f"{PROJECTION}weight").T, self.weight(f"{PROJECTION}bias")
        given = [None if e is None else e @ project[0] + project[1] for e in windows.encoded]
        prefixes = [self._melody(each) for each in given] if c.melody is not None else None
        counts = tuple(map(len, windows.tokens))
        before = [0] * len(counts) if prefixes is None else [len(each) for each in prefixes]
        lengths = [n + more for n, more in zip(counts, before, strict=True)]
        edges = np.cumsum([0, *lengths])
        positions = np.array(position_table(max(lengths), c.dim))
        rows = empty_rows((int(edges[-1]), c.dim), self._folder)
        for n, tokens in enumerate(windows.tokens):
            x = sum(table[tokens[:, k]] for k, table in enumerate(tables))
            x = x if prefixes is None else np.concatenate([prefixes[n], x])
            rows.write(edges[n], x + positions[: len(x)])
        text = tuple([None] * len(counts) if prefixes is not None else given)
        return Hidden(rows, edges, counts, text, self._folder)

    def _melody(self, text: np.ndarray | None) -> np.ndarray:
        """What comes before the sequence of a melody model that is given no melody."""
        melody = self.config.melody
        assert melody is not None  # noqa: S101 - asked for of melody models alone
        weight = self.weight(f"{MELODY_PROJECTION}weight")
        first = self.weight(f"{MELODY_PROJECTION}bias")
        if melody.strongest:  # the first pitch class is that of silence
            first = first + weight[:, 0]
        text = np.zeros((1, self.config.dim), np.float32) if text is None else text
        return np.concatenate([np.tile(first, (melody.frames, 1)), text])

    def layer(
        self,
        n: int,
        hidden: Hidden,
        capture: Capture | None = None,
        advance: Advance | None = None,
        in_place: bool = False,
    ) -> Hidden:
        """Run layer `n` (from 0).

        Args:
            n: its number.
            hidden: the states before it.
            capture: sees the inputs of its products.
            advance: called after each chunk of windows.
            in_place: whether the states after it take the place of those before; else these stay.
        """
        layer = _Layer(self.config, n, self.weight, self.arithmetic)
        after = hidden if in_place else hidden.like()
        for first, behind in hidden.chunks():
            rows = layer.chunk(hidden, first, behind, capture or _ignored)
            after.rows.write(int(hidden.edges[first]), rows)
            if advance is not None:
                advance(int(hidden.edges[behind]))
        return after

    def through(self, hidden: Hidden, first: int = 0, capture: Capture | None = None) -> Hidden:
        """Run the layers from `first` on."""
        for n in range(first, self.config.num_layers):
            # What a layer returned is nobody else's.
            hidden = self.layer(n, hidden, capture, in_place=n > first)
        return hidden

    def last(self, hidden: Hidden, capture: Capture | None = None) -> np.ndarray:
        """Return what the heads read `(rows, dim)`: the last norm of every column of the windows.

        Columns of the windows lie one below the other; a melody's prefix is left out.
        """
        found = np.empty((sum(hidden.counts), self.config.dim), np.float32)
        row = 0
        for x in self.last_of_chunks(hidden, capture):
            found[row : row + len(x)] = x
            row += len(x)
        return found

    def last_of_chunks(
        self, hidden: Hidden, capture: Capture | None = None
    ) -> Iterator[np.ndarray]:
        """Yield what `last` returns, some windows at a time."""
        a = self.arithmetic
        weight, bias = (a.take(self.weight(f"{LM}layer_norm.{p}")) for p in ("weight", "bias"))
        for first, behind in hidden.chunks():
            x = a.normed(a.take(hidden.columns(first, behind)), weight, bias)
            if capture is not None:
                capture(HEADS, x)
            yield a.give(x)

    def head(self) -> np.ndarray:
        """Return the heads' weights `(K * V, dim)`, one below the other."""
        K = self.config.num_codebooks
        return np.concatenate([self.weight(f"{HEADS}.{k}.weight") for k in range(K)])

    def logits(self, windows: Windows, capture: Capture | None = None) -> np.ndarray:
        """Return logits `(rows, K, V)` float32 after each column of the windows, all in memory."""
        last = self.last(self.through(self.start(windows), capture=capture), capture)
        logits: np.ndarray = last @ self.head().T
        return logits.reshape(len(last), self.config.num_codebooks, -1)


def _ignored(site: str, rows: Values) -> None:
    pass


class _Layer:
    """A layer whose weights are on the device as long as it is."""

    def __init__(self, config: LMConfig, n: int, weight: Weight, arithmetic: Arithmetic) -> None:
        self._name, self._heads = f"{LM}layers.{n}.", config.num_heads
        self._weight, self._arithmetic = weight, arithmetic
        self._read: dict[str, Values] = {}

    def _of(self, *names: str) -> Values:
        """The tensors of some names, one below the other; read once."""
        key = names[0]
        if key not in self._read:
            parts = [self._weight(self._name + name) for name in names]
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            self._read[key] = self._arithmetic.take(whole)
        return self._read[key]

    def _norm(self, x: Values, name: str) -> Values:
        weight, bias = self._of(f"{name}.weight"), self._of(f"{name}.bias")
        return self._arithmetic.normed(x, weight, bias)

    def chunk(self, hidden: Hidden, first: int, behind: int, capture: Capture) -> np.ndarray:
        """Run some windows; returns their rows."""
        a, edges = self._arithmetic, hidden.edges[first : behind + 1] - hidden.edges[first]
        text = hidden.text[first:behind]
        x = a.take(hidden.rows.read(int(hidden.edges[first]), int(hidden.edges[behind])))
        x = self._attend(x, edges, capture)
        if any(each is not None for each in text):
            x = self._attend_to_text(x, edges, text, capture)
        x = self._feed_forward(x, capture)
        a.compute(x)
        return a.give(x)

    def _attend(self, x: Values, edges: np.ndarray, capture: Capture) -> Values:
        a, name = self._arithmetic, "self_attn"
        normed = self._norm(x, f"{name}_layer_norm")
        capture(f"{self._name}{name}.q_proj", normed)
        project = self._of(*(f"{name}.{part}_proj.weight" for part in "qkv"))
        projected, dim = a.product(normed, project), x.shape[1]
        found = []
        for start, stop in pairwise(edges.tolist()):
            q, k, v = (projected[start:stop, n * dim : (n + 1) * dim] for n in range(3))
            found.append(a.attended(q, k, v, self._heads, causal=True))
        y = a.joined(found)
        capture(f"{self._name}{name}.out_proj", y)
        return x + a.product(y, self._of(f"{name}.out_proj.weight"))

    def _attend_to_text(
        self,
        x: Values,
        edges: np.ndarray,
        text: tuple[np.ndarray | None, ...],
        capture: Capture,
    ) -> Values:
        a, name, parts = self._arithmetic, "encoder_attn", []
        for (start, stop), each in zip(pairwise(edges.tolist()), text, strict=True):
            rows = x[start:stop]
            if each is not None:
                given = a.take(each)
                normed = self._norm(rows, f"{name}_layer_norm")
                capture(f"{self._name}{name}.q_proj", normed)
                capture(f"{self._name}{name}.k_proj", given)
                q = a.product(normed, self._of(f"{name}.q_proj.weight"))
                k, v = (a.product(given, self._of(f"{name}.{p}_proj.weight")) for p in "kv")
                y = a.attended(q, k, v, self._heads, causal=False)
                capture(f"{self._name}{name}.out_proj", y)
                rows = rows + a.product(y, self._of(f"{name}.out_proj.weight"))
            parts.append(rows)
        return a.joined(parts)

    def _feed_forward(self, x: Values, capture: Capture) -> Values:
        a = self._arithmetic
        normed = self._norm(x, "final_layer_norm")
        capture(f"{self._name}fc1", normed)
        y = a.gelu(a.product(normed, self._of("fc1.weight")))
        capture(f"{self._name}fc2", y)
        return x + a.product(y, self._of("fc2.weight"))
