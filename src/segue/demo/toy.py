"""Write a toy checkpoint: random weights in the Hugging Face layout, in less than a second.

It generates noise, but has every part of a real one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ..checkpoints.config import ModelConfig
from ..checkpoints.layouts import CODEC, TEXT, codec_shapes, lm_shapes, t5_shapes

WORDS = ("<pad>", "</s>", "<unk>", "drums", "piano", "bass", "strings", "fast", "slow", "minor")

QUIET = 0.02
"""Scales the output of random weights to about a tenth of full scale."""

CONFIG: dict[str, Any] = {
    "model_type": "musicgen",
    "text_encoder": {
        "model_type": "t5",
        "vocab_size": len(WORDS),
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 16,
        "feed_forward_proj": "relu",
    },
    "audio_encoder": {
        "model_type": "encodec",
        "sampling_rate": 32_000,
        "audio_channels": 1,
        "num_filters": 4,
        "upsampling_ratios": [8, 5, 4, 4],
        "hidden_size": 16,
        "codebook_size": 64,
        "codebook_dim": 16,
        "target_bandwidths": [1.2],
        "use_causal_conv": False,
        "use_conv_shortcut": False,
        "norm_type": "weight_norm",
        "pad_mode": "reflect",
    },
    "decoder": {
        "model_type": "musicgen_decoder",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 128,
        "num_codebooks": 4,
        "vocab_size": 64,
        "audio_channels": 1,
        "activation_function": "gelu",
    },
}


MELODY_CONFIG: dict[str, Any] = CONFIG | {
    "model_type": "musicgen_melody",
    "decoder": CONFIG["decoder"] | {"model_type": "musicgen_melody_decoder"},
    "chroma_length": 24,
}
"""Of a melody model, which follows 3 s."""


def write_checkpoint(
    folder: Path, seed: int = 0, stereo: bool = False, config: Mapping[str, Any] = CONFIG
) -> Path:
    """Write a checkpoint of random weights.

    Args:
        folder: where to; it is created.
        seed: of the weights.
        stereo: whether it has two channels, as eight interleaved codebooks.
        config: the content of its `config.json`.

    Returns:
        The folder.
    """
    if stereo:
        channels = {"num_codebooks": 8, "audio_channels": 2}
        config = {**config, "decoder": config["decoder"] | channels}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    save_file(_random_weights(ModelConfig.from_hf(config), seed), folder / "model.safetensors")
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Write a `tokenizer.json` that knows `WORDS`."""
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def _random_weights(config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    shapes = dict(lm_shapes(config.lm, config.text_dim))
    shapes |= {CODEC + name: shape for name, shape in codec_shapes(config.codec).items()}
    if config.text is not None:
        shapes |= {TEXT + name: shape for name, shape in t5_shapes(config.text).items()}
    random = np.random.default_rng(seed)
    weights = {name: _random(name, shape, random) for name, shape in sorted(shapes.items())}
    # Noise at full scale hurts.
    last = max(int(n.split(".")[3]) for n in weights if n.startswith(f"{CODEC}decoder.layers."))
    for part in ("weight", "bias"):
        weights[f"{CODEC}decoder.layers.{last}.conv.{part}"] *= QUIET
    return weights


def _random(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if "norm" in name and name.endswith("weight"):
        return np.ones(shape, np.float32)
    fan_in = np.prod(shape[1:]) if len(shape) > 1 else 100
    scale = 1.0 if "embed" in name else 1.5 / np.sqrt(fan_in)
    return (scale * random.standard_normal(shape)).astype(np.float32)
