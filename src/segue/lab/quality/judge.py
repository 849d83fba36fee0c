"""Held-out pieces that come with segue, as codes of the built-in codec.

Forty beginnings of pieces, ten seconds each, made by the generator that the built-in checkpoint was
trained with, from seeds of their own (`training/judge.py`).  They are what tells one quantization
from another: the six prompts that come as sound leave intervals of ± 15 %, these of ± 2.4 %.  Codes
mean something to one codec only, so a checkpoint with another one is measured on sound instead.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from ...checkpoints.checkpoint import Checkpoint
from ...errors import RequestError

FILE = Path(str(resources.files("segue.demo"))) / "judge.npz"
"""`codes` `(N, K, F)` uint16, `texts` `(N,)`, and `codebooks`, the digest of the codec's."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Some held-out music.

    Attributes:
        name: for people.
        codes: `(K, F)` int32.
        text: the words that describe it.
    """

    name: str
    codes: np.ndarray
    text: str


def codebook_digest(checkpoint: Checkpoint) -> str:
    """Return SHA-256 of the codebooks of a checkpoint's codec: with others, codes mean others."""
    digest = hashlib.sha256()
    for k in range(checkpoint.config.codec.num_codebooks):
        entries = checkpoint.codec[f"quantizer.layers.{k}.codebook.embed"].read()
        digest.update(np.ascontiguousarray(entries, "<f4").data)
    return digest.hexdigest()


def judged_by(checkpoint: Checkpoint) -> bool:
    """Tell whether the pieces are codes of this checkpoint's codec."""
    if not FILE.is_file() or checkpoint.config.lm.audio_channels != 1:
        return False
    with np.load(FILE, allow_pickle=False) as file:
        same: bool = str(file["codebooks"]) == codebook_digest(checkpoint)
    return same


def pieces_for(checkpoint: Checkpoint, judge: str | None, prompts: bool) -> list[Piece]:
    """Return the pieces that a checkpoint is judged on; none if it is on sound.

    Args:
        checkpoint: opened.
        judge: see `QualityRequest`.
        prompts: whether the user named music.

    Raises:
        RequestError: the pieces are wanted, and are codes of another codec.
    """
    if prompts or judge == "small":
        return []
    if judged_by(checkpoint):
        return pieces()
    if judge == "full":
        raise RequestError(
            f"--judge full is codes of the built-in checkpoint's codec, and {checkpoint.name} has "
            "another; name music with --quality-prompt"
        )
    return []


def pieces() -> list[Piece]:
    """Read the pieces."""
    with np.load(FILE, allow_pickle=False) as file:
        codes, texts = file["codes"].astype(np.int32), file["texts"].tolist()
    return [
        Piece(f"piece {n + 1:02}", each, text)
        for n, (each, text) in enumerate(zip(codes, texts, strict=True))
    ]
