"""Sensitivities on disk, as they come: a run that is stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..atomic import replacing
from ..checkpoints.checkpoint import Checkpoint
from ..errors import RequestError

VERSION = 1
"""Counted up when the same windows give other sensitivities."""

_BLOCKS, _BLOCK_BYTES = 64, 4096


class SensitivityCache:
    """One file in `$XDG_CACHE_HOME/segue/recipes`, by default `~/.cache/segue/recipes`.

    Args:
        facts: all that decides the sensitivities; they are the file's name, hashed.

    Raises:
        RequestError: the folder cannot be made or written to.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        try:
            root = home if home.is_absolute() else Path.home() / ".cache"
        except RuntimeError:
            raise RequestError(
                "there is no home folder to keep sensitivities in; point XDG_CACHE_HOME to a folder"
            ) from None
        named = json.dumps([VERSION, facts], sort_keys=True)
        self.path = (
            root / "segue" / "recipes" / f"{hashlib.sha256(named.encode()).hexdigest()}.json"
        )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def read(self) -> dict[str, float]:
        """Return the losses by unit that were written; none if there are none, or none whole."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {
            name: value
            for name, value in found.items()
            if isinstance(value, float) and math.isfinite(value)
        }

    def write(self, losses: Mapping[str, float]) -> None:
        """Keep the losses that are known so far.

        Raises:
            RequestError: the disk is full, or the folder cannot be written to.
        """
        try:
            with replacing(self.path) as temporary:
                temporary.write_text(json.dumps(losses), encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> RequestError:
        return RequestError(
            f"{self.path.parent}: sensitivities cannot be kept here ({error.strerror}); point "
            "XDG_CACHE_HOME to a folder with room"
        )


def weights_digest(checkpoint: Checkpoint) -> str:
    """Return SHA-256 of the files of a language model: their sizes, and blocks from all over them.

    Blocks, because whole files of 7 GB would be read for as long as measuring takes elsewhere.
    """
    files = {tensor.source for tensor in checkpoint.lm.values() if tensor.source.is_file()}
    digest = hashlib.sha256(repr(checkpoint.config.lm).encode())
    for path in sorted(files):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for n in range(_BLOCKS):
                file.seek(n * max(0, size - _BLOCK_BYTES) // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()
