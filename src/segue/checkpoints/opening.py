"""Open a checkpoint in any layout: a `ModelConfig` and named tensors.

A checkpoint has three parts: the language model, the codec and the text encoder.  The Hugging Face
layout and segue's own bring all three.  The AudioCraft layout of fine-tunes often brings the
language model alone; see `audiocraft`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import CheckpointError
from ..progress import SILENT, Progress
from . import diagnosis, hub, layouts
from .adapters import Adapter, AdapterChoice, open_adapters
from .audiocraft import lm_file, open_audiocraft
from .checkpoint import Checkpoint, open_hugging_face
from .files import AUDIOCRAFT_LM, CONFIG, SAFETENSORS, unreadable
from .model_files import has_hf_weights


def open_checkpoint(
    name: str,
    base_model: str | None = None,
    progress: Progress = SILENT,
    adapters: Sequence[AdapterChoice] = (),
) -> Checkpoint:
    """Open the checkpoint `name` (see `hub.locate`) and check every name and shape in it.

    Args:
        name: `"built-in"`, a folder, a repository of the hub, or an address.
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
    trained = lm_file(folder)
    if CONFIG in names and (has_hf_weights(folder) or trained is None):
        checkpoint = open_hugging_face(name, folder)
    elif trained is not None:
        checkpoint = open_audiocraft(name, trained, base_model, progress)
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
