"""Weights written as safetensors: one file, or several with an index."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx

from .files import SAFETENSORS

SHARD_BYTES = 1 << 30


class Shards:
    """Tensors on their way into safetensors files of at most `SHARD_BYTES`, and their index."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, mx.array] = {}
        self._files: list[list[str]] = []
        self._bytes = 0

    def add(self, name: str, values: mx.array) -> None:
        """Take a tensor; a shard that is full is written and released."""
        mx.eval(values)
        if self._open and sum(a.nbytes for a in self._open.values()) + values.nbytes > SHARD_BYTES:
            self._write()
        self._open[name] = values

    def _write(self) -> None:
        path = self._folder / f"{len(self._files)}.safetensors"
        # Through a file of Python's: of one that it opens itself, MLX does not say what is wrong.
        with path.open("wb") as file:
            mx.save_safetensors(file, self._open, {"format": "mlx"})
        self._files.append(list(self._open))
        self._bytes += sum(values.nbytes for values in self._open.values())
        self._open = {}

    def close(self) -> int:
        """Name the files as the Hugging Face layout does; return the bytes of all tensors."""
        self._write()
        count = len(self._files)
        if count == 1:
            (self._folder / "0.safetensors").rename(self._folder / SAFETENSORS)
            return self._bytes
        weight_map: dict[str, str] = {}
        for n, names in enumerate(self._files):
            shard = f"model-{n + 1:05}-of-{count:05}.safetensors"
            (self._folder / f"{n}.safetensors").rename(self._folder / shard)
            weight_map |= dict.fromkeys(names, shard)
        index = {"metadata": {"total_size": self._bytes}, "weight_map": weight_map}
        (self._folder / f"{SAFETENSORS}.index.json").write_text(json.dumps(index, indent=2))
        return self._bytes
