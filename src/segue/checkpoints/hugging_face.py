"""Write a checkpoint in the Hugging Face layout, which transformers and every other tool reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import atomic
from ..errors import RequestError
from ..progress import SILENT, Progress
from . import layouts
from .arrays import check_weights, read_array
from .checkpoint import Checkpoint
from .config import to_hf
from .files import BESIDE_WEIGHTS, CONFIG, PREPROCESSOR, TOKENIZER
from .load_report import LoadReport
from .quantize import Saved, quantized
from .shards import Shards
from .tensors import Tensor, Tensors

_GENERATION = "generation_config.json"
_OF_TOKENIZER = tuple(n for n in BESIDE_WEIGHTS if n not in (CONFIG, _GENERATION, PREPROCESSOR))


def save_hugging_face(
    checkpoint: Checkpoint,
    folder: Path,
    cast_dtype: str | None = None,
    progress: Progress = SILENT,
) -> Saved:
    """Write `checkpoint` to a new `folder`, whole or not at all; its tensors are taken from it.

    Convolutions of the codec are written with weight norm, as transformers wants them: the length
    of each row beside the weight itself.

    Args:
        checkpoint: opened; adapters are merged.
        folder: must not exist.
        cast_dtype: what the language model's weights are cast to.
        progress: shown while it runs.

    Raises:
        OutputError: the folder exists or cannot be written, or the disk is full.
        CheckpointError: the text encoder is not stored here, or an adapter does not fit it.
        RequestError: the checkpoint is quantized.
        ModelOverflowError: weights are NaN or infinite, as they are, merged or cast.
    """
    if checkpoint.config.quantization is not None:
        raise RequestError(f"{checkpoint.name} is quantized; name the model that it came from")
    atomic.check_new_folder(folder)
    text, report = checkpoint.text(progress), LoadReport()
    view = quantized(checkpoint, None, cast_dtype, report)
    parts = (
        ("", view.lm),
        (layouts.CODEC, Tensors(_with_weight_norm(view.codec))),
        (layouts.TEXT, text.tensors),
    )
    with atomic.creating(folder) as temporary:
        shards = Shards(temporary)
        with progress.stage("write", sum(len(tensors) for _, tensors in parts), "tensors") as step:
            done = 0
            for prefix, tensors in parts:
                for name in list(tensors):
                    values = read_array(tensors.pop(name), report)
                    check_weights([values], prefix + name, fixed=bool(prefix))
                    shards.add(prefix + name, values)
                    done += 1
                    step(done)
        size = shards.close()
        written = to_hf(view.config, text.config, None)
        (temporary / CONFIG).write_text(json.dumps(written, indent=2) + "\n")
        _write_beside(checkpoint, text.tokenizer, temporary)
    return Saved(folder, size, (), ())


def _with_weight_norm(codec: Tensors) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in codec.items():
        if name.endswith(".conv.weight"):
            base = name.removesuffix("weight") + "parametrizations.weight."
            rows = (tensor.shape[0], *(1 for _ in tensor.shape[1:]))
            yield f"{base}original0", tensor.map(rows, _row_norms)
            yield f"{base}original1", tensor
        else:
            yield name, tensor
        if name.endswith(".codebook.embed"):
            # Training state that transformers keeps in the file; only training reads it.
            base = name.removesuffix("embed")
            yield f"{base}inited", tensor.map((1,), lambda _: np.ones(1, np.float32))
            entries = tensor.shape[0]
            yield (
                f"{base}cluster_size",
                tensor.map((entries,), lambda values: np.ones(len(values), np.float32)),
            )
            yield f"{base}embed_avg", tensor


def _row_norms(weight: np.ndarray) -> np.ndarray:
    weight = weight.astype(np.float32)
    axes = tuple(range(1, weight.ndim))
    norms: np.ndarray = np.sqrt(np.square(weight).sum(axis=axes, keepdims=True))
    return norms


def _write_beside(checkpoint: Checkpoint, tokenizer: Path, folder: Path) -> None:
    """Write the small files that `generate` and `AutoProcessor` of transformers want."""
    lm, codec = checkpoint.config.lm, checkpoint.config.codec
    shutil.copyfile(tokenizer, folder / TOKENIZER)
    for name in _OF_TOKENIZER:
        if name != TOKENIZER and (tokenizer.parent / name).is_file():
            shutil.copyfile(tokenizer.parent / name, folder / name)
    generation = {
        "bos_token_id": lm.special_token,
        "decoder_start_token_id": lm.special_token,
        "pad_token_id": lm.special_token,
        "do_sample": True,
        "guidance_scale": 3.0,
        "max_length": 1500,
    }
    preprocessor = {
        "feature_extractor_type": "EncodecFeatureExtractor",
        "feature_size": lm.audio_channels,
        "padding_side": "left",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": codec.sample_rate,
    }
    if (melody := lm.melody) is not None:
        preprocessor |= {
            "feature_extractor_type": "MusicgenMelodyFeatureExtractor",
            "feature_size": melody.bins,
            "num_chroma": melody.bins,
            "n_fft": melody.spectrum,
            "hop_length": melody.hop,
            "chunk_length": lm.window_frames // codec.frame_rate,
        }
    for name, content in ((_GENERATION, generation), (PREPROCESSOR, preprocessor)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
