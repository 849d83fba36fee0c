"""Names and arrangement of EnCodec's tensors: Hugging Face's, AudioCraft's and MLX's layout."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import partial

import numpy as np

from ...errors import CheckpointError
from ..tensors import Tensor, Tensors

_CODEC_NAMES = [
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),  # AudioCraft's
    (r"\.convtr\.convtr\.|\.conv\.conv\.|\.convtr\.", ".conv."),
    (r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook."),
]
_WEIGHT_NORM = [
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
]


def from_codec(state: Tensors) -> Tensors:
    """Rename EnCodec's tensors to segue's names, from Hugging Face's, AudioCraft's or MLX's layout.

    MLX files (as `mlx-community/encodec-32khz-float32`) have channels last, one bias per LSTM and
    no weight norm.
    """
    renamed = Tensors()
    for name, tensor in state.items():
        for pattern, replacement in _CODEC_NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    if any(name.endswith(".Wx") for name in renamed):
        return Tensors(_from_mlx_codec(renamed))
    return Tensors(_fold_weight_norm(renamed))


def _fold_weight_norm(state: Tensors) -> Iterator[tuple[str, Tensor]]:
    """`g * v / |v|`, the norm over all axes but the first (`torch.nn.utils.weight_norm`)."""
    folded: set[str] = set()
    for name, tensor in state.items():
        for g_suffix, v_suffix in _WEIGHT_NORM:
            if (
                name.endswith(v_suffix)
                and (base := name.removesuffix(v_suffix)) + g_suffix in state
            ):
                g = state[base + g_suffix]
                if not tensor.shape or math.prod(g.shape) != tensor.shape[0]:
                    raise CheckpointError(
                        f"{tensor.source}: the tensor {base + g_suffix!r} has the shape {g.shape}, "
                        f"which is no norm for each of {tensor.shape[:1]} rows"
                    )
                folded |= {name, base + g_suffix}
                yield base + ".weight", tensor.map(tensor.shape, partial(_normed, g=g))
    yield from ((name, tensor) for name, tensor in state.items() if name not in folded)


def _normed(v: np.ndarray, g: Tensor) -> np.ndarray:
    v = v.astype(np.float32)
    norm = np.sqrt(np.square(v).sum(axis=tuple(range(1, v.ndim)), keepdims=True))
    norm = np.maximum(norm, np.finfo(np.float32).tiny)  # a row of zeros stays one
    scaled: np.ndarray = g.read().astype(np.float32).reshape(norm.shape) * v / norm
    return scaled


def _from_mlx_codec(state: Tensors) -> Iterator[tuple[str, Tensor]]:
    # Transposed convolutions cannot be told from plain ones by shape: they are the decoder's
    # layers outside residual blocks, except its first and last.
    alone = [
        int(m[1]) for n in state if (m := re.match(r"decoder\.layers\.(\d+)\.conv\.weight", n))
    ]
    transposed = {f"decoder.layers.{n}.conv.weight" for n in sorted(alone)[1:-1]}
    for name, tensor in state.items():
        if name.endswith("conv.weight") and len(tensor.shape) == 3:
            out, kernel, into = tensor.shape
            if name in transposed:
                yield name, tensor.map((into, out, kernel), lambda w: w.transpose(2, 0, 1))
            else:
                yield name, tensor.map((out, into, kernel), lambda w: w.transpose(0, 2, 1))
        elif match := re.fullmatch(r"(.*\.lstm)\.(\d+)\.(Wx|Wh|bias)", name):
            base, layer, part = match.groups()
            if part == "bias":
                yield f"{base}.bias_ih_l{layer}", tensor
                yield f"{base}.bias_hh_l{layer}", tensor.map(tensor.shape, np.zeros_like)
            else:
                yield f"{base}.weight_{'ih' if part == 'Wx' else 'hh'}_l{layer}", tensor
        else:
            yield name, tensor
