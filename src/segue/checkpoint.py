"""Any layout on disk to a `ModelConfig` and named tensors.

A checkpoint has three parts: the language model, the codec and the text encoder.  The Hugging Face
layout and segue's own bring all three.  The AudioCraft layout of fine-tunes often brings the
language model alone; the rest then comes from the base model, or from the companions that the
fine-tunes were trained with.  The text encoder is looked for only when somebody has text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import hub, layouts, unpickle
from .config import CodecConfig, ModelConfig, T5Config, read_xp_cfg
from .errors import CheckpointError
from .files import (
    AUDIOCRAFT_CODEC,
    AUDIOCRAFT_LM,
    CONFIG,
    CONFIG_ONLY,
    SAFETENSORS,
    TOKENIZER,
    TORCH,
)
from .progress import SILENT, Progress
from .tensors import Tensors, of_arrays, open_safetensors

CODEC_COMPANIONS = ("mlx-community/encodec-32khz-float32", "facebook/encodec_32khz")
TEXT_COMPANION = "t5-base"


@dataclass
class TextPart:
    """A text encoder on disk.

    Attributes:
        config: its shape.
        tensors: its weights, named as `layouts.t5_shapes` says.
        tokenizer: the `tokenizer.json` that goes with it.
    """

    config: T5Config
    tensors: Tensors
    tokenizer: Path


@dataclass
class Checkpoint:
    """An opened checkpoint, of which nothing has been read but headers.

    Attributes:
        name: what it was asked for by.
        folder: where it lies.
        config: its shape.
        lm: tensors of the language model and the projection into it (`layouts.lm_shapes`).
        codec: tensors of the codec (`layouts.codec_shapes`).
    """

    name: str
    folder: Path
    config: ModelConfig
    lm: Tensors
    codec: Tensors
    _text_sources: list[Path] = field(default_factory=list)
    _text_tensors: Tensors | None = None

    def text(self, progress: Progress = SILENT) -> TextPart:
        """Find the text encoder: in the checkpoint, its base model, or the companion `t5-base`.

        Raises:
            CheckpointError: there is none, or its files are incomplete.
        """
        if self._text_tensors is not None and self.config.text is not None:
            part = TextPart(self.config.text, self._text_tensors, self._tokenizer())
        else:
            folder = hub.locate(TEXT_COMPANION, progress=progress)
            config = T5Config.from_hf(_read_json(folder / CONFIG))
            tensors = Tensors(
                {n: t for n, t in _open_weights(folder).items() if _is_text_encoder(n)}
            )
            part = TextPart(config, tensors, _existing(folder / TOKENIZER))
        if part.config.dim != self.config.text_dim:
            raise CheckpointError(
                f"{self.name}: the text encoder has {part.config.dim} dimensions, the checkpoint "
                f"was trained with {self.config.text_dim}; pass --base-model"
            )
        layouts.check(part.tensors, layouts.t5_shapes(part.config), str(part.tokenizer.parent))
        return part

    def _tokenizer(self) -> Path:
        for folder in self._text_sources:
            if (folder / TOKENIZER).exists():
                return folder / "tokenizer.json"
        return _existing(self._text_sources[0] / TOKENIZER)


def open_checkpoint(
    name: str, base_model: str | None = None, progress: Progress = SILENT
) -> Checkpoint:
    """Open the checkpoint `name` (see `hub.locate`) and check every name and shape in it.

    Args:
        name: `"built-in"`, a folder, or a repository of the hub.
        base_model: where a fine-tune without `config.json` takes its shape from, and, if it lies
            here whole, its codec and text encoder.
        progress: shown while files are downloaded.

    Raises:
        CheckpointError: one line that names the file and the tensor.
    """
    folder = hub.locate(name, progress=progress)
    audiocraft = (folder / AUDIOCRAFT_LM).exists()
    if (folder / CONFIG).exists() and (_has_hf_weights(folder) or not audiocraft):
        checkpoint = _open_hf(name, folder)
    elif audiocraft:
        checkpoint = _open_audiocraft(name, folder, base_model, progress)
    else:
        raise CheckpointError(
            f"{folder}: no checkpoint here: segue looks for {CONFIG} with {SAFETENSORS}, "
            f"or for {AUDIOCRAFT_LM}"
        )
    config = checkpoint.config
    shapes = layouts.lm_shapes(config.lm, config.text_dim)
    if config.quantization is not None:
        shapes = layouts.quantized_shapes(shapes, checkpoint.lm, config.quantization)
    layouts.check(checkpoint.lm, shapes, str(folder))
    layouts.check(checkpoint.codec, layouts.codec_shapes(config.codec), str(folder))
    return checkpoint


def _open_hf(name: str, folder: Path) -> Checkpoint:
    config = _read_config(folder)
    tensors = Tensors({n: t for n, t in _open_weights(folder).items() if not _ignored(n)})
    text = tensors.under(layouts.TEXT)
    # The embedding is tied, and different versions of the library kept different names of it.
    if (copy := text.pop("encoder.embed_tokens.weight", None)) is not None:
        text.setdefault("shared.weight", copy)
    codec = layouts.from_codec(tensors.under(layouts.CODEC))
    prefixes = (layouts.TEXT, layouts.CODEC)
    lm = Tensors({n: t for n, t in tensors.items() if not n.startswith(prefixes)})
    lm = layouts.from_stacks(lm, config.lm)
    if config.text_dim == config.lm.dim and f"{layouts.PROJECTION}weight" not in lm:
        # transformers leaves the projection out where the widths agree already.
        lm |= layouts.identity_projection(config.lm.dim, folder)
    return Checkpoint(name, folder, config, lm, codec, [folder], text)


def _open_audiocraft(
    name: str, folder: Path, base_model: str | None, progress: Progress
) -> Checkpoint:
    path = folder / AUDIOCRAFT_LM
    package = _open_package(path)
    state = {n: a for n, a in package["best_state"].items() if not _ignored(n)}
    lm = layouts.from_audiocraft(of_arrays(state, path))
    base = _base_folder(base_model, progress)
    shaped = next((f for f in (folder, base) if f is not None and (f / CONFIG).exists()), None)
    text: T5Config | None = None
    if shaped is not None:
        known = _read_config(shaped)
        lm_config, text, text_dim = known.lm, known.text, known.text_dim
    elif isinstance(package.get("xp.cfg"), str):
        try:
            lm_config, text_dim = read_xp_cfg(package["xp.cfg"])
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}; pass --base-model") from None
    else:
        raise CheckpointError(
            f"{path}: the file does not say how large the model is, and there is no {CONFIG}; "
            "pass --base-model with the model it was trained from"
        )
    codec_config, codec = _codec_of(folder, base, progress)
    checkpoint = Checkpoint(
        name, folder, ModelConfig(lm_config, codec_config, text, text_dim), lm, codec
    )
    if base is not None and text is not None and _has_hf_weights(base):
        checkpoint._text_tensors = _open_hf(name, base)._text_tensors
        checkpoint._text_sources = [base]
    return checkpoint


def _base_folder(base_model: str | None, progress: Progress) -> Path | None:
    """Where the base model lies: whole if it is here, else as much as its configuration."""
    if base_model is None:
        return None
    return hub.find_local(base_model) or hub.locate(base_model, CONFIG_ONLY, progress)


def _codec_of(folder: Path, base: Path | None, progress: Progress) -> tuple[CodecConfig, Tensors]:
    """The codec of an AudioCraft fine-tune: its own, its base model's, or the companion."""
    companions: tuple[str, ...] = CODEC_COMPANIONS
    path = folder / AUDIOCRAFT_CODEC
    if path.exists():
        package = unpickle.load(path)
        # MusicGen's own repositories only say here which codec they were trained with.
        if isinstance(package, Mapping) and isinstance(package.get("pretrained"), str):
            companions = (*companions, package["pretrained"])
        else:
            package = _open_package(path)
            state = {n: a for n, a in package["best_state"].items() if not _ignored(n)}
            config = CodecConfig.from_xp_cfg(str(package.get("xp.cfg", "")))
            return config, layouts.from_codec(of_arrays(state, path))
    if base is not None and _has_hf_weights(base):
        whole = _open_hf(str(base), base)
        return whole.config.codec, whole.codec
    source = _first_available(companions, progress)
    tensors = Tensors({n: t for n, t in _open_weights(source).items() if not _ignored(n)})
    return CodecConfig.from_hf(_read_json(source / CONFIG)), layouts.from_codec(tensors)


def _first_available(names: tuple[str, ...], progress: Progress) -> Path:
    for name in names:
        if (local := hub.find_local(name)) is not None:
            return local
    return hub.locate(names[0], progress=progress)


def _open_package(path: Path) -> dict[str, Any]:
    """An AudioCraft file: `best_state` (tensors by name) and `xp.cfg` (YAML text)."""
    package = unpickle.load(path)
    if not isinstance(package, Mapping) or not isinstance(package.get("best_state"), Mapping):
        raise CheckpointError(
            f"{path}: no 'best_state' in the file; AudioCraft's exported checkpoints have one"
        )
    for name, value in package["best_state"].items():
        if not isinstance(value, np.ndarray):
            raise CheckpointError(f"{path}: {name!r} is a {type(value).__name__}, not a tensor")
    return dict(package)


def _open_weights(folder: Path) -> Tensors:
    """The weights of a folder in the Hugging Face layout: one file, or an index and its shards."""
    for single in (SAFETENSORS, TORCH):
        if (folder / single).exists():
            return _open_file(folder / single)
        index = folder / f"{single}.index.json"
        if index.exists():
            weight_map = _read_json(index).get("weight_map", {})
            tensors = Tensors()
            for shard in sorted(set(weight_map.values())):
                tensors |= _open_file(_existing(folder / shard))
            for name, shard in weight_map.items():
                if name not in tensors:
                    raise CheckpointError(f"{folder / shard}: the tensor {name!r} is missing")
            return tensors
    raise CheckpointError(
        f"{folder}: there is a {CONFIG} but no {SAFETENSORS} and no {TORCH}; "
        "the download was not finished"
    )


def _open_file(path: Path) -> Tensors:
    if path.suffix == ".safetensors":
        return open_safetensors(path)
    state = unpickle.load(path)
    if not isinstance(state, Mapping) or not all(isinstance(a, np.ndarray) for a in state.values()):
        raise CheckpointError(f"{path}: not a table of tensors")
    return of_arrays(state, path)


def _has_hf_weights(folder: Path) -> bool:
    names = (SAFETENSORS, TORCH, f"{SAFETENSORS}.index.json", f"{TORCH}.index.json")
    return any((folder / name).exists() for name in names)


def _ignored(name: str) -> bool:
    return layouts.IGNORED.search(name) is not None


def _is_text_encoder(name: str) -> bool:
    """Whether a tensor of a whole T5 belongs to its encoder."""
    return name == "shared.weight" or (
        name.startswith("encoder.") and name != "encoder.embed_tokens.weight"
    )


def _existing(path: Path) -> Path:
    if not path.exists():
        raise CheckpointError(f"{path}: the file is missing; the download was not finished")
    return path


def _read_config(folder: Path) -> ModelConfig:
    try:
        return ModelConfig.from_hf(_read_json(folder / CONFIG))
    except CheckpointError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_existing(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a table")
    return content
