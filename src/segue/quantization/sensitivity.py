"""How much every unit of a model loses when it alone is quantized, and what a whole plan loses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ..checkpoints.config import LMConfig, QuantizationParams
from ..errors import ModelOverflowError
from ..progress import SILENT, Progress
from .forward import Forward
from .losses import MEASURED
from .units import Unit
from .weights import HEADS, Weight, dense
from .windows import Hidden, Windows

CONTEXT_FRAMES = 50
"""Frames at the start of a window that are context alone, or half of a shorter one."""

KEPT_BYTES = 1 << 30
"""Of weights in float32 that are kept from pass to pass; those of larger models are read anew."""

Losses = dict[str, float]
"""By the name of a unit, the mean KL divergence in nats a token."""


def kept(weight: Weight, limit: int = KEPT_BYTES) -> Weight:
    """Return `weight` with what was read first kept in memory, up to `limit` bytes."""
    found: dict[str, np.ndarray] = {}
    room = limit

    def read(name: str) -> np.ndarray:
        nonlocal room
        if name in found:
            return found[name]
        values = weight(name)
        if values.nbytes <= room:
            room -= values.nbytes
            found[name] = values
        return values

    return read


@dataclass(frozen=True, eq=False)
class Baseline:
    """How the model as it is distributes the codes of a window.

    Attributes:
        probabilities: of each codebook, `(F, V)` float32.
        negative_entropy: the mean over codes of `Σ p log p`.
    """

    probabilities: tuple[np.ndarray, ...]
    negative_entropy: float

    @classmethod
    def of(cls, logits: Sequence[np.ndarray]) -> Baseline:
        """Keep what the logits of each codebook, `(F, V)`, say."""
        probabilities, entropies = [], []
        for each in logits:
            top = each.max(axis=-1, keepdims=True)
            p = np.exp(each - top)
            total = p.sum(axis=-1, keepdims=True)
            p /= total
            entropies.append(np.einsum("fv,fv->f", p, each - top - np.log(total)))
            probabilities.append(p)
        return cls(tuple(probabilities), float(np.mean(entropies, dtype=np.float64)))

    def divergence(self, logits: Sequence[np.ndarray]) -> float:
        """Return the KL divergence of what other logits say, mean over codes, in nats a token.

        The logits are overwritten.
        """
        cross = []
        for p, each in zip(self.probabilities, logits, strict=True):
            top, expected = each.max(axis=-1), np.einsum("fv,fv->f", p, each)
            each -= top[:, None]
            np.exp(each, out=each)
            cross.append(top + np.log(each.sum(axis=-1)) - expected)
        return float(np.mean(cross)) + self.negative_entropy


class Measurements:
    """What a model loses on some windows.

    Beside the weights, the hidden states of all windows before one layer and their distributions
    are in memory: `F · K · V` floats for each.

    Args:
        config: of the model.
        weight: reads the model as it is.
        windows: music; one window at least.
        progress: shows the passes.

    Raises:
        ModelOverflowError: logits are NaN or infinite.
    """

    def __init__(
        self, config: LMConfig, weight: Weight, windows: Windows, progress: Progress = SILENT
    ) -> None:
        self._config, self._weight, self._progress = config, weight, progress
        self._windows = windows
        self._forward = Forward(config, weight)
        self._baselines: list[Baseline] = []
        with progress.stage("run the model as it is", config.num_layers + 1, "layers") as advance:
            hidden = self._forward.start(windows)
            for n in range(config.num_layers):
                hidden = self._forward.layer(n, hidden)
                advance(n + 1)
            for logits in self._logits(self._forward, hidden):
                if not all(np.isfinite(each).all() for each in logits):
                    raise ModelOverflowError("logits")
                self._baselines.append(Baseline.of(logits))
            advance(config.num_layers + 1)

    def _logits(self, forward: Forward, hidden: Hidden) -> Iterator[list[np.ndarray]]:
        """For each window and codebook, logits `(F - skipped, V)` before the codes that count."""
        last, start, a = forward.last(hidden), 0, forward.arithmetic
        K = self._config.num_codebooks
        heads = [a.take(forward.weight(f"{HEADS}.{k}.weight")) for k in range(K)]
        for count in hidden.counts:
            frames = count - max(self._config.delays) - 1
            skip = min(CONTEXT_FRAMES, frames // 2)
            rows = a.take(last[start : start + count])
            parts = [
                a.product(rows[late + skip : late + frames], heads[k])
                for k, late in enumerate(self._config.delays)
            ]
            a.compute(*parts)
            yield [np.require(a.give(part), requirements="W") for part in parts]
            start += count

    @property
    def windows(self) -> int:
        """How many windows it is measured on."""
        return len(self._windows)

    def layers_of(self, units: Sequence[Unit], whole: bool = False) -> int:
        """Return how many layers are run to measure some units, the heads as one more.

        Args:
            units: what is measured.
            whole: from the first layer, wherever the units are.
        """
        layers = self._config.num_layers
        first = [0 if whole else layers if u.layer is None else u.layer for u in units]
        return sum(layers + 1 - n for n in first)

    def sensitivities(
        self,
        units: Sequence[Unit],
        known: Mapping[str, float] | None = None,
        done: Callable[[Losses], None] = lambda losses: None,
        rounded: Weight | None = None,
    ) -> Losses:
        """Quantize one unit after the other at `losses.MEASURED`, all others as they are.

        A pass begins at the unit's layer.  Where no window has text, cross-attention does not run,
        and loses nothing.

        Args:
            units: in the order of `units_of`.
            known: units that were measured before, on the same windows.
            done: called with all that are known, after each unit.
            rounded: reads weights as they are rounded at `losses.MEASURED`; None rounds them to
                the nearest value.

        Returns:
            The losses of all.
        """
        losses, layers = dict(known or {}), self._config.num_layers
        hidden, at = self._forward.start(self._windows), 0
        spoken = any(text is not None for text in self._windows.encoded)
        first = {unit.name: layers if unit.layer is None else unit.layer for unit in units}
        total, passed = self.layers_of(units), 0
        with self._progress.stage("measure each unit", total, "layers") as advance:
            for unit in units:
                if unit.name not in losses:
                    for n in range(at, first[unit.name]):
                        hidden = self._forward.layer(n, hidden)
                    at = first[unit.name]
                    unread = unit.reads_text and not spoken
                    losses[unit.name] = (
                        0.0 if unread else self._loss_of(unit, hidden, at, rounded or self._nearest)
                    )
                    done(losses)
                passed += self.layers_of([unit])
                advance(passed)
        return {unit.name: losses[unit.name] for unit in units}

    def _nearest(self, name: str) -> np.ndarray:
        return rounded_to_nearest(self._weight(name))

    def _loss_of(self, unit: Unit, hidden: Hidden, layer: int, rounded: Weight) -> float:
        names = [f"{module}.weight" for module in unit.modules]
        values = {name: rounded(name) for name in names}

        def replaced(name: str) -> np.ndarray:
            found = values.get(name)
            return self._weight(name) if found is None else found

        return self._divergence(Forward(self._config, replaced), hidden, layer)

    def divergence(self, weight: Weight) -> float:
        """Return the KL divergence of the model with other weights, in nats a token."""
        forward = Forward(self._config, weight)
        return self._divergence(forward, forward.start(self._windows), 0)

    def _divergence(self, forward: Forward, hidden: Hidden, first: int) -> float:
        logits = self._logits(forward, forward.through(hidden, first))
        pairs = zip(self._baselines, logits, strict=True)
        return float(np.mean([baseline.divergence(each) for baseline, each in pairs]))


def rounded_to_nearest(weight: np.ndarray, params: QuantizationParams = MEASURED) -> np.ndarray:
    """Return a weight `(rows, columns)` rounded, in smaller groups where its rows need them."""
    group = params.group_size
    while weight.shape[1] % group and group > 32:
        group //= 2
    packed, scales, biases = mx.quantize(mx.array(weight), group, params.bits)
    return dense(packed, scales, biases, group, params.bits)
