"""Checkpoints of MusicGen small's shape and random weights."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import save_quantized
from segue.checkpoints.recipe import Recipe
from segue.demo.toy import CONFIG, write_checkpoint

RECIPES = {
    "4 bits": Recipe("decoder-linears", 4, 64),
    "4 bits int8": Recipe("decoder-linears", 4, 64),
    "8 bits": Recipe("decoder-linears", 8, 64),
}


def small() -> dict[str, Any]:
    """`facebook/musicgen-small`'s configuration, but for a text encoder of toy size."""
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    config["decoder"] |= {
        "hidden_size": 1024,
        "ffn_dim": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "vocab_size": 2048,
    }
    config["audio_encoder"] |= {
        "num_filters": 64,
        "hidden_size": 128,
        "codebook_size": 2048,
        "codebook_dim": 128,
        "target_bandwidths": [2.2],
    }
    return config


def write(folder: Path, rows: Iterable[str]) -> dict[str, Path]:
    """The checkpoints of `rows` and the plain one, made where they are not there yet."""
    made = {"float32": folder / "small"}
    if not made["float32"].exists():
        write_checkpoint(made["float32"], config=small())
    for row in rows:
        if row in RECIPES:
            made[row] = folder / f"small-{RECIPES[row].name}"
            if not made[row].exists():
                save_quantized(open_checkpoint(str(made["float32"])), RECIPES[row], made[row])
    return made
