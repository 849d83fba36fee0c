"""A random MusicGen by `transformers`, and what it makes of inputs.  Needs torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
)

from segue.demo.toy import CONFIG, write_tokenizer
from segue.pattern import delay

PROMPT_FRAMES, TOTAL_FRAMES = 50, 250


@dataclasses.dataclass(frozen=True)
class Shape:
    """A random configuration: the toy's, with some numbers of its own."""

    name: str
    stereo: bool = False
    dim: int = 64
    heads: int = 4
    layers: int = 2
    text_dim: int = 32
    filters: int = 4
    ratios: tuple[int, ...] = (8, 5, 4, 4)
    seed: int = 0

    @classmethod
    def random(cls, seed: int) -> Shape:
        """A configuration drawn from `seed`."""
        random = np.random.default_rng(seed)
        heads = int(random.choice([2, 4, 8]))
        return cls(
            name=f"random {seed}",
            stereo=bool(random.integers(2)),
            dim=heads * int(random.choice([8, 16, 32])),
            heads=heads,
            layers=int(random.integers(1, 5)),
            text_dim=int(random.choice([32, 48, 64])),
            filters=int(random.choice([2, 4, 6])),
            ratios=tuple(random.permutation([8, 5, 4, 4]).tolist()),
            seed=seed,
        )


def make_model(shape: Shape) -> MusicgenForConditionalGeneration:
    """A model of `shape` with weights large enough that logits differ clearly."""
    torch.manual_seed(shape.seed)
    text = CONFIG["text_encoder"] | {"d_model": shape.text_dim}
    codec = CONFIG["audio_encoder"] | {
        "num_filters": shape.filters,
        "upsampling_ratios": list(shape.ratios),
    }
    decoder = CONFIG["decoder"] | {
        "hidden_size": shape.dim,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_codebooks": 8 if shape.stereo else 4,
        "audio_channels": 2 if shape.stereo else 1,
    }
    special = {"pad_token_id": decoder["vocab_size"], "bos_token_id": decoder["vocab_size"]}
    config = MusicgenConfig(
        text_encoder=T5Config(**text).to_dict(),
        audio_encoder=EncodecConfig(**codec).to_dict(),
        decoder=MusicgenDecoderConfig(**(decoder | special)).to_dict(),
    )
    model = MusicgenForConditionalGeneration(config).eval()
    randomise(model)
    generation = model.generation_config
    generation.decoder_start_token_id = generation.pad_token_id = decoder["vocab_size"]
    generation.bos_token_id = decoder["vocab_size"]
    generation.eos_token_id = None
    return model


@torch.no_grad()  # type: ignore[untyped-decorator]
def randomise(model: torch.nn.Module) -> None:
    """Draw weights that are large enough for logits that differ clearly."""
    for name, values in [*model.named_parameters(), *model.named_buffers()]:
        if "embed_positions" in name or (values.ndim < 2 and not name.endswith("bias")):
            continue
        if name.endswith("codebook.embed"):
            values.normal_()
        elif name.startswith("audio_encoder.") and values.is_floating_point():
            values.mul_(1.5)
        elif "bias" in name and values.ndim == 1:
            values.normal_(0, 0.1)
        elif name.startswith(("decoder", "enc_to_dec", "text_encoder", "audio_enc_to_dec")):
            fan_in = values.shape[-1] if "embed" not in name and "shared" not in name else 1
            values.normal_(0, 1.5 / fan_in**0.5)


def save(model: MusicgenForConditionalGeneration, folder: Path) -> None:
    """Write the model as its library does, with a tokenizer beside it."""
    model.save_pretrained(folder)
    write_tokenizer(folder)


def load(folder: Path) -> MusicgenForConditionalGeneration:
    """Load a model as its library does."""
    model = MusicgenForConditionalGeneration.from_pretrained(folder).eval()
    model.generation_config.eos_token_id = None
    return model


@torch.no_grad()  # type: ignore[untyped-decorator]
def outputs(model: MusicgenForConditionalGeneration, ids: list[int], seed: int = 0) -> dict:
    """What the model makes of random inputs, and the inputs, as numpy arrays."""
    random = np.random.default_rng(seed)
    decoder = model.config.decoder
    K, V = decoder.num_codebooks, decoder.vocab_size
    codes = random.integers(0, V, (K, 40))
    delays = [k // decoder.audio_channels for k in range(K)]
    sequence = delay(codes, delays, V)
    samples = 0.3 * random.standard_normal((decoder.audio_channels, 32_000)).astype(np.float32)
    prompt = random.integers(0, V, (K, PROMPT_FRAMES))
    ids_tensor = torch.tensor([ids])
    encoded = model.text_encoder(input_ids=ids_tensor).last_hidden_state
    channels = torch.tensor(samples)[:, None]
    audio_codes = torch.cat([model.audio_encoder.encode(c[None]).audio_codes[0] for c in channels])
    per_channel = codes.reshape(-1, decoder.audio_channels, 40).transpose(1, 0, 2)
    decoded = [
        model.audio_encoder.decode(torch.tensor(c)[None, None], [None]).audio_values[0, 0]
        for c in per_channel
    ]
    found = {
        "ids": np.array(ids),
        "text_hidden": encoded[0].numpy(),
        "sequence": sequence,
        "logits_text": _logits(model, sequence, encoded, torch.ones(1, len(ids))),
        "logits_no_text": _logits(
            model, sequence, torch.zeros(1, 1, encoded.shape[-1]), torch.zeros(1, 1)
        ),
        "samples": samples.T,
        "audio_codes": audio_codes.transpose(0, 1).reshape(K, -1).numpy(),
        "codes": codes,
        "decoded": torch.stack(decoded, dim=-1).numpy(),
        "prompt": prompt,
        "greedy_text": _greedy(
            model,
            prompt,
            guidance_scale=3.0,
            input_ids=ids_tensor,
            attention_mask=torch.ones_like(ids_tensor),
        ),
    }
    nothing = model.get_unconditional_inputs(1)
    found["greedy_no_text"] = _greedy(model, prompt, **nothing)
    return found


def _logits(
    model: MusicgenForConditionalGeneration,
    sequence: np.ndarray,
    encoded: torch.Tensor,
    mask: torch.Tensor,
) -> np.ndarray:
    logits = model(
        encoder_outputs=(encoded,),
        attention_mask=mask,
        decoder_input_ids=torch.tensor(sequence),
    ).logits
    return logits.transpose(0, 1).numpy()  # (S, K, V)


def _greedy(model: MusicgenForConditionalGeneration, prompt: np.ndarray, **inputs) -> np.ndarray:
    """Codes `(K, TOTAL_FRAMES)` that `generate` continues `prompt` with."""
    lateness = 3  # of the last codebook
    seen = with_codes(
        model,
        lambda: model.generate(
            **inputs,
            decoder_input_ids=torch.tensor(prompt),
            do_sample=False,
            max_length=TOTAL_FRAMES + lateness + 1,
        ),
    )
    if len(seen) == 1:
        return seen[0]
    return np.stack(seen, axis=1).reshape(len(prompt), -1)  # left and right, interleaved again


def with_codes(model: torch.nn.Module, generate: Callable[[], object]) -> list[np.ndarray]:
    """The codes `(K, F)` that the codec is given while `generate` runs, call by call."""
    seen = []
    decode = model.audio_encoder.decode

    def listen(audio_codes: torch.Tensor, audio_scales: list | None = None, **options):
        seen.append(audio_codes[0, 0].numpy())
        return decode(audio_codes, audio_scales, **options)

    model.audio_encoder.decode = listen
    try:
        generate()
    finally:
        model.audio_encoder.decode = decode
    return seen


def save_audiocraft(folder: Path, target: Path) -> None:
    """Write the checkpoint in `folder` anew in AudioCraft's layout, its codec beside it."""
    from safetensors.torch import load_file

    state = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    lm, codec = config["decoder"], config["audio_encoder"]
    prefix = "decoder.model.decoder."
    best: dict[str, torch.Tensor] = {}
    for k in range(lm["num_codebooks"]):
        best[f"emb.{k}.weight"] = state[f"{prefix}embed_tokens.{k}.weight"]
        best[f"linears.{k}.weight"] = state[f"decoder.lm_heads.{k}.weight"]
    for part in ("weight", "bias"):
        best[f"out_norm.{part}"] = state[f"{prefix}layer_norm.{part}"]
        best[f"condition_provider.conditioners.description.output_proj.{part}"] = state[
            f"enc_to_dec_proj.{part}"
        ]
    for n in range(lm["num_hidden_layers"]):
        theirs, ours = f"{prefix}layers.{n}.", f"transformer.layers.{n}."
        for a, b in (("self_attn", "self_attn"), ("encoder_attn", "cross_attention")):
            best[f"{ours}{b}.in_proj_weight"] = torch.cat(
                [state[f"{theirs}{a}.{x}_proj.weight"] for x in "qkv"]
            )
            best[f"{ours}{b}.out_proj.weight"] = state[f"{theirs}{a}.out_proj.weight"]
        for part in ("weight", "bias"):
            best[f"{ours}norm1.{part}"] = state[f"{theirs}self_attn_layer_norm.{part}"]
            best[f"{ours}norm_cross.{part}"] = state[f"{theirs}encoder_attn_layer_norm.{part}"]
            best[f"{ours}norm2.{part}"] = state[f"{theirs}final_layer_norm.{part}"]
        best[f"{ours}linear1.weight"] = state[f"{theirs}fc1.weight"]
        best[f"{ours}linear2.weight"] = state[f"{theirs}fc2.weight"]
    xp = (
        f"transformer_lm: {{dim: {lm['hidden_size']}, num_heads: {lm['num_attention_heads']}, "
        f"num_layers: {lm['num_hidden_layers']}, n_q: {lm['num_codebooks']}, "
        f"card: {lm['vocab_size']}, hidden_scale: {lm['ffn_dim'] / lm['hidden_size']}}}\n"
        f"interleave_stereo_codebooks: {{use: {str(lm['audio_channels'] == 2).lower()}}}\n"
    )
    codec_state: dict[str, torch.Tensor] = {}
    for name, values in state.items():
        if name.startswith("audio_encoder."):
            codec_state[_audiocraft_codec_name(name.removeprefix("audio_encoder."))] = values
    codec_xp = (
        f"sample_rate: {codec['sampling_rate']}\n"
        f"seanet: {{dimension: {codec['hidden_size']}, n_filters: {codec['num_filters']}, "
        f"ratios: {codec['upsampling_ratios']}, norm: weight_norm, pad_mode: reflect, lstm: 2}}\n"
        f"rvq: {{n_q: 4, bins: {codec['codebook_size']}}}\n"
    )
    target.mkdir(parents=True, exist_ok=True)
    torch.save({"best_state": best, "xp.cfg": xp}, target / "state_dict.bin")
    torch.save(
        {"best_state": codec_state, "xp.cfg": codec_xp}, target / "compression_state_dict.bin"
    )


def _audiocraft_codec_name(name: str) -> str:
    if name.startswith("quantizer"):
        return name.replace("quantizer.layers.", "quantizer.vq.layers.").replace(
            ".codebook.", "._codebook."
        )
    name = name.replace(".layers.", ".model.")
    transposed = name.startswith("decoder.model.") and name.split(".")[2] in {"3", "6", "9", "12"}
    name = name.replace(".conv.", ".convtr.convtr." if transposed else ".conv.conv.")
    return name.replace(".parametrizations.weight.original0", ".weight_g").replace(
        ".parametrizations.weight.original1", ".weight_v"
    )
