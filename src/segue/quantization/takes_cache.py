"""A model's own takes on disk: they take a minute to generate, and every method wants the same.

An entry is a `.npz` file named by all that decides the takes: the model's tensors, the engine, the
seeds and the words.  Zip files carry checksums, so one that was damaged is seen and made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import replacing
from ..checkpoints.checkpoint import Checkpoint
from .weights import samples_of

VERSION = 1
"""Counted up when the same seeds give other takes."""

MAX_ENTRIES = 32
"""Of 300 kB for 144 takes of 10 s; what was not used for longest goes first."""


@dataclass(frozen=True)
class Identity:
    """What decides a model's takes but for seeds and words.

    Attributes:
        engine: that generates: each rounds in its own way.
        model: digest of the language model's tensors.
    """

    engine: str
    model: str


def identity_of(checkpoint: Checkpoint, engine: str) -> Identity:
    """Return a model's identity.

    Args:
        checkpoint: opened; its tensors stay in it, with what adapters made of them.
        engine: its name.
    """
    digest = hashlib.sha256(json.dumps([VERSION, repr(checkpoint.config.lm)]).encode())
    for part in samples_of(checkpoint.lm):
        digest.update(part)
    return Identity(engine, digest.hexdigest())


class TakesCache:
    """An entry in `$XDG_CACHE_HOME/segue/takes`, by default in `~/.cache`.

    Where there is no room or no permission nothing is kept, and takes are generated each time.

    Args:
        facts: all that decides the takes.
    """

    def __init__(self, facts: Any) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        root = home if home.is_absolute() else Path("~").expanduser() / ".cache"
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        self._path = root / "segue" / "takes" / f"{name}.npz"

    def read(self) -> np.ndarray | None:
        """Return the codes `(N, K, F)` int32 that were written; None if none are whole."""
        try:
            with np.load(self._path, allow_pickle=False) as file:
                codes: np.ndarray = file["codes"].astype(np.int32)
            os.utime(self._path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return codes if codes.ndim == 3 else None

    def write(self, codes: np.ndarray) -> None:
        """Keep codes `(N, K, F)`, and delete the oldest entries."""
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, codes=codes.astype(np.uint16))
            entries = sorted(
                self._path.parent.glob("*.npz"), key=lambda path: -path.stat().st_mtime
            )
            for path in entries[MAX_ENTRIES:]:
                path.unlink()
