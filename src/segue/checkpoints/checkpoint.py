"""A checkpoint that was opened, and the one layout that brings all of its parts.

The text encoder is opened only when there is text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import CheckpointError
from ..progress import SILENT, Progress
from . import hub, layouts
from .adapters import Adapter
from .config import ModelConfig, T5Config
from .files import CONFIG, PREPROCESSOR, TOKENIZER, TOKENIZER_ONLY, WHOLE_MODEL, unreadable
from .model_files import check_head, existing, open_weights, read_config
from .tensors import Tensors

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
        text_companion: the repository of its text encoder, where it has none; of the shape and the
            tokenizer alone, where it has only tensors.
        text_shape: what the companion must be, where it was chosen by its shape.
        adapters: those that are merged into `lm`; `text` merges them into the text encoder.
    """

    name: str
    folder: Path
    config: ModelConfig
    lm: Tensors
    codec: Tensors
    text_folders: list[Path] = field(default_factory=list)
    text_tensors: Tensors | None = None
    text_companion: str = TEXT_COMPANION
    text_shape: T5Config | None = None
    adapters: tuple[Adapter, ...] = ()

    def text(self, progress: Progress = SILENT) -> TextPart:
        """Open the text encoder: of the checkpoint, its base model, or the companion.

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
            own = self.text_tensors
            files = WHOLE_MODEL if own is None else TOKENIZER_ONLY
            folder = hub.locate(self.text_companion, files, progress)
            config = read_config(folder / CONFIG, T5Config.from_hf)
            if own is None:
                weights = open_weights(folder)
                own = Tensors({n: t for n, t in weights.items() if _is_text_encoder(n)})
            part = TextPart(config, own, existing(folder / TOKENIZER))
        if part.config.dim != self.config.text_dim:
            raise CheckpointError(
                f"{part.tokenizer.parent}: the text encoder has {part.config.dim} dimensions, "
                f"{self.name} was trained with {self.config.text_dim}; pass --base-model"
            )
        if self.text_shape is not None and _size(part.config) != _size(self.text_shape):
            raise CheckpointError(
                f"{part.tokenizer.parent}: this is not the text encoder that the base model's "
                f"{CONFIG} describes; pass --base-model with a model that is whole on this machine"
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


def open_hugging_face(name: str, folder: Path) -> Checkpoint:
    """Open the Hugging Face layout in `folder`, whose names and shapes are not checked yet."""
    config = read_config(folder / CONFIG, ModelConfig.from_hf)
    if (folder / PREPROCESSOR).exists():
        config = read_config(folder / PREPROCESSOR, config.with_extractor)
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


def _size(text: T5Config) -> tuple[int, ...]:
    return text.dim, text.num_layers, text.num_heads, text.ffn_dim, text.gated


def _is_text_encoder(name: str) -> bool:
    """Whether a tensor of a whole T5 belongs to its encoder."""
    return name == "shared.weight" or (
        name.startswith("encoder.") and name != "encoder.embed_tokens.weight"
    )
