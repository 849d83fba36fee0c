"""A plan as a picture: layers by parts, bits as colours and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import writing
from .errors import RequestError

ENDINGS = (".png", ".svg", ".pdf")
LEAST, MOST = 2, 8


def draw(document: Mapping[str, Any], path: Path) -> None:
    """Draw the plan of a recipe's file.

    Args:
        document: from `segue.checkpoints.recipe_file.read_recipe_file`.
        path: of the picture; its ending says what it is.

    Raises:
        ImportError: matplotlib is not installed.
        OutputError: the file cannot be written.
        RequestError: it has another ending than `ENDINGS`.
    """
    check_ending(path)
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    units = [(*_place(unit["unit"]), unit) for unit in document["units"]]
    parts = list(dict.fromkeys(part for _, part, _ in units))
    layers = 1 + max(layer for layer, _, _ in units)
    bits = np.full((layers, len(parts)), np.nan)
    figure, axes = plt.subplots(
        figsize=(1.5 + 1.1 * len(parts), 1.6 + 0.32 * layers), layout="constrained"
    )
    for layer, part, unit in units:
        row, column = layer, parts.index(part)
        bits[row, column] = unit["bits"]
        words = f"{unit['bits']}" + ("" if unit["group_size"] == 64 else f"/{unit['group_size']}")
        white = unit["bits"] < (LEAST + MOST) / 2
        axes.text(column, row, words, ha="center", va="center", color="w" if white else "k")
    drawn = axes.imshow(bits, aspect="auto", vmin=LEAST, vmax=MOST, cmap="viridis")
    axes.set_xticks(range(len(parts)), parts, rotation=30, ha="right")
    axes.set_yticks(range(layers), [str(n) for n in range(layers)])
    axes.set_ylabel("layer")
    axes.set_title(
        f"{document['bits']:.2f} bits a weight, {document['kl']['measured']:.3g} nats a token"
    )
    figure.colorbar(drawn, label="bits (groups of 64, unless it says so)")
    kind = path.suffix.lower().removeprefix(".")
    # Without a date, and with names of parts that are not random: one plan, one file.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with writing(path) as temporary, mpl.rc_context({"svg.hashsalt": "segue"}):
        figure.savefig(temporary, format=kind, dpi=100, metadata=metadata)
    plt.close(figure)


def check_ending(path: Path) -> None:
    """Check that a path says what a picture is.

    Raises:
        RequestError: it has another ending than `ENDINGS`.
    """
    if path.suffix.lower() not in ENDINGS:
        raise RequestError(f"{path}: a picture's name ends in {', '.join(ENDINGS)}")


def _place(name: str) -> tuple[int, str]:
    """The layer and the part of a unit; the heads stand in the first row."""
    layer, dot, part = name.partition(".")
    return (int(layer), part) if dot else (0, layer)
