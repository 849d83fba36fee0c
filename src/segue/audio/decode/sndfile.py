"""Decode with libsndfile, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import soundfile

from ...errors import AudioError
from .view import View

BLOCK_SAMPLES = 1 << 18
"""Of all channels together, decoded at a time."""


_UNRECOGNIZED = 1
"""`SF_ERR_UNRECOGNIZED_FORMAT` of `sndfile.h`."""


class UnrecognizedFormatError(AudioError):
    """libsndfile does not know what kind of file this is; another decoder may."""


class Sndfile:
    """A file that libsndfile opens.

    Args:
        file: a file of the system, or an object with the methods of one.

    Attributes:
        sample_rate: in Hz.
        channels: how many.
        subtype: libsndfile's name of the encoding.
        format: libsndfile's name of the format.
        layout: of the channels, where it is known; see `segue.audio.channels`.
        declared: the number of frames by the file's header; None if it has none.
        tolerance: seconds by which `declared` may be wrong in a sound file.
        damaged: the error that ended decoding, if one did.

    Raises:
        AudioError: libsndfile does not open it.
    """

    tolerance = 0.0

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        if isinstance(file, View):
            opened = soundfile.SoundFile(file)
        else:
            # By descriptor: of a name, libsndfile would trust the suffix more than the content.
            opened = soundfile.SoundFile(file.fileno(), closefd=False)
        self._file = opened
        self._order: Sequence[int] | None = None
        self.format: str = opened.format
        self.sample_rate: int = opened.samplerate
        self.channels: int = opened.channels
        self.subtype: str | None = opened.subtype
        self.layout: int | None = None
        self.declared: int | None = opened.frames if opened.frames < 1 << 62 else None
        self.damaged: str | None = None

    def blocks(self, dtype: str) -> Iterator[np.ndarray]:
        """Decode blocks of samples `(T, C)` of the type `float32`, `float64` or `int32`."""
        count = max(1, BLOCK_SAMPLES // self.channels)
        while True:
            try:
                block = self._file.read(count, dtype=dtype, always_2d=True)
            except soundfile.LibsndfileError as error:
                self.damaged = reason(error)
                return
            if not len(block):
                return
            yield block if self._order is None else block[:, self._order]

    def reorder(self, order: Sequence[int] | None, layout: int | None) -> None:
        """Take channel n of the result from channel `order[n]`; the result has `layout`."""
        self._order, self.layout = order, layout

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_sndfile(file: BinaryIO) -> Sndfile:
    """Open a file with libsndfile; see `Sndfile`.

    Raises:
        AudioError: libsndfile does not open it.
    """
    try:
        return Sndfile(file)
    except soundfile.LibsndfileError as error:
        kind = UnrecognizedFormatError if error.code == _UNRECOGNIZED else AudioError
        raise kind(reason(error)) from None


def reason(error: soundfile.LibsndfileError) -> str:
    """Return libsndfile's message without its full stop."""
    message: str = error.error_string.rstrip(".")
    return message
