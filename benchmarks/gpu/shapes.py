"""MusicGen's shapes, with random weights that cost nothing to make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from segue.checkpoints.checkpoint import Checkpoint
from segue.checkpoints.config import ModelConfig
from segue.checkpoints.layouts import codec_shapes, lm_shapes, t5_shapes
from segue.checkpoints.tensors import Tensors, of_arrays
from segue.demo.toy import CONFIG, write_tokenizer

DECODERS: dict[str, dict[str, int]] = {
    "toy": {},
    "small": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
    "medium": {"hidden_size": 1536, "num_hidden_layers": 48, "num_attention_heads": 24},
    "large": {"hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32},
}
CODEC = {
    "num_filters": 64,
    "hidden_size": 128,
    "codebook_size": 2048,
    "codebook_dim": 128,
    "target_bandwidths": [2.2],
}
CACHE_BYTES = 4 << 30
"""The memory that MLX may cache: rows of a shape share one GPU."""

FOLD = 1 << 16
"""The count of random numbers, which are repeated to fill each weight."""


def config(shape: str) -> dict[str, Any]:
    """Make the configuration of a shape in the Hugging Face layout, with a toy text encoder."""
    found: dict[str, Any] = json.loads(json.dumps(CONFIG))
    if shape != "toy":
        decoder = DECODERS[shape]
        found["decoder"] |= decoder | {"ffn_dim": 4 * decoder["hidden_size"], "vocab_size": 2048}
        found["audio_encoder"] |= CODEC
    return found


def checkpoint(shape: str, folder: Path) -> Checkpoint:
    """Make an opened checkpoint in float16; a tokenizer is written to `folder`."""
    found = ModelConfig.from_hf(config(shape))
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    text = {} if found.text is None else t5_shapes(found.text)
    return Checkpoint(
        name=shape,
        folder=folder,
        config=found,
        lm=_random(lm_shapes(found.lm, found.text_dim), np.float16, folder),
        codec=_random(codec_shapes(found.codec), np.float32, folder),
        text_folders=[folder],
        text_tensors=_random(text, np.float32, folder),
    )


def _random(shapes: Any, dtype: type, source: Path) -> Tensors:
    shapes = dict(shapes)
    fold = np.random.default_rng(0).standard_normal(FOLD).astype(np.float32)
    largest = max(int(np.prod(shape)) for shape in shapes.values())
    block: np.ndarray = np.resize(0.02 * fold, largest).astype(dtype)
    ones: np.ndarray = np.ones(FOLD, dtype)

    def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape))
        values = ones if "norm" in name and name.endswith("weight") else block
        return values[:size].reshape(shape)

    return of_arrays({name: weight(name, shape) for name, shape in shapes.items()}, source)
