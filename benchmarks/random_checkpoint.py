"""A checkpoint of MusicGen's shape on disk: random float16 weights, written one by one.

Nothing larger than a tensor is in memory while it is written, so `large` (6.5 GB) can be made where
it could not be held.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from segue.checkpoints.config import ModelConfig
from segue.checkpoints.layouts import CODEC, TEXT, codec_shapes, lm_shapes, t5_shapes
from segue.demo.toy import QUIET, write_tokenizer

from .gpu.shapes import config


def write(shape: str, root: Path, layers: int | None = None) -> Path:
    """Write a checkpoint to a folder in `root`, unless it is there.

    Args:
        shape: one of `benchmarks.gpu.shapes.DECODERS`.
        root: where to; it is created.
        layers: of the decoder; None is the shape's.

    Returns:
        The checkpoint's folder.
    """
    content = config(shape)
    if layers is not None:
        content["decoder"]["num_hidden_layers"] = layers
    folder = root / f"random-{shape}-{content['decoder']['num_hidden_layers']}"
    if (folder / "config.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    found = ModelConfig.from_hf(content)
    shapes = dict(lm_shapes(found.lm, found.text_dim))
    shapes |= {CODEC + name: size for name, size in codec_shapes(found.codec).items()}
    if found.text is not None:
        shapes |= {TEXT + name: size for name, size in t5_shapes(found.text).items()}
    _write(folder / "model.safetensors", shapes)
    (folder / "config.json").write_text(json.dumps(content, indent=2))
    return folder


def _write(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    header, at = {}, 0
    for name, size in shapes.items():
        end = at + 2 * int(np.prod(size))
        header[name] = {"dtype": "F16", "shape": list(size), "data_offsets": [at, end]}
        at = end
    said = json.dumps(header).encode()
    said += b" " * (-len(said) % 8)
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(said).to_bytes(8, "little") + said)
        for name, size in shapes.items():
            file.write(_values(name, size, random).tobytes())
        file.flush()
        os.fsync(file.fileno())


def _values(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if "norm" in name and name.endswith("weight"):
        return np.ones(shape, np.float16)
    fan_in = float(np.prod(shape[1:])) if len(shape) > 1 else 100.0
    scale = 1.0 if "embed" in name else 1.5 / np.sqrt(fan_in)
    if name.startswith(CODEC):
        scale *= QUIET
    values = random.standard_normal(shape, np.float32) * np.float32(scale)
    return values.astype(np.float16)
