"""Names of the language model's tensors in AudioCraft's layout and in segue's own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...errors import CheckpointError
from ..config import MELODY, LMConfig
from ..tensors import Tensor, Tensors
from .names import LM, MELODY_PROJECTION, PROJECTION, TEXT

# --- AudioCraft's language model ---------------------------------------------------------------

_AUDIOCRAFT_NAMES = [
    (r"^emb\.(\d+)\.weight$", rf"{LM}embed_tokens.\1.weight"),
    (r"^linears\.(\d+)\.weight$", r"decoder.lm_heads.\1.weight"),
    (r"^out_norm\.", rf"{LM}layer_norm."),
    (r"^transformer\.layers\.(\d+)\.self_attn\.", rf"{LM}layers.\1.self_attn."),
    (r"^transformer\.layers\.(\d+)\.cross_attention\.", rf"{LM}layers.\1.encoder_attn."),
    (r"^transformer\.layers\.(\d+)\.linear([12])\.", rf"{LM}layers.\1.fc\2."),
    (r"^transformer\.layers\.(\d+)\.norm1\.", rf"{LM}layers.\1.self_attn_layer_norm."),
    (r"^transformer\.layers\.(\d+)\.norm_cross\.", rf"{LM}layers.\1.encoder_attn_layer_norm."),
    (r"^transformer\.layers\.(\d+)\.norm2\.", rf"{LM}layers.\1.final_layer_norm."),
]
_CONDITIONER = re.compile(r"condition_provider\.conditioners\.(\w+)\.(?:(output_proj|t5)\.)?")
_SPECTRUM_WINDOW = f"condition_provider.conditioners.{MELODY}.chroma.spec.window"
"""A buffer of torchaudio's, the Hann window that `engine.chroma` computes."""


_PREFIXES = {"output_proj": PROJECTION, "t5": TEXT}


def from_audiocraft(
    state: Tensors, conditioner: str = "description", melody: bool = False
) -> Tensors:
    """Rename the language model of AudioCraft's `state_dict.bin` to segue's names.

    Q, K and V are stacked in `in_proj_weight` there, and split here.

    Args:
        state: its tensors, and those of the text encoder where it was trained along, which are
            named as in the Hugging Face layout.
        conditioner: the name of its text conditioner.
        melody: whether its configuration has a melody's beside it.

    Raises:
        CheckpointError: it has other conditioners.
    """
    named = Tensors()
    for name, tensor in state.items():
        if (match := _CONDITIONER.match(name)) is not None:
            if melody and name == _SPECTRUM_WINDOW:
                continue
            prefix = _PREFIXES.get(match[2])
            if melody and match[1] == MELODY and match[2] == "output_proj":
                prefix = MELODY_PROJECTION
            elif match[1] != conditioner or prefix is None:
                raise CheckpointError(
                    f"{tensor.source}: the tensor {name!r} belongs to the conditioner "
                    f"{match[1]!r}, which its configuration lacks or segue does not run"
                )
            named[f"{prefix}{name[match.end() :]}"] = tensor
            continue
        name = name.replace(".mha.", ".")  # torch's own attention, with the same weights
        ours = name
        for pattern, replacement in _AUDIOCRAFT_NAMES:
            ours, hits = re.subn(pattern, replacement, name)
            if hits:
                break
        # What does not divide is left for `check` to refuse.
        if ours.endswith(".in_proj_weight") and tensor.shape and tensor.shape[0] % 3 == 0:
            base = ours.removesuffix("in_proj_weight")
            rows = tensor.shape[0] // 3
            for i, letter in enumerate("qkv"):
                named[f"{base}{letter}_proj.weight"] = tensor.rows(i * rows, (i + 1) * rows)
        else:
            named[ours] = tensor
    return named


def identity_projection(dim: int, source: Path) -> Tensors:
    """Make the identity as the projection of the text encoder's output.

    Args:
        dim: width of both.
        source: the file or folder to name in errors.
    """
    return Tensors(
        {
            f"{PROJECTION}weight": Tensor(
                (dim, dim), lambda: np.eye(dim, dtype=np.float32), source
            ),
            f"{PROJECTION}bias": Tensor((dim,), lambda: np.zeros(dim, np.float32), source),
        }
    )


# --- segue's own -------------------------------------------------------------------------------


def stacks(lm: LMConfig) -> dict[str, list[str]]:
    """List the modules that segue's own layout stores as one, by the name of that one.

    Their rows are stored one below the other, since engines run them as one product or table.
    """
    found = {
        f"{LM}embed_tokens": [f"{LM}embed_tokens.{k}" for k in range(lm.num_codebooks)],
        "decoder.lm_heads": [f"decoder.lm_heads.{k}" for k in range(lm.num_codebooks)],
    }
    for n in range(lm.num_layers):
        attention = f"{LM}layers.{n}.self_attn."
        found[f"{attention}qkv_proj"] = [f"{attention}{x}_proj" for x in "qkv"]
    return found


def from_stacks(state: Tensors, lm: LMConfig) -> Tensors:
    """Split the tensors of `stacks` in `state` into those of their modules."""
    apart = Tensors(state)
    for stack, modules in stacks(lm).items():
        for kind in ("weight", "scales", "biases"):
            tensor = state.get(f"{stack}.{kind}")
            # What does not divide is left for `check` to refuse.
            if tensor is not None and tensor.shape and tensor.shape[0] % len(modules) == 0:
                del apart[f"{stack}.{kind}"]
                rows = tensor.shape[0] // len(modules)
                for n, module in enumerate(modules):
                    apart[f"{module}.{kind}"] = tensor.rows(n * rows, (n + 1) * rows)
    return apart
