"""Toy checkpoints with NaN or huge weights, on which a model overflows."""

import shutil
from pathlib import Path
from types import EllipsisType

import numpy as np
from safetensors.numpy import load_file, save_file


def broken(
    toy: Path, folder: Path, name: str, value: float = np.nan, at: int | EllipsisType | None = None
) -> str:
    """A copy of `toy` in `folder` with one weight of tensor `name` replaced by `value`.

    With `at`, all of that row is, or with `...` all of the tensor.
    """
    shutil.copytree(toy, folder)
    weights = load_file(toy / "model.safetensors")
    weights[name] = weights[name].copy()
    if at is None:
        weights[name].reshape(-1)[weights[name].size // 3] = value
    else:
        weights[name][at] = value
    save_file(weights, folder / "model.safetensors")
    return str(folder)
