"""A random MusicGen with a LoRA adapter by `peft`, and what both make of inputs.  Needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import MusicgenForConditionalGeneration

ATTENTION = ["q_proj", "k_proj", "v_proj", "out_proj"]
PRODUCTS = [*ATTENTION, "fc1", "fc2", "lm_heads.0", "lm_heads.1"]
TEXT_ENCODER = ["q", "v", "wi", "wo"]

CONFIGS: dict[str, dict[str, Any]] = {
    "attention": {"target_modules": ATTENTION},
    "products, rank-stabilised": {
        "target_modules": PRODUCTS,
        "use_rslora": True,
        "alpha_pattern": {"fc1": 5, "decoder.model.decoder.layers.0.self_attn.q_proj": 3},
        "rank_pattern": {"fc2": 3},
    },
    "DoRA": {"target_modules": PRODUCTS, "use_dora": True},
    "embeddings, projection and text encoder": {
        "target_modules": [*PRODUCTS, *TEXT_ENCODER, "embed_tokens.0", "enc_to_dec_proj"],
    },
    "modules trained whole": {
        "target_modules": ATTENTION,
        "modules_to_save": ["enc_to_dec_proj", "lm_heads.0"],
    },
}
"""What adapters of people have, by a name for the table."""


@torch.no_grad()  # type: ignore[untyped-decorator]
def adapted(
    model: MusicgenForConditionalGeneration, name: str, folder: Path, seed: int = 0
) -> MusicgenForConditionalGeneration:
    """Put a random adapter on `model`, write it to `folder`, and return the model with it."""
    torch.manual_seed(seed)
    config = LoraConfig(r=2, lora_alpha=3, lora_dropout=0.1, **CONFIGS[name])
    peft: PeftModel = get_peft_model(model, config)
    for parameter, values in peft.named_parameters():
        if ".lora_magnitude_vector" in parameter:
            values.mul_(1 + 0.1 * torch.randn_like(values))
        elif ".lora_" in parameter or "modules_to_save" in parameter:
            values.add_(0.3 * torch.randn_like(values) / values.shape[-1] ** 0.5)
    peft.save_pretrained(str(folder))
    return peft.eval().base_model.model
