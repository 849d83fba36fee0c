"""A `config.json` for a checkpoint that segue writes."""

from __future__ import annotations

import math
from typing import Any

from .codec import CodecConfig
from .language_model import MelodyConfig
from .model import ModelConfig
from .quantization import QuantizationConfig
from .schema import FRAMES_PER_WINDOW
from .text_encoder import T5Config


def to_hf(
    config: ModelConfig, text: T5Config, quantization: QuantizationConfig | None
) -> dict[str, Any]:
    """Make the content of a `config.json` from which `ModelConfig.from_hf` reads `config` again.

    Args:
        config: the model.
        text: its text encoder, which may come from a companion repository.
        quantization: what of it is quantized, and how; None for plain weights.
    """
    lm, codec = config.lm, config.codec
    family = "musicgen" if lm.melody is None else "musicgen_melody"
    written: dict[str, Any] = {
        "model_type": family,
        "text_encoder": {
            "model_type": "t5",
            "vocab_size": text.vocab_size,
            "n_positions": text.max_tokens,
            "d_model": text.dim,
            "d_kv": text.head_dim,
            "d_ff": text.ffn_dim,
            "num_layers": text.num_layers,
            "num_heads": text.num_heads,
            "relative_attention_num_buckets": text.num_buckets,
            "relative_attention_max_distance": text.max_distance,
            "layer_norm_epsilon": text.norm_eps,
            "feed_forward_proj": "gated-gelu" if text.gated else "relu",
        },
        "audio_encoder": {
            "model_type": "encodec",
            "sampling_rate": codec.sample_rate,
            "audio_channels": codec.audio_channels,
            "num_filters": codec.num_filters,
            "upsampling_ratios": list(codec.ratios),
            "num_residual_layers": codec.num_residual_layers,
            "dilation_growth_rate": codec.dilation_growth,
            "compress": codec.compress,
            "kernel_size": codec.kernel_size,
            "last_kernel_size": codec.last_kernel_size,
            "residual_kernel_size": codec.residual_kernel_size,
            "num_lstm_layers": codec.num_lstm_layers,
            "hidden_size": codec.hidden_size,
            "codebook_size": codec.codebook_size,
            "codebook_dim": codec.codebook_dim,
            "target_bandwidths": [_bandwidth(codec)],
            "use_causal_conv": codec.causal,
            "use_conv_shortcut": codec.conv_shortcut,
            "pad_mode": codec.pad_mode,
            "trim_right_ratio": codec.trim_right_ratio,
            "norm_type": "weight_norm",
        },
        "decoder": {
            "model_type": f"{family}_decoder",
            "hidden_size": lm.dim,
            "num_hidden_layers": lm.num_layers,
            "num_attention_heads": lm.num_heads,
            "ffn_dim": lm.ffn_dim,
            "num_codebooks": lm.num_codebooks,
            "vocab_size": lm.cardinality,
            "audio_channels": lm.audio_channels,
            "activation_function": "gelu",
            "delays": list(lm.delays),
            "bos_token_id": lm.special_token,
            "pad_token_id": lm.special_token,
        },
    }
    if lm.window_frames != FRAMES_PER_WINDOW:
        written["decoder"]["window_frames"] = lm.window_frames
    if lm.melody is not None:
        written |= _melody(lm.melody)
    if quantization is not None:
        written["quantization"] = quantization.to_json()
    return written


def _melody(melody: MelodyConfig) -> dict[str, Any]:
    """Its fields; those that transformers does not know where they are not its extractor's."""
    written: dict[str, Any] = {"num_chroma": melody.bins, "chroma_length": melody.frames}
    own = {
        "chroma_spectrum": melody.spectrum,
        "chroma_window": melody.window,
        "chroma_hop": melody.hop,
        "chroma_strongest": melody.strongest,
        "chroma_norm": None if math.isinf(melody.norm) else melody.norm,  # JSON has no infinity
        "chroma_samples": melody.samples,
    }
    usual = MelodyConfig()
    defaults = (usual.spectrum, usual.window, usual.hop, usual.strongest, None, None)
    for (name, value), default in zip(own.items(), defaults, strict=True):
        if value != default:
            written[name] = value
    return written


def _bandwidth(codec: CodecConfig) -> float:
    """The bandwidth in kbit/s from which `CodecConfig.from_hf` computes the same codebooks."""
    bits = codec.frame_rate * math.ceil(math.log2(codec.codebook_size))
    found = codec.num_codebooks * bits / 1000
    # Where the division was rounded down, it would be one codebook less.
    return found if 1000 * found // bits == codec.num_codebooks else math.nextafter(found, math.inf)
