"""Puts the states back that a checkpoint was exported from: `python -m training.restore`.

States are scratch and do not last; the checkpoint holds all that training needs to go on, rounded
to float16, but for the discriminators and the codebooks' averages (which only the phase `codes` of
the codec reads).
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from training import state

CODEC, TEXT, DECODER = "audio_encoder.", "text_encoder.", "decoder."


def codec_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The codec's tensors by `training.codec_model`'s names, from the checkpoint's names."""
    found = {}
    for name, value in tensors.items():
        if not name.startswith(CODEC):
            continue
        short = name.removeprefix(CODEC)
        if short.endswith(".parametrizations.weight.original1"):
            norm = tensors[name.removesuffix("1") + "0"]
            direction = value / value.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1)
            found[short.replace(".parametrizations.weight.original1", ".weight")] = direction * norm
        elif short.startswith("quantizer.layers."):
            if short.endswith(".embed"):
                book = f"quantizer.codebooks.{short.split('.')[2]}"
                found[f"{book}.embed"] = value
                found[f"{book}.total"] = value.clone()
                found[f"{book}.usage"] = torch.ones(len(value))
        elif ".parametrizations." not in short:
            found[short] = value
    return found


def lm_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The language model's tensors by `training.lm_model`'s names."""
    found = {}
    for name, value in tensors.items():
        if name.startswith(f"{DECODER}model."):
            found[name.removeprefix(f"{DECODER}model.")] = value
        elif name.startswith(DECODER):
            found[name.removeprefix(DECODER)] = value
        elif name == f"{TEXT}shared.weight":
            found["text.embed_tokens.weight"] = value
        elif name.startswith(f"{TEXT}encoder."):
            found["text." + name.removeprefix(f"{TEXT}encoder.")] = value
        elif name.startswith("enc_to_dec_proj."):
            found[name] = value
    return found


def main() -> None:
    """Writes `codec` and `lm` into the state folder, which must not have them yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    args = parser.parse_args()
    if any((args.state / f"{name}.json").exists() for name in ("codec", "lm")):
        parser.error(f"{args.state} holds states already; name another folder")
    config = json.loads((args.checkpoint / "config.json").read_text())
    tensors: dict[str, Tensor] = {}
    for path in sorted(args.checkpoint.glob("*.safetensors")):
        tensors |= {name: value.float() for name, value in load_file(path).items()}
    facts = {"filters": config["audio_encoder"]["num_filters"], "codebooks": True}
    state.save(args.state, "codec", codec_state(tensors), facts, torch.float32)
    facts = {"layers": config["decoder"]["num_hidden_layers"]}
    state.save(args.state, "lm", lm_state(tensors), facts, torch.float16)


if __name__ == "__main__":
    main()
