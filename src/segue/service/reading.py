"""What an upload is turned into: a plain WAV of known length, or one line that says why not.

Runs in a process of its own, because a decoder is what a hostile file would break, and within
limits, because a header can promise anything: what counts is what comes out, block by block.
"""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..continuation import LOUDEST
from ..errors import AudioError
from .durable import publish
from .worker import Line

_BLOCK_SAMPLES = 1 << 20
_MEMORY = 3 << 30
"""Address space that a decoder may have; libsndfile itself needs a few MB."""

_UNKNOWN = 1 << 62
"""More frames than that are said by files that do not know how long they are."""

_EXACT = {
    "PCM_U8": "PCM_16",
    "PCM_S8": "PCM_16",
    "PCM_16": "PCM_16",
    "ULAW": "PCM_16",
    "ALAW": "PCM_16",
    "PCM_24": "PCM_24",
}
"""What holds every sample of a subtype exactly; floats hold all others."""


class Reader:
    """The task `read`: `{path, to}` to `{sample_rate, channels, frames, bytes}`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._limits = settings["limits"]
        if sys.platform == "linux":
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))

    def __call__(self, task: dict[str, Any], line: Line) -> dict[str, Any]:
        """Decode the file `path` into the file `to`.

        Raises:
            AudioError: it is no audio, or more or faster than is taken.
        """
        path, to = Path(task["path"]), Path(task["to"])
        temporary = to.with_suffix(".part")
        try:
            with path.open("rb") as raw, soundfile.SoundFile(raw.fileno(), closefd=False) as file:
                self._check_header(file)
                if self._most(file) < file.frames < _UNKNOWN:
                    raise self._too_long(file)
                frames = self._copy(file, temporary, line)
            if frames == 0:
                raise AudioError("the audio is empty: there is not one sample in it")
            publish(temporary, to)
            return {
                "sample_rate": file.samplerate,
                "channels": file.channels,
                "frames": frames,
                "bytes": to.stat().st_size,
            }
        except soundfile.LibsndfileError as error:
            reason = error.error_string.rstrip(".")
            raise AudioError(
                f"the audio cannot be read ({reason}); send WAV, FLAC, OGG, MP3 or AIFF"
            ) from None
        except MemoryError:
            raise AudioError("the audio cannot be read: it does not fit into memory") from None
        finally:
            temporary.unlink(missing_ok=True)

    def _check_header(self, file: soundfile.SoundFile) -> None:
        limits = self._limits
        low, high = limits["min_sample_rate"], limits["max_sample_rate"]
        if not low <= file.samplerate <= high:
            raise AudioError(
                f"the audio has {file.samplerate} samples a second; from {low} to {high} are taken"
            )
        if not 1 <= file.channels <= limits["max_channels"]:
            raise AudioError(
                f"the audio has {file.channels} channels; at most {limits['max_channels']} "
                "are taken"
            )

    def _most(self, file: soundfile.SoundFile) -> int:
        """Frames that are taken."""
        seconds, samples = self._limits["audio_seconds"], self._limits["audio_samples"]
        return int(min(round(seconds * file.samplerate), samples // file.channels))

    def _too_long(self, file: soundfile.SoundFile) -> AudioError:
        seconds = self._most(file) / file.samplerate
        return AudioError(
            f"the audio is longer than the {seconds:.0f} s that are taken; send the part that "
            "matters"
        )

    def _copy(self, file: soundfile.SoundFile, to: Path, line: Line) -> int:
        """Copy block by block; the number of frames that there really were."""
        subtype = _EXACT.get(file.subtype, "FLOAT")
        frames = 0
        with soundfile.SoundFile(
            to, "w", file.samplerate, file.channels, subtype, format="WAV"
        ) as copy:
            # 24 bits in floats of 32 are exact, but libsndfile scales floats by 2²³ - 1.
            dtype = "float32" if subtype == "FLOAT" else "int32"
            while True:
                block = file.read(_BLOCK_SAMPLES // file.channels, dtype=dtype, always_2d=True)
                line.check()
                if not len(block):
                    return frames
                frames += len(block)
                if frames > self._most(file):
                    raise self._too_long(file)
                if dtype == "float32" and not (np.abs(block) < LOUDEST).all():
                    raise AudioError(
                        "the audio holds samples that are no sound (NaN, infinity, or far too loud)"
                    )
                copy.write(block)
