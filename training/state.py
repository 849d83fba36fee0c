"""States of the stages: safetensors in parts of at most 15 MB, written beside and then renamed."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

PART_BYTES = 15_000_000


def split(tensors: dict[str, Tensor], limit: int = PART_BYTES) -> list[dict[str, Tensor]]:
    """Groups tensors, in order, into parts whose sizes stay under `limit` bytes."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        size += tensor.nbytes
        if size > limit and parts[-1]:
            parts.append({})
            size = tensor.nbytes
        parts[-1][name] = tensor
    return parts


def save(
    folder: Path, name: str, tensors: dict[str, Tensor], facts: dict, dtype: torch.dtype
) -> None:
    """Writes `NAME.K.safetensors` and `NAME.json` (the facts: steps, settings) into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    copies = {
        key: (value.detach().to(dtype) if value.is_floating_point() else value.detach())
        .cpu()
        .contiguous()
        for key, value in tensors.items()
    }
    parts = split(copies)
    for number, part in enumerate(parts):
        beside = folder / f"{name}.{number}.part"
        save_file(part, beside)
        beside.rename(folder / f"{name}.{number}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps({**facts, "parts": len(parts)}, indent=1))


def load(folder: Path, name: str) -> tuple[dict[str, Tensor], dict]:
    """What `save` wrote: tensors (float ones as float32) and facts; empty if there is nothing."""
    index = folder / f"{name}.json"
    if not index.exists():
        return {}, {}
    facts = json.loads(index.read_text())
    tensors: dict[str, Tensor] = {}
    for number in range(facts["parts"]):
        tensors |= load_file(folder / f"{name}.{number}.safetensors")
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, facts
