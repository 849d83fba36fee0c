"""The prompts of a measurement in chunks, so that it can be spread over machines, and resumed.

What is found of a chunk is kept exactly, token by token; sums are taken over all of them at the
end, in the prompts' order.  So it does not matter who measured which chunk, nor when.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic import writing
from ...errors import OutputError
from .divergence import Tokens
from .request import Measurement

MOST_PROMPTS = 8
"""Of a chunk: each loads the variant, and quantizes it perhaps, which takes as long as a few."""

MOST_CONTINUED = 2
"""Of a chunk: on a processor, a clip's continuations take as long as dozens of distributions."""


@dataclass(frozen=True)
class Chunk:
    """Prompts that are measured together.

    Attributes:
        number: from 0.
        pieces, clips: their numbers in a `Measurement`, ascending.
    """

    number: int
    pieces: tuple[int, ...]
    clips: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """What was found of a chunk.

    Attributes:
        tokens: for each prompt that distributions are compared on, condition and tokens of each
            window in each condition; see `teacher_forced.compare_tokens`.
        takes: of each clip that is continued, see `free_running.compare_takes`.
        notes: for the reader of the report.
    """

    tokens: list[list[tuple[str, Tokens]]]
    takes: list[dict[str, Any]]
    notes: list[str]


def chunks_of(pieces: int, clips: int, continued: Collection[int]) -> list[Chunk]:
    """Cut prompts into chunks, which depend on nothing else.

    Args:
        pieces: how many there are; if there are some, clips are continued and no more.
        clips: how many there are.
        continued: the numbers of those that are continued.
    """
    chunks: list[Chunk] = []
    for start in range(0, pieces, MOST_PROMPTS):
        stop = min(start + MOST_PROMPTS, pieces)
        chunks.append(Chunk(len(chunks), tuple(range(start, stop)), ()))
    together: list[int] = []
    for n in sorted(continued) if pieces else range(clips):
        full = sum(other in continued for other in together) == MOST_CONTINUED and n in continued
        if full or len(together) == MOST_PROMPTS:
            chunks.append(Chunk(len(chunks), (), tuple(together)))
            together = []
        together.append(n)
    if together:
        chunks.append(Chunk(len(chunks), (), tuple(together)))
    return chunks


class KeptChunks:
    """What was found of the chunks of a measurement that is not done yet, a file for each.

    Args:
        folder: of these files; it is made with the first.
        work: what is measured.  What was found of other music, of another variant or by other code
            is not taken.
    """

    def __init__(self, folder: Path, work: Measurement) -> None:
        self._folder, self._stamp = folder, _stamp(work)

    def read(self, chunk: Chunk) -> Found | None:
        """What was found of a chunk; None if it is not there, or is damaged."""
        try:
            with np.load(self._path(chunk), allow_pickle=False) as file:
                head = json.loads(str(file["head"]))
                if (head["stamp"], head["chunk"]) != (self._stamp, repr(chunk)):
                    return None
                arrays = iter([file[f"{n}"] for n in range(head["arrays"])])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        tokens = [
            [(condition, Tokens(*(next(arrays) for _ in fields(Tokens)))) for condition in windows]
            for windows in head["conditions"]
        ]
        return Found(tokens, head["takes"], head["notes"])

    def write(self, chunk: Chunk, found: Found) -> None:
        """Keep what was found of a chunk, whole or not at all.

        Raises:
            OutputError: the disk is full, or the folder cannot be written to.
        """
        arrays = list(_arrays(found))
        head = {
            "stamp": self._stamp,
            "chunk": repr(chunk),
            "arrays": len(arrays),
            "conditions": [[condition for condition, _ in windows] for windows in found.tokens],
            "takes": found.takes,
            "notes": found.notes,
        }
        named = {f"{n}": array for n, array in enumerate(arrays)}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self._folder}: cannot be made ({error.strerror})") from None
        with writing(self._path(chunk)) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, head=np.array(json.dumps(head)), **named)

    def _path(self, chunk: Chunk) -> Path:
        return self._folder / f"{chunk.number:02}.npz"


def _arrays(found: Found) -> Iterator[np.ndarray]:
    for windows in found.tokens:
        for _, tokens in windows:
            for field in fields(Tokens):
                yield getattr(tokens, field.name)


def _stamp(work: Measurement) -> str:
    """A digest of what decides what is found, but for the machine."""
    request = work.request
    sides = [(side.name, side.to_json()) for side in (request.baseline, request.variant)]
    prompts = [*(piece.name for piece in work.pieces), *(clip.name for clip in work.clips)]
    what = (request.model, request.base_model, request.text, request.seed, request.takes)
    how = (request.prompt_seconds, request.continuation_seconds, work.engine, repr(work.config))
    return hashlib.sha256(
        json.dumps([_code(), sides, prompts, what, how], sort_keys=True).encode()
    ).hexdigest()


@cache
def _code() -> str:
    """A digest of the package's code."""
    package, digest = Path(__file__).parents[2], hashlib.sha256()
    for path in sorted((*package.rglob("*.py"), *(package / "engine" / "native" / "c").iterdir())):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
