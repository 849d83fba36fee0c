"""What the parts of a request ask of a machine: bytes to read, and float32 operations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segue.checkpoints.config import CodecConfig, LMConfig
from segue.checkpoints.tensors import Tensors, open_safetensors


def bytes_of_a_step(
    folder: Path, lm: LMConfig, known: int, frames: int, value_bytes: int = 4
) -> float:
    """What a step must read: the weights it multiplies, and the middle of the cache's lengths."""
    weights = 0
    for name, tensor in open_safetensors(folder / "model.safetensors").items():
        attends_text = "encoder_attn" in name or "embed_tokens" in name
        # A bias of a group is kept as its zero point, which is as small as a weight.
        if name.startswith("decoder.") and not attends_text and not name.endswith(".biases"):
            weights += tensor.read().nbytes
    return weights + 2 * lm.num_layers * lm.dim * value_bytes * (known + frames) / 2


def operations_of_prefill(lm: LMConfig, columns: int) -> float:
    """Products of all layers for all columns, attention, and the heads of the last column."""
    layer = 4 * lm.dim**2 + 2 * lm.dim * lm.ffn_dim
    attention = 2 * columns * lm.dim
    heads = lm.num_codebooks * lm.cardinality * lm.dim
    return 2.0 * (lm.num_layers * columns * (layer + attention) + heads)


def operations_of_the_codec(part: str, config: CodecConfig, tensors: Tensors, frames: int) -> float:
    """Convolutions and LSTMs of the `encoder` or the `decoder` over `frames`, none twice."""
    encodes = part == "encoder"
    steps = float(frames * config.hop_length if encodes else frames)
    ratios = iter(reversed(config.ratios) if encodes else config.ratios)
    layers: dict[int, list[str]] = {}
    for name in tensors:
        if name.startswith(f"{part}.layers."):
            layers.setdefault(int(name.split(".")[2]), []).append(name)
    total = 0.0
    for n, names in sorted(layers.items()):
        # A layer that changes the rate multiplies once for each step of the lower one.
        changes = n > 0 and not any(".block." in name or ".lstm." in name for name in names)
        ratio = next(ratios, 1) if changes else 1
        steps = steps / ratio if encodes else steps
        weights = [name for name in names if "weight" in name.rpartition(".")[2]]
        total += sum(2 * steps * float(np.prod(tensors[name].shape)) for name in weights)
        steps = steps if encodes else steps * ratio
    return total
