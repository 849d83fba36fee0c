"""Decoding an upload: to a plain WAV of known length, or to one line that says why not.

Runs in a process of its own, because a hostile file attacks the decoder, and within limits,
because a header can promise anything: what counts is what comes out, block by block.
"""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from ...atomic import publish
from ...audio import LOUDEST
from ...audio.decode import Source, open_source
from ...audio.encode import new_wav
from ...channel import Message
from ...errors import AudioError
from .task_loop import TaskChannel

_MEMORY = 3 << 30
"""Bytes of address space for a decoder; libsndfile needs a few MB, FFmpeg some hundred."""

_EXACT = {
    "PCM_U8": "PCM_16",
    "PCM_S8": "PCM_16",
    "PCM_16": "PCM_16",
    "ULAW": "PCM_16",
    "ALAW": "PCM_16",
    "PCM_24": "PCM_24",
}
"""The subtype that holds every sample of another exactly; floats hold those of all others."""


class AudioDecoder:
    """Decodes uploads; creating one limits the memory of this process.

    Args:
        limits: those of `segue.service.settings.Limits`, by name.
    """

    def __init__(self, limits: dict[str, Any]) -> None:
        self._limits = limits
        # Now, and not with the first file that needs it: its memory shall not count for that one's.
        import_module("segue.audio.decode.ffmpeg")
        if sys.platform == "linux":
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))

    def decode(self, task: Message, channel: TaskChannel) -> Message:
        """Decode the file `path` into the file `to`.

        Args:
            task: `{path, to}`.
            channel: stops the task where it was cancelled.

        Returns:
            `{sample_rate, channels, frames, bytes, notes}`: the rate in Hz, frames per channel, the
            size of `to`, and what the user should know, one line each.

        Raises:
            AudioError: it is no audio, or longer, faster or wider than the limits.
            OSError: `to` cannot be written.
        """
        path, to = Path(task["path"]), Path(task["to"])
        temporary = to.with_suffix(".part")
        try:
            with path.open("rb", buffering=0) as file, _opened(file) as source:
                self._check_header(source)
                frames = self._copy(source, temporary, channel)
            if frames == 0:
                raise AudioError("the audio is empty: there is not one sample in it")
            publish(temporary, to)
            return {
                "sample_rate": source.sample_rate,
                "channels": source.channels,
                "frames": frames,
                "bytes": to.stat().st_size,
                "notes": [f"the audio: {note}" for note in source.notes],
            }
        except MemoryError:
            raise AudioError("the audio cannot be read: it does not fit into memory") from None
        except soundfile.LibsndfileError as error:  # of the copy
            raise OSError(error.error_string) from None
        finally:
            temporary.unlink(missing_ok=True)

    def _check_header(self, source: Source) -> None:
        limits = self._limits
        low, high = limits["min_sample_rate"], limits["max_sample_rate"]
        if not low <= source.sample_rate <= high:
            raise AudioError(
                f"the audio has {source.sample_rate} samples a second; from {low} to {high} are "
                "taken"
            )
        if not 1 <= source.channels <= limits["max_channels"]:
            raise AudioError(
                f"the audio has {source.channels} channels; at most {limits['max_channels']} "
                "are taken"
            )

    def _max_frames(self, source: Source) -> int:
        seconds, samples = self._limits["audio_seconds"], self._limits["audio_samples"]
        return int(min(round(seconds * source.sample_rate), samples // source.channels))

    def _too_long(self, source: Source) -> AudioError:
        seconds = self._max_frames(source) / source.sample_rate
        return AudioError(
            f"the audio is longer than the {seconds:.0f} s that are taken; send the part that "
            "matters"
        )

    def _copy(self, source: Source, to: Path, channel: TaskChannel) -> int:
        """Copy block by block; return how many frames there really were."""
        subtype = _EXACT.get(source.subtype or "", "FLOAT")
        frames, rate, channels = 0, source.sample_rate, source.channels
        with new_wav(to, rate, channels, subtype, source.layout) as copy:
            # 24 bits in floats of 32 are exact, but libsndfile scales floats by 2²³ - 1.
            dtype = "float32" if subtype == "FLOAT" else "int32"
            for block in source.blocks(dtype):
                channel.check()
                frames += len(block)
                if frames > self._max_frames(source):
                    raise self._too_long(source)
                if dtype == "float32" and not (np.abs(block) < LOUDEST).all():
                    raise AudioError(
                        "the audio holds samples that are no sound (NaN, infinity, or far too loud)"
                    )
                copy.write(block)
        return frames


def _opened(file: BinaryIO) -> Source:
    try:
        return open_source(file)
    except AudioError as error:
        raise AudioError(
            f"the audio cannot be read ({error}); send WAV, FLAC, OGG, MP3, M4A or AIFF"
        ) from None
