"""A recipe's plan as a grid: layers by kinds of modules, with the bits of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..figures import dig, number

_MODULE = re.compile(r"decoder\.model\.decoder\.layers\.(\d+)\.(.+)")
_HEAD = re.compile(r"decoder\.lm_heads\.(\d+)")
_UNITS = {
    "self_attn.q_proj": "Q, K, V",
    "self_attn.out_proj": "attention, out",
    "encoder_attn.q_proj": "text, Q",
    "encoder_attn.k_proj": "text, K",
    "encoder_attn.v_proj": "text, V",
    "encoder_attn.out_proj": "text, out",
    "fc1": "fc1",
    "fc2": "fc2",
}
"""The columns, in a layer's order; Q, K and V run as one and are alike."""

HEADS = "heads"


@dataclass(frozen=True)
class Cell:
    """How a module is quantized."""

    bits: int
    group_size: int


@dataclass(frozen=True)
class Grid:
    """A plan, drawn.

    Attributes:
        units: the heads of the columns.
        rows: the name of each row, and a cell for each unit; None where a layer has no such module.
    """

    units: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]


def grid(recipe: Mapping[str, Any] | None) -> Grid | None:
    """Return the grid of a row's recipe, as its file has it; None where it has no plan."""
    modules = dig(recipe, "plan", "modules")
    if not isinstance(modules, Mapping) or recipe is None:
        return None
    default = _cell(recipe)
    layers: dict[int, dict[str, Cell]] = {}
    heads: Cell | None = default
    for name, entry in modules.items():
        if match := _MODULE.fullmatch(str(name)):
            if (unit := _UNITS.get(match[2])) and (cell := _cell(entry)):
                layers.setdefault(int(match[1]), {})[unit] = cell
        elif _HEAD.fullmatch(str(name)):
            heads = _cell(entry)
    count = number(recipe, "plan", "shape", "layers")
    size = int(count) if count is not None else 1 + max(layers, default=-1)
    units = tuple(_UNITS.values())
    rows = [
        (str(n + 1), tuple(layers.get(n, {}).get(unit, default) for unit in units))
        for n in range(min(size, _MOST_LAYERS))
    ]
    rows.append((HEADS, (heads, *(None for _ in units[1:]))))
    return Grid(units, tuple(rows))


_MOST_LAYERS = 200


def _cell(entry: Any) -> Cell | None:
    bits, size = number(entry, "bits"), number(entry, "group_size")
    return None if bits is None or size is None else Cell(int(bits), int(size))
