"""Writes the checkpoint in the Hugging Face MusicGen layout: `python -m training.export`.

Files: config.json, generation_config.json, tokenizer.json, tokenizer_config.json,
preprocessor_config.json, float16 safetensors in shards under 16 MB, and their index.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from training import state, text
from training.codec_model import CodecShape
from training.lm_model import LMShape

SHARD_BYTES = 15_000_000
SPECIAL = 2048


def codec_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """EnCodec's names; each convolution's weight as weight norm has it: norm and direction."""
    found = {}
    for name, value in tensors.items():
        prefix = f"audio_encoder.{name}"
        if name.endswith(".conv.weight"):
            norm = value.flatten(1).norm(dim=1).view(-1, 1, 1)
            prefix = prefix.removesuffix("weight") + "parametrizations.weight"
            found[f"{prefix}.original0"] = norm
            # Unit length, so that a channel that died does not vanish in float16 (0 / 0).
            found[f"{prefix}.original1"] = value / norm.clamp_min(1e-12)
        elif name.startswith("quantizer.codebooks."):
            number, part = name.split(".")[2:]
            codebook = f"audio_encoder.quantizer.layers.{number}.codebook"
            if part == "embed":
                found[f"{codebook}.embed"] = value
                found[f"{codebook}.inited"] = torch.ones(1)
                found[f"{codebook}.cluster_size"] = torch.ones(len(value))
                # `embed_avg`, 2 MB that only training reads, is left out.
        else:
            found[prefix] = value
    return found


def lm_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """MusicGen's and T5's names for the language model's tensors."""
    found = {}
    for name, value in tensors.items():
        if name == "text.embed_tokens.weight":
            found["text_encoder.shared.weight"] = value
        elif name.startswith("text."):
            found["text_encoder.encoder." + name.removeprefix("text.")] = value
        elif name.startswith("decoder."):
            found["decoder.model." + name] = value
        elif name.startswith("lm_heads."):
            found["decoder." + name] = value
        else:
            found[name] = value
    return found


def config(codec: CodecShape, lm: LMShape) -> dict:
    """The config.json: text encoder, audio encoder and decoder, every size spelled out."""
    return {
        "architectures": ["MusicgenForConditionalGeneration"],
        "model_type": "musicgen",
        "is_encoder_decoder": True,
        # Stored in float16 for its size; what loads it computes in float32 unless told otherwise.
        "dtype": "float32",
        "torch_dtype": "float32",
        "text_encoder": {
            "model_type": "t5",
            "architectures": ["T5EncoderModel"],
            "vocab_size": lm.vocabulary,
            "d_model": lm.text_dim,
            "d_kv": lm.text_dim // lm.text_heads,
            "d_ff": lm.text_hidden,
            "num_layers": lm.text_layers,
            "num_decoder_layers": lm.text_layers,
            "num_heads": lm.text_heads,
            "relative_attention_num_buckets": 32,
            "relative_attention_max_distance": 128,
            "dropout_rate": 0.0,
            "layer_norm_epsilon": 1e-6,
            "feed_forward_proj": "relu",
            "is_encoder_decoder": False,
            "use_cache": False,
            "pad_token_id": text.PAD,
            "eos_token_id": text.EOS,
        },
        "audio_encoder": {
            "model_type": "encodec",
            "architectures": ["EncodecModel"],
            "sampling_rate": codec.rate,
            "audio_channels": 1,
            "num_filters": codec.filters,
            "upsampling_ratios": list(codec.strides),
            "hidden_size": codec.dim,
            "codebook_dim": codec.dim,
            "codebook_size": codec.entries,
            "target_bandwidths": [2.2],
            "kernel_size": 7,
            "last_kernel_size": 7,
            "residual_kernel_size": 3,
            "dilation_growth_rate": 2,
            "num_residual_layers": 1,
            "num_lstm_layers": 2,
            "compress": 2,
            "norm_type": "weight_norm",
            "normalize": False,
            "pad_mode": "reflect",
            "use_causal_conv": False,
            "use_conv_shortcut": False,
            "trim_right_ratio": 1.0,
            "chunk_length_s": None,
            "overlap": None,
        },
        "decoder": {
            "model_type": "musicgen_decoder",
            "architectures": ["MusicgenForCausalLM"],
            "vocab_size": lm.entries,
            "hidden_size": lm.dim,
            "num_hidden_layers": lm.layers,
            "num_attention_heads": lm.heads,
            "ffn_dim": 4 * lm.dim,
            "num_codebooks": lm.codebooks,
            "audio_channels": 1,
            "activation_function": "gelu",
            "max_position_embeddings": 2048,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
            "layerdrop": 0.0,
            "scale_embedding": False,
            "bos_token_id": SPECIAL,
            "pad_token_id": SPECIAL,
            "eos_token_id": None,
            "tie_word_embeddings": False,
        },
    }


def generation_config() -> dict:
    """The sampling that the model was judged with."""
    return {
        "bos_token_id": SPECIAL,
        "decoder_start_token_id": SPECIAL,
        "pad_token_id": SPECIAL,
        "do_sample": True,
        "guidance_scale": 3.0,
        "top_k": 250,
        "temperature": 1.0,
        "max_length": 1500,
    }


def write_shards(tensors: dict[str, Tensor], out: Path) -> None:
    """Float16 shards and the index that says which tensor lies where."""
    halves = {name: value.half().contiguous().clone() for name, value in tensors.items()}
    for name, value in halves.items():
        assert value.isfinite().all(), f"{name} does not fit float16"
    parts = state.split(halves, SHARD_BYTES)
    places = {}
    for number, part in enumerate(parts, 1):
        name = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        save_file(part, out / name, metadata={"format": "pt"})
        places |= dict.fromkeys(part, name)
    total = sum(value.nbytes for value in halves.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    write_json(out / "model.safetensors.index.json", index)


def write_json(path: Path, value: dict) -> None:
    """Indented JSON with a newline at its end."""
    path.write_text(json.dumps(value, indent=2) + "\n")


def main() -> None:
    """Reads the states of codec and language model; writes the checkpoint's files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    codec, codec_facts = state.load(args.state, "codec")
    lm, lm_facts = state.load(args.state, "lm")
    codec_shape = CodecShape(filters=codec_facts["filters"])
    lm_shape = LMShape(len(text.vocabulary()), layers=lm_facts["layers"])
    for old in args.out.glob("model-*.safetensors"):
        old.unlink()
    write_shards({**codec_tensors(codec), **lm_tensors(lm)}, args.out)
    write_json(args.out / "config.json", config(codec_shape, lm_shape))
    write_json(args.out / "generation_config.json", generation_config())
    (args.out / "tokenizer.json").write_text(text.tokenizer_json() + "\n")
    write_json(
        args.out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "<pad>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "model_max_length": 512,
            "clean_up_tokenization_spaces": False,
        },
    )
    write_json(
        args.out / "preprocessor_config.json",
        {
            "feature_extractor_type": "EncodecFeatureExtractor",
            "feature_size": 1,
            "sampling_rate": codec_shape.rate,
            "padding_side": "left",
            "padding_value": 0.0,
            "return_attention_mask": True,
            "chunk_length_s": None,
            "overlap": None,
        },
    )
    for path in sorted(args.out.iterdir()):
        print(f"{path.stat().st_size:>12,} {path.name}")


if __name__ == "__main__":
    main()
