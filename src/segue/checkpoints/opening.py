"""Open a checkpoint in any layout: a `ModelConfig` and named tensors.

A checkpoint has three parts: the language model, the codec and the text encoder.  The Hugging Face
layout and segue's own bring all three.  The AudioCraft layout of fine-tunes often brings the
language model alone; the rest then comes from the base model, or from the companion repositories
that the fine-tunes were trained with.  The text encoder is opened only when there is text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BaseModelRequiredError, CheckpointError
from ..progress import SILENT, Progress
from . import diagnosis, hub, layouts, torch_file
from .adapters import Adapter, AdapterChoice, open_adapters
from .config import (
    CodecConfig,
    IncompleteConfigError,
    ModelConfig,
    T5Config,
    TrainingConfig,
    interpolation,
)
from .files import (
    AUDIOCRAFT_CODEC,
    AUDIOCRAFT_LM,
    CONFIG,
    CONFIG_ONLY,
    SAFETENSORS,
    TOKENIZER,
    unreadable,
)
from .model_files import (
    check_head,
    existing,
    has_hf_weights,
    naming,
    open_package,
    open_weights,
    read_config,
)
from .tensors import Tensors

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
        name: the name that it was opened by.
        folder: its folder.
        config: its shape.
        lm: tensors of the language model and the projection into it (`layouts.lm_shapes`).
        codec: tensors of the codec (`layouts.codec_shapes`).
        text_folders: folders to look for its tokenizer in, in this order.
        text_tensors: tensors of its own text encoder; None if it has none.
        adapters: those that are merged into `lm`; `text` merges them into the text encoder.
    """

    name: str
    folder: Path
    config: ModelConfig
    lm: Tensors
    codec: Tensors
    text_folders: list[Path] = field(default_factory=list)
    text_tensors: Tensors | None = None
    adapters: tuple[Adapter, ...] = ()

    def text(self, progress: Progress = SILENT) -> TextPart:
        """Open the text encoder: of the checkpoint, its base model, or the companion `t5-base`.

        Args:
            progress: receives the download of the companion, if it is not cached.

        Raises:
            CheckpointError: there is none, or its files are incomplete.
        """
        try:
            return self._text(progress)
        except OSError as error:
            raise unreadable(error.filename or self.folder, error) from None

    def _text(self, progress: Progress) -> TextPart:
        if self.text_tensors is not None and self.config.text is not None:
            part = TextPart(self.config.text, self.text_tensors, self._tokenizer())
        else:
            folder = hub.locate(TEXT_COMPANION, progress=progress)
            config = read_config(folder / CONFIG, T5Config.from_hf)
            tensors = Tensors(
                {n: t for n, t in open_weights(folder).items() if _is_text_encoder(n)}
            )
            part = TextPart(config, tensors, existing(folder / TOKENIZER))
        if part.config.dim != self.config.text_dim:
            raise CheckpointError(
                f"{part.tokenizer.parent}: the text encoder has {part.config.dim} dimensions, "
                f"{self.name} was trained with {self.config.text_dim}; pass --base-model"
            )
        check_head(part.tokenizer)
        shapes = layouts.t5_shapes(part.config)
        layouts.check(part.tensors, shapes, str(part.tokenizer.parent))
        for adapter in self.adapters:
            adapter.check(shapes, layouts.TEXT)
            part.tensors = adapter.merged(part.tensors, layouts.TEXT)
        return part

    def _tokenizer(self) -> Path:
        for folder in self.text_folders:
            if (folder / TOKENIZER).exists():
                return folder / "tokenizer.json"
        return existing(self.text_folders[0] / TOKENIZER)


def open_checkpoint(
    name: str,
    base_model: str | None = None,
    progress: Progress = SILENT,
    adapters: Sequence[AdapterChoice] = (),
) -> Checkpoint:
    """Open the checkpoint `name` (see `hub.locate`) and check every name and shape in it.

    Args:
        name: `"built-in"`, a folder, or a repository of the hub.
        base_model: the checkpoint that gives a fine-tune without `config.json` its shape and, if
            it is completely on this machine, its codec and text encoder.
        progress: receives the downloads.
        adapters: what is merged into its weights, one after the other.

    Returns:
        The checkpoint, of which only headers have been read.

    Raises:
        CheckpointError: one line that names the file and the tensor.
    """
    folder = hub.locate(name, progress=progress)
    try:
        checkpoint = _open(name, folder, base_model, progress)
        return _with_adapters(checkpoint, open_adapters(adapters, progress))
    except OSError as error:
        raise unreadable(error.filename or folder, error) from None


def _with_adapters(checkpoint: Checkpoint, adapters: tuple[Adapter, ...]) -> Checkpoint:
    if adapters and checkpoint.config.quantization is not None:
        raise CheckpointError(
            f"{checkpoint.name} is quantized, and adapters are not added to that; name the model "
            "that it came from"
        )
    config = checkpoint.config
    shapes = layouts.lm_shapes(config.lm, config.text_dim)
    for adapter in adapters:
        adapter.check(shapes)
        checkpoint.lm = adapter.merged(checkpoint.lm)
    checkpoint.adapters = adapters
    return checkpoint


def _open(name: str, folder: Path, base_model: str | None, progress: Progress) -> Checkpoint:
    names = {path.name for path in folder.iterdir()}
    if (problem := diagnosis.diagnose_file_names(names)) is not None:
        raise CheckpointError(f"{folder}: {problem}{diagnosis.model_of_adapter(folder)}")
    audiocraft = AUDIOCRAFT_LM in names
    if CONFIG in names and (has_hf_weights(folder) or not audiocraft):
        checkpoint = _open_hf(name, folder)
    elif audiocraft:
        checkpoint = _open_audiocraft(name, folder, base_model, progress)
    elif (problem := diagnosis.diagnose_folder(folder, names)) is not None:
        raise CheckpointError(f"{folder}: {problem}")
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
    config = read_config(folder / CONFIG, ModelConfig.from_hf)
    tensors = open_weights(folder)
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
    package, state = open_package(path)
    lm = layouts.from_audiocraft(state)
    base = _base_folder(base_model, progress)
    config_folder = next(
        (f for f in (folder, base) if f is not None and (f / CONFIG).exists()), None
    )
    trained = _trained(package, path, config_folder is not None)
    text: T5Config | None = None
    if config_folder is not None:
        known = read_config(config_folder / CONFIG, ModelConfig.from_hf)
        # Its own training configuration counts for more than the base model's.
        lm_config = known.lm if trained is None else trained.lm
        text, text_dim = known.text, known.text_dim
    elif trained is not None:
        lm_config, text_dim = trained.lm, trained.text_dim
    else:
        raise BaseModelRequiredError(
            f"{path}: the file does not say how large the model is, and there is no {CONFIG}; "
            "pass --base-model with the model it was trained from"
        )
    codec_config, codec, codec_source = _codec_of(folder, base, progress)
    if trained is not None and trained.sample_rate not in (None, codec_config.sample_rate):
        raise CheckpointError(
            f"{path}: sample_rate is {trained.sample_rate}, and the codec at {codec_source} has "
            f"{codec_config.sample_rate}; put the codec that it was trained with beside it, as "
            f"{AUDIOCRAFT_CODEC}"
        )
    config = naming(path, lambda: ModelConfig(lm_config, codec_config, text, text_dim))
    checkpoint = Checkpoint(name, folder, config, lm, codec)
    if base is not None and text is not None and has_hf_weights(base):
        checkpoint.text_tensors = _open_hf(name, base).text_tensors
        checkpoint.text_folders = [base]
    return checkpoint


def _trained(package: Mapping[str, Any], path: Path, has_config: bool) -> TrainingConfig | None:
    """Read the `xp.cfg` in `package`, if it is complete.

    Args:
        package: the content of `path`.
        path: for messages.
        has_config: whether there is another configuration, so that it may be incomplete.
    """
    xp_cfg = package.get("xp.cfg")
    if not isinstance(xp_cfg, str | Mapping):
        return None
    try:
        return TrainingConfig.from_xp_cfg(interpolation.parse(xp_cfg))
    except IncompleteConfigError as error:
        if has_config:
            return None
        raise BaseModelRequiredError(f"{path}: xp.cfg: {error}; pass --base-model") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: xp.cfg: {error}") from None


def _base_folder(base_model: str | None, progress: Progress) -> Path | None:
    """The folder of the base model: the whole of it if it is local, else its configuration."""
    if base_model is None:
        return None
    return hub.find_local(base_model) or hub.locate(base_model, CONFIG_ONLY, progress)


def _codec_of(
    folder: Path, base: Path | None, progress: Progress
) -> tuple[CodecConfig, Tensors, Path]:
    """Open the codec of an AudioCraft fine-tune: its own, its base model's, or the companion.

    Returns:
        Its shape, its tensors, and the file or folder that they come from.
    """
    companions: tuple[str, ...] = CODEC_COMPANIONS
    path = folder / AUDIOCRAFT_CODEC
    if path.exists():
        package = torch_file.load(path)
        # In MusicGen's own repositories this file only names the codec.
        if isinstance(package, Mapping) and isinstance(package.get("pretrained"), str):
            named = package["pretrained"]
            if named.removeprefix("//pretrained/").split("/")[-1] != "encodec_32khz":
                raise CheckpointError(
                    f"{path}: the model was trained with the codec {diagnosis.quoted(named)}; "
                    "segue runs MusicGen's, facebook/encodec_32khz, or one that lies here whole"
                )
        else:
            package, state = open_package(path)
            xp_cfg = package.get("xp.cfg", "")
            config = naming(
                f"{path}: xp.cfg", lambda: CodecConfig.from_xp_cfg(interpolation.parse(xp_cfg))
            )
            return config, layouts.from_codec(state), path
    if base is not None and has_hf_weights(base):
        whole = _open_hf(str(base), base)
        return whole.config.codec, whole.codec, base
    source = _first_available(companions, progress)
    tensors = open_weights(source)
    config = read_config(source / CONFIG, CodecConfig.from_hf)
    return config, layouts.from_codec(tensors), source


def _first_available(names: tuple[str, ...], progress: Progress) -> Path:
    for name in names:
        if (local := hub.find_local(name)) is not None:
            return local
    return hub.locate(names[0], progress=progress)


def _is_text_encoder(name: str) -> bool:
    """Whether a tensor of a whole T5 belongs to its encoder."""
    return name == "shared.weight" or (
        name.startswith("encoder.") and name != "encoder.embed_tokens.weight"
    )
