"""A matrix's WAVs, ready to be embedded in its report.

They are embedded as FLAC of 16 bits: every browser decodes it, and a blind test must not be about
an encoder.  MP3, besides, would shift them in time.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from ... import audio
from ...errors import AudioError
from ..quality.distances import loudness
from ..results import Row

MAX_BYTES = 64_000_000
"""Of all FLACs together; in base64 a third more.  Browsers get slow when a page is larger."""

LEAD_SECONDS = 5.0
"""How much before the join is embedded when there is too much in all."""

MAX_CUT_DB = 12.0
"""How far a take is turned down at most, so that a silent one does not silence the others."""


@dataclass(frozen=True, eq=False)
class Take:
    """One WAV.

    Attributes:
        name: of its row.
        index: of its row.
        audio: what is in it.
        gain: evens out loudness, at most 1.
    """

    name: str
    index: int
    audio: audio.Audio
    gain: float = 1.0

    def flac(self) -> bytes:
        """Encode its samples as FLAC, in 16 bits and at most two channels."""
        samples = audio.to_channels(
            self.audio.samples, min(2, self.audio.channels), self.audio.layout
        )
        # libsndfile would scale floats by 32767: a 16-bit WAV would not come out as it went in.
        integers = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
        encoded = io.BytesIO()
        soundfile.write(encoded, integers, self.audio.sample_rate, "PCM_16", format="FLAC")
        return encoded.getvalue()


@dataclass(frozen=True, eq=False)
class Listening:
    """Takes that are played side by side.

    Attributes:
        title: what they are.
        takes: one a row, as far as there is one.
        join: where the continuation starts, in seconds, if that is known.
        notes: what was done to them, a sentence each.
    """

    title: str
    takes: tuple[Take, ...]
    join: float | None
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Length of the longest take."""
        return max(take.audio.seconds for take in self.takes)


def gather(folder: Path, rows: Sequence[Row]) -> tuple[list[Listening], list[str]]:
    """Read the WAVs of a matrix.

    First come the full takes; the continuations get players of their own only where they are not
    what the full takes end with.

    Args:
        folder: where the WAVs lie.
        rows: of the matrix.

    Returns:
        Groups of takes, and what could not be read, a line each.
    """
    complaints: list[str] = []
    full = list(_read(folder, rows, "full", complaints))
    continuations = list(_read(folder, rows, "continuation", complaints))
    whole = {take.index: take for take in full}
    joins = [_join(whole.get(take.index), take) for take in continuations]
    known = {join for join in joins if join is not None}
    join = known.pop() if len(known) == 1 else None
    found = []
    if full:
        found.append(_ready("Prompt and continuation", full, join))
    if continuations and (None in joins or not full):
        found.append(_ready("Continuation alone", continuations, None))
    return found, complaints


def _read(folder: Path, rows: Sequence[Row], kind: str, complaints: list[str]) -> Iterable[Take]:
    for row in rows:
        name = (row.audio or {}).get(kind)
        if not name:
            continue
        try:
            # A matrix.json may come from anybody: no file outside its folder is read.
            if not isinstance(name, str) or Path(name).name != name:
                raise AudioError(f"{name}: not a file of this folder")
            yield Take(row.name, row.index, audio.read(folder / name))
        except AudioError as error:
            complaints.append(str(error))


def _join(full: Take | None, continuation: Take) -> float | None:
    """Where `full` ends with `continuation`, in seconds."""
    if full is None or full.audio.sample_rate != continuation.audio.sample_rate:
        return None
    start = len(full.audio.samples) - len(continuation.audio.samples)
    if start < 0 or full.audio.channels != continuation.audio.channels:
        return None
    # A rounding of either is no difference.
    near = np.allclose(full.audio.samples[start:], continuation.audio.samples, atol=2 / 32768)
    return start / full.audio.sample_rate if near else None


def _ready(title: str, takes: list[Take], join: float | None) -> Listening:
    exact = all(take.audio.subtype in ("PCM_16", "PCM_S8", "PCM_U8") for take in takes)
    stereo = all(take.audio.channels <= 2 for take in takes)
    notes = [
        "Embedded as 16-bit FLAC, "
        + ("bit for bit what the WAVs hold." if exact else "rounded from what the WAVs hold.")
        + ("" if stereo else " More than two channels were mixed to two.")
    ]
    listening = Listening(title, tuple(evened(takes, join)), join)
    total = sum(len(take.flac()) for take in takes)
    if total > MAX_BYTES:
        listening, note = _shortened(listening, total)
        notes.append(note)
    return replace(listening, notes=tuple(notes))


def evened(takes: Sequence[Take], join: float | None) -> Iterable[Take]:
    """Turn takes down to the loudness of the quietest, so that nothing clips.

    Args:
        takes: to be played side by side.
        join: where their continuations start, in seconds, which are what is measured.

    Yields:
        The takes with their `gain`, at most `MAX_CUT_DB` down.
    """
    levels = []
    for take in takes:
        start = round((join or 0) * take.audio.sample_rate)
        new = take.audio.samples[start:]
        levels.append(loudness(new, take.audio.sample_rate) if len(new) else 0.0)
    target = max(min(levels), max(levels) - MAX_CUT_DB)
    for take, level in zip(takes, levels, strict=True):
        yield replace(take, gain=min(1.0, 10 ** ((target - level) / 20)))


def _shortened(listening: Listening, total: int) -> tuple[Listening, str]:
    """The part around and after the join that fits."""
    start = max(0.0, (listening.join or 0.0) - LEAD_SECONDS)
    length = min(listening.seconds - start, listening.seconds * MAX_BYTES / total)
    takes = tuple(
        replace(take, audio=_cut(take.audio, start, start + length)) for take in listening.takes
    )
    join = None if listening.join is None else listening.join - start
    note = (
        f"Only the seconds from {start:.1f} to {start + length:.1f} are here; "
        "all of it would have made the page too large."
    )
    return replace(listening, takes=takes, join=join), note


def _cut(whole: audio.Audio, start: float, end: float) -> audio.Audio:
    first, last = (round(seconds * whole.sample_rate) for seconds in (start, end))
    return replace(whole, samples=whole.samples[first:last])
