"""Units: the modules of a language model that a plan gives one width to, together.

A unit is what runs as one product, or what hardly differs: Q, K and V of a layer's self-attention,
its output, cross-attention's query, its keys and values, its output, each half of the feed-forward,
and the heads of all codebooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..checkpoints.config import LMConfig, QuantizationParams
from ..checkpoints.layouts import LM

PARTS: Mapping[str, tuple[str, ...]] = {
    "self_attn.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.out": ("self_attn.out_proj",),
    "cross_attn.q": ("encoder_attn.q_proj",),
    "cross_attn.kv": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "cross_attn.out": ("encoder_attn.out_proj",),
    "fc1": ("fc1",),
    "fc2": ("fc2",),
}
"""For each part of a layer, the modules that it holds."""

HEADS = "heads"

BITS_OF_A_GROUP = 32
"""A scale and a bias in float16, which a group has beside its weights."""


@dataclass(frozen=True)
class Unit:
    """Some modules that have one width.

    Attributes:
        part: one of `PARTS`, or `HEADS`.
        layer: its number; None for the heads.
        modules: by their names in `segue.checkpoints.layouts`.
        rows, columns: of all its modules' weights, one below the other.
    """

    part: str
    layer: int | None
    modules: tuple[str, ...]
    rows: int
    columns: int

    @property
    def name(self) -> str:
        """A short name: `3.fc1`, `heads`."""
        return self.part if self.layer is None else f"{self.layer}.{self.part}"

    @property
    def weights(self) -> int:
        """How many weights it has."""
        return self.rows * self.columns

    @property
    def reads_text(self) -> bool:
        """Whether it is cross-attention, which runs where there is text."""
        return self.part.startswith("cross_attn")

    def fits(self, params: QuantizationParams) -> bool:
        """Tell whether its rows are whole groups, and whole words when packed."""
        return self.columns % params.group_size == 0 and self.columns * params.bits % 32 == 0

    def bits(self, params: QuantizationParams) -> int:
        """Return the bits that it takes, those of scales and biases counted."""
        groups = self.weights // params.group_size
        return self.weights * params.bits + groups * BITS_OF_A_GROUP


def units_of(lm: LMConfig) -> list[Unit]:
    """List the units of a language model, from the first layer to the heads."""
    found = []
    inner = {"fc1": (lm.ffn_dim, lm.dim), "fc2": (lm.dim, lm.ffn_dim)}
    for n in range(lm.num_layers):
        for part, modules in PARTS.items():
            if part.startswith("cross_attn") and lm.melody is not None:
                continue
            rows, columns = inner.get(part, (len(modules) * lm.dim, lm.dim))
            names = tuple(f"{LM}layers.{n}.{module}" for module in modules)
            found.append(Unit(part, n, names, rows, columns))
    heads = tuple(f"decoder.lm_heads.{k}" for k in range(lm.num_codebooks))
    return [*found, Unit(HEADS, None, heads, lm.num_codebooks * lm.cardinality, lm.dim)]


def average_bits(chosen: Iterable[tuple[Unit, QuantizationParams]]) -> float:
    """Return the bits of a weight of some units, scales and biases counted."""
    pairs = list(chosen)
    return sum(u.bits(p) for u, p in pairs) / sum(u.weights for u, _ in pairs)
