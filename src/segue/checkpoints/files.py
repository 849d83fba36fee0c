"""The files of a checkpoint, and which of a repository's are needed.

MusicGen's own repositories hold the same weights in two or three layouts; one is enough.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

CONFIG = "config.json"
SAFETENSORS = "model.safetensors"
TORCH = "pytorch_model.bin"
AUDIOCRAFT_LM = "state_dict.bin"
AUDIOCRAFT_TRAINING = "checkpoint.th"
AUDIOCRAFT_CODEC = "compression_state_dict.bin"
PREPROCESSOR = "preprocessor_config.json"
TOKENIZER = "tokenizer.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_SAFETENSORS = "adapter_model.safetensors"
ADAPTER_TORCH = "adapter_model.bin"
BESIDE_WEIGHTS = (
    CONFIG,
    "generation_config.json",
    PREPROCESSOR,
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "spiece.model",
)

Read = Callable[[str], bytes]


def unreadable(path: Path | str, error: OSError) -> CheckpointError:
    """Return the error for a file or a folder that cannot be read: permissions, not damage."""
    reason = error.strerror or type(error).__name__
    return CheckpointError(f"{path}: cannot be read ({reason}): check path and permissions")


@dataclass(frozen=True)
class FileChoice:
    """Which files of a repository are needed.

    Attributes:
        select: maps the names of all files, and a function that reads a small one of them, to the
            names of those needed, in the order of download; to none if the repository does not
            qualify.
        description: the files of a repository that qualifies, in words.
    """

    select: Callable[[Collection[str], Read], list[str]]
    description: str


def _select_whole_model(names: Collection[str], read: Read) -> list[str]:
    """One layout, though MusicGen's own repositories hold the same weights in two or three."""
    return (
        _select_hugging_face(SAFETENSORS, names, read)
        or _select_audiocraft(names)
        or _select_hugging_face(TORCH, names, read)
    )


def _select_hugging_face(weights: str, names: Collection[str], read: Read) -> list[str]:
    index = f"{weights}.index.json"
    if CONFIG not in names:
        return []
    if weights in names:
        chosen = [weights]
    elif index in names and (shards := _shards(read(index))):
        chosen = [index, *shards]
    else:
        return []
    beside = [name for name in BESIDE_WEIGHTS if name in names]
    if TOKENIZER not in beside and model_type(read(CONFIG)) == "t5":
        beside.append(TOKENIZER)  # AudioCraft caches t5-base, too, but without this file
    return beside + chosen  # the weights last: where they are present, so is the rest


def _select_audiocraft(names: Collection[str]) -> list[str]:
    if AUDIOCRAFT_LM not in names:
        return []
    return [*(name for name in (CONFIG, AUDIOCRAFT_CODEC) if name in names), AUDIOCRAFT_LM]


def _shards(index: bytes) -> list[str]:
    weight_map = _json(index).get("weight_map")
    shards = {str(shard) for shard in weight_map.values()} if isinstance(weight_map, dict) else ()
    return sorted(shards) if all(Path(shard).name == shard for shard in shards) else []


def model_type(config: bytes) -> str:
    """Read the `model_type` of a `config.json`; `"None"` if it has none."""
    return str(_json(config).get("model_type"))


def _json(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


WHOLE_MODEL = FileChoice(
    _select_whole_model, f"{SAFETENSORS} or {TORCH} with a {CONFIG}, or {AUDIOCRAFT_LM}"
)


def _select_adapter(names: Collection[str], read: Read) -> list[str]:
    weights = [name for name in (ADAPTER_SAFETENSORS, ADAPTER_TORCH) if name in names]
    return [ADAPTER_CONFIG, weights[0]] if ADAPTER_CONFIG in names and weights else []


ADAPTER = FileChoice(_select_adapter, f"{ADAPTER_CONFIG} with {ADAPTER_SAFETENSORS}")


def _select_tokenizer(names: Collection[str], read: Read) -> list[str]:
    return [CONFIG, TOKENIZER] if CONFIG in names else []


TOKENIZER_ONLY = FileChoice(_select_tokenizer, f"{CONFIG} with {TOKENIZER}")
"""Of a text encoder whose weights are elsewhere."""

CONFIG_ONLY = FileChoice(lambda names, read: [CONFIG] if CONFIG in names else [], CONFIG)
