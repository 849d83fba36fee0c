"""Read the files of a checkpoint: weights in any container, configurations.

Each error names the file that it is about.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import CheckpointError
from . import diagnosis, layouts, torch_file
from .files import CONFIG, SAFETENSORS, TORCH, unreadable
from .tensors import Tensors, of_arrays, open_safetensors, unwrapped

_MAX_JSON_BYTES = 64 * 2**20  # of a configuration or an index, which is read as a whole

Made = TypeVar("Made")


def open_package(path: Path) -> tuple[dict[str, Any], Tensors]:
    """Open an AudioCraft file.

    The tensors are in `best_state` where AudioCraft exported the file, in `state_dict` where
    Lightning saved it; a plain `torch.save(model.state_dict(), ...)` holds nothing else.  In a
    training checkpoint, `checkpoint.th`, they are those that AudioCraft would export: the best, of
    FSDP or not; before the first validation there are none yet, but averages, and the newest.

    Returns:
        The whole content, and the tensors by name.

    Raises:
        CheckpointError: it holds no tensors.
    """
    package = torch_file.load(path)
    state: Any = None
    if isinstance(package, Mapping):
        state = next(filter(None, _places(package)), None)
        if state is None and package and _all_tensors(package):
            state = package
    if state is None:
        raise CheckpointError(
            f"{path}: no 'best_state' in the file; AudioCraft's exported checkpoints have one"
        )
    for name, value in state.items():
        if not isinstance(value, np.ndarray):
            raise CheckpointError(f"{path}: {name!r} is a {type(value).__name__}, not a tensor")
    return dict(package), _named(of_arrays(state, path))


def _places(package: Mapping[str, Any]) -> Iterator[Mapping[str, Any] | None]:
    """The tables in which an AudioCraft file keeps its tensors, the best first."""

    def table(*keys: str) -> Mapping[str, Any] | None:
        found: Any = package
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else None

    yield table("fsdp_best_state", "model")
    yield table("best_state", "model")
    yield table("best_state")
    yield table("state_dict")
    yield table("ema", "state", "model")
    yield table("model")


def _all_tensors(state: Mapping[str, Any]) -> bool:
    return all(isinstance(value, np.ndarray) for value in state.values())


def open_weights(folder: Path) -> Tensors:
    """Open the weights of a folder in the Hugging Face layout: a file, or an index and shards.

    Raises:
        CheckpointError: there are none, or one of the files is missing or damaged.
    """
    return _named(_open_files(folder))


def _named(tensors: Tensors) -> Tensors:
    """Rename without the wrappers of training, and leave out the tensors that are not used."""
    named = unwrapped(tensors)
    return Tensors({n: t for n, t in named.items() if layouts.IGNORED.search(n) is None})


def _open_files(folder: Path) -> Tensors:
    for single in (SAFETENSORS, TORCH):
        if (folder / single).exists():
            return _open_file(folder / single)
        index = folder / f"{single}.index.json"
        if index.exists():
            weight_map = read_json(index).get("weight_map", {})
            if not isinstance(weight_map, dict) or not all(
                isinstance(shard, str) and Path(shard).name == shard
                for shard in weight_map.values()
            ):
                raise CheckpointError(f"{index}: weight_map is no table of files in this folder")
            tensors = Tensors()
            for shard in sorted(set(weight_map.values())):
                tensors |= _open_file(existing(folder / shard))
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
    state = torch_file.load(path)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]  # as Lightning saves it
    if not isinstance(state, Mapping) or not _all_tensors(state):
        raise CheckpointError(f"{path}: not a table of tensors")
    return of_arrays(state, path)


def has_hf_weights(folder: Path) -> bool:
    """Tell whether a folder has weights in the Hugging Face layout."""
    names = (SAFETENSORS, TORCH, f"{SAFETENSORS}.index.json", f"{TORCH}.index.json")
    return any((folder / name).exists() for name in names)


def existing(path: Path) -> Path:
    """Return `path`.

    Raises:
        CheckpointError: it does not exist.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: the file is missing; the download was not finished")
    return path


def check_head(path: Path) -> None:
    """Check that a file is not a Git LFS pointer or a web page.

    Raises:
        CheckpointError: it is.
    """
    with path.open("rb") as file:
        problem = diagnosis.diagnose_head(file.read(512))
    if problem is not None:
        raise CheckpointError(f"{path}: {problem}")


def naming(path: Path | str, make: Callable[[], Made]) -> Made:
    """Call `make`, and name the file `path` in its errors."""
    try:
        return make()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def read_config(path: Path, read: Callable[[dict[str, Any]], Made]) -> Made:
    """Read the `config.json` at `path` with `read`, and name the file in its errors."""
    content = read_json(path)
    return naming(path, lambda: read(content))


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        CheckpointError: the file is missing, cannot be read, or holds something else.
    """
    try:
        check_head(existing(path))
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: too large for what it should be")
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        reason = "nested without end" if isinstance(error, RecursionError) else error
        raise CheckpointError(f"{path}: not JSON ({reason})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a table")
    return content
