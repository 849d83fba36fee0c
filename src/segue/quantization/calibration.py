"""The music that a method looks at: windows of codes, and a part that it is kept from seeing.

By default it is the model's own: takes from nothing, half of them with words.  They need no files,
and what a model plays is what it is used for.  Or it is the user's music; files of which no window
is looked at are held out, since windows of one piece resemble each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from .. import audio
from ..audio.collection import files_in, words_beside
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.config import ModelConfig
from ..checkpoints.recipe import Calibration as Choice
from ..checkpoints.tensors import Tensors
from ..engine.base import Engine, Sampling
from ..engine.mlx.weights import load_t5
from ..engine.text import TextTokenizer
from ..errors import AudioError
from ..pattern import UNKNOWN, delay, undelay
from ..progress import SILENT, Progress
from .takes_cache import Identity, TakesCache

SECONDS = 10.0
"""Of a window."""

FEW = 16
"""Windows below which a method is warned of: with 4 of them GPTQ gained a quarter of what it gains
with 128."""

HELD_OUT = 8
"""Of so many files or takes, one is held out."""

SHORTEST_SECONDS = 1.0
MAX_WINDOWS = 128
MAX_WINDOWS_OF_A_FILE = 16
BATCH = 16
"""Takes that are generated at a time."""

TEXTS = (
    *("rock electric guitar drums fast", "jazz piano bass drums medium"),
    *("classical strings slow minor", "pop synth drums major", "ambient pad slow"),
    *("folk acoustic guitar medium major", "orchestral brass strings", "electronic bass drums"),
    *("slow piano", "latin trumpet acoustic guitar", "waltz violin cello", "choir organ slow"),
    *("flute harp classical", "jazz saxophone medium", "electric bass drums rock", "fast minor"),
)
"""Words for takes: what plays, and how, in words that most models were trained with."""

TAKE_TEXTS = 8
"""Of `TEXTS`, so many are used: a batch of takes shares one."""


@dataclass(frozen=True, eq=False)
class Window:
    """Some music.

    Attributes:
        codes: `(K, F)` int32.
        text: the words that it is run with; empty for none.
        source: the file that it is from, or what made it.
    """

    codes: np.ndarray
    text: str
    source: str


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """What a method looks at, and what it does not.

    Attributes:
        windows: what it looks at.
        held_out: other music, of other files or takes; perhaps none.
        sources: where all of it came from, for people and for the digest: `file` and `sha256`, or
            `takes`, `seed` and `engine`.
    """

    windows: tuple[Window, ...]
    held_out: tuple[Window, ...] = ()
    sources: tuple[dict[str, Any], ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the windows' codes and words: nothing else counts."""
        digest = hashlib.sha256()
        for window in self.windows:
            codes = np.ascontiguousarray(window.codes, "<i4")
            digest.update(json.dumps([codes.shape, window.text]).encode())
            digest.update(codes.data)
        return digest.hexdigest()

    @property
    def note(self) -> str | None:
        """A line if it is too little; None if it is enough."""
        count = len(self.windows)
        if count >= FEW:
            return None
        return (
            f"{count} windows of {SECONDS:g} s are little to calibrate on; from {FEW} on it tells "
            "what matters from what happens to be there"
        )


def collect(
    choice: Choice,
    config: ModelConfig,
    engine: Callable[[], Engine],
    progress: Progress = SILENT,
    texts: Sequence[str] = TEXTS,
    identity: Identity | None = None,
) -> CalibrationSet:
    """Make what a recipe's method looks at.

    Args:
        choice: files, folders and numbers of takes.
        config: the model's shape.
        engine: loads the model as it is stored, to generate and to encode.
        progress: shown while it does.
        texts: words for the takes; none for models without.
        identity: by which takes are kept on disk; None keeps none.

    Raises:
        AudioError: music cannot be read.
    """
    parts = []
    if choice.paths:
        parts.append(of_files(choice.paths, config, engine, progress))
    if choice.takes:
        parts.append(self_takes(engine, choice.takes, choice.seed, texts, progress, identity))
    return CalibrationSet(
        tuple(window for part in parts for window in part.windows),
        tuple(window for part in parts for window in part.held_out),
        tuple(source for part in parts for source in part.sources),
    )


def self_takes(
    engine: Callable[[], Engine],
    takes: int,
    seed: int = 0,
    texts: Sequence[str] = TEXTS,
    progress: Progress = SILENT,
    identity: Identity | None = None,
) -> CalibrationSet:
    """Return a model's takes from disk, or let it generate them: see `of_takes`.

    Args:
        engine: loads the model as it is stored, if it has to generate.
        takes: see `of_takes`.
        seed: see there.
        texts: see there.
        progress: see there.
        identity: see `collect`.
    """
    if identity is None:
        return of_takes(engine(), takes, seed, texts, progress)
    cache = TakesCache([*astuple(identity), takes, seed, list(texts), SECONDS])
    codes = cache.read()
    if codes is not None:
        return _calibration_set(codes, takes, seed, texts, identity.engine)
    found = of_takes(engine(), takes, seed, texts, progress)
    cache.write(np.stack([window.codes for window in (*found.windows, *found.held_out)]))
    return found


def of_takes(
    engine: Engine,
    takes: int,
    seed: int = 0,
    texts: Sequence[str] = TEXTS,
    progress: Progress = SILENT,
) -> CalibrationSet:
    """Let a model generate its own music.

    Every other batch goes without words.  Seeds follow each other; those of the takes that are held
    out come after the others.

    Args:
        engine: the model, as it is stored.
        takes: to look at; an eighth as many more are held out.
        seed: of the first take, 0 to 2³² - 1.
        texts: words for every other batch; none leaves them all without.
        progress: shown while it generates.
    """
    batches = list(_batches(takes, seed, texts))
    lm = engine.config.lm
    frames = round(SECONDS * engine.config.codec.frame_rate)
    start = np.full((1, lm.num_codebooks, frames), UNKNOWN, np.int32)
    sequence = delay(start, lm.delays, lm.special_token)
    found: list[np.ndarray] = []
    with progress.stage("generate to calibrate on", len(batches) * frames, "frames") as advance:
        for n, (batch, text) in enumerate(batches):
            conditioning = engine.condition(text) if text else None
            columns = [np.repeat(sequence[:, :, :1], len(batch), axis=0)[:, :, 0]]
            for column in engine.prefill(sequence, tuple(batch), Sampling(), conditioning):
                columns.append(column)
                advance(n * frames + min(len(columns), frames))
            found.extend(undelay(np.stack(columns, axis=-1), lm.delays))
    return _calibration_set(found, takes, seed, texts, engine.name)


def _calibration_set(
    codes: Iterable[np.ndarray], takes: int, seed: int, texts: Sequence[str], engine: str
) -> CalibrationSet:
    """What an engine generated, in the order of `_batches`."""
    seeds = [(s, text) for batch, text in _batches(takes, seed, texts) for s in batch]
    found = [Window(c, text, f"take {s}") for c, (s, text) in zip(codes, seeds, strict=True)]
    source = {"takes": takes, "seed": seed, "engine": engine, "texts": list(texts)}
    return CalibrationSet(tuple(found[:takes]), tuple(found[takes:]), (source,))


def _batches(takes: int, seed: int, texts: Sequence[str]) -> Iterator[tuple[Sequence[int], str]]:
    """Seeds that are generated together, and their words; what is held out is apart."""
    seeds = [(seed + n) % (1 << 32) for n in range(takes + takes // HELD_OUT)]
    used = texts[:: max(1, len(texts) // TAKE_TEXTS)][:TAKE_TEXTS]
    size = min(BATCH, max(1, takes // 4))
    described = 0
    for part in (seeds[:takes], seeds[takes:]):
        for n, start in enumerate(range(0, len(part), size)):
            text = used[described % len(used)] if used and n % 2 else ""
            described += bool(text)
            yield part[start : start + size], text


def of_files(
    paths: Sequence[str],
    config: ModelConfig,
    engine: Callable[[], Engine],
    progress: Progress = SILENT,
) -> CalibrationSet:
    """Encode music.

    As many windows are taken of each file, evenly over it, as leave 128 for all of them.  With two
    files or more, every eighth is held out, at least one.

    Args:
        paths: files, and folders, which are searched to their bottom.
        config: the model's shape.
        engine: loads what encodes.
        progress: shown while it does.

    Raises:
        AudioError: there is no such file, one cannot be read or is too short.
    """
    files = list(dict.fromkeys(file for path in paths for file in files_in(Path(path))))
    room = MAX_WINDOWS + MAX_WINDOWS // HELD_OUT
    of_each = min(MAX_WINDOWS_OF_A_FILE, max(1, room // len(files)))
    step = max(1, len(files) // room)
    files = files[::step]
    windows: list[Window] = []
    held_out: list[Window] = []
    sources: list[dict[str, Any]] = []
    apart = set(range(HELD_OUT - 1, len(files), HELD_OUT)) or ({1} if len(files) > 1 else set())
    with progress.stage("encode music to calibrate on", len(files), "files") as advance:
        for n, file in enumerate(files):
            cut = list(_cut(file, config, of_each))
            text, loaded = words_beside(file), engine()
            found = [Window(loaded.encode(samples), text, str(file)) for samples in cut]
            (held_out if n in apart else windows).extend(found)
            sources.append(
                {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
                | ({"held_out": True} if n in apart else {})
            )
            advance(n + 1)
    return CalibrationSet(tuple(windows), tuple(held_out), tuple(sources))


def _cut(file: Path, config: ModelConfig, most: int) -> Iterator[np.ndarray]:
    """At most so many windows `(T, C)` of a file, evenly over it."""
    whole = audio.read(file, MAX_WINDOWS_OF_A_FILE * SECONDS)
    if whole.seconds < SHORTEST_SECONDS:
        raise AudioError(f"{file}: too short to calibrate on; {SHORTEST_SECONDS:g} s is the least")
    if not np.isfinite(whole.samples).all():
        raise AudioError(f"{file}: holds samples that are no sound (NaN or infinity)")
    samples = audio.to_channels(whole.samples, config.lm.audio_channels, whole.layout)
    rate = config.codec.sample_rate
    samples = audio.resample(samples, whole.sample_rate, rate).astype(np.float32)
    length = round(SECONDS * rate)
    count = max(1, len(samples) // length)
    for n in range(0, count, max(1, -(-count // most))):
        yield samples[n * length : (n + 1) * length]


class TextCodes:
    """What a checkpoint's text encoder makes of words; each text is encoded once.

    Args:
        checkpoint: opened; its text encoder is opened when there is a text.
    """

    def __init__(self, checkpoint: Checkpoint, progress: Progress = SILENT) -> None:
        self._checkpoint, self._progress = checkpoint, progress
        self._known: dict[str, np.ndarray] = {}
        self._loaded: tuple[Any, TextTokenizer] | None = None

    def _parts(self) -> tuple[Any, TextTokenizer]:
        if self._loaded is None:
            part = self._checkpoint.text(self._progress)
            tokenizer = TextTokenizer(part.tokenizer, part.config.max_tokens)
            self._loaded = load_t5(part.config, Tensors(part.tensors)), tokenizer
        return self._loaded

    def of(self, text: str) -> np.ndarray | None:
        """Return the encoder's output `(L, text_dim)` float32; None for no text.

        Raises:
            CheckpointError: the text encoder is missing or damaged.
        """
        if not text:
            return None
        if text not in self._known:
            encoder, tokenizer = self._parts()
            found = encoder(mx.array([tokenizer.encode(text).ids]))
            self._known[text] = np.array(found.astype(mx.float32))[0]
        return self._known[text]
