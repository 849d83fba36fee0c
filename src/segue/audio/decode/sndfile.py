"""libsndfile: what it decodes, block by block."""

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
        file: a file of the system, or something that is read like one.

    Attributes:
        sample_rate: in Hz.
        channels: how many.
        subtype: how a sample is stored, by libsndfile's name.
        format: libsndfile's name of it.
        layout: of the channels, where it is known; see `segue.audio.channels`.
        declared: frames that the file says it has; None if it does not count them.
        slack: seconds by which `declared` may be wrong all the same.
        damaged: what went wrong on the way, if something did.

    Raises:
        AudioError: libsndfile does not open it.
    """

    slack = 0.0

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        if isinstance(file, View):
            opened = soundfile.SoundFile(file)
        else:
            # By descriptor: with a name, its ending would count for more than what is in the file.
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
        """Samples `(T, C)` of the type `float32`, `float64` or `int32`."""
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
        """Take channel n from where `order[n]` says; what comes out has a layout then."""
        self._order, self.layout = order, layout

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def open_sndfile(file: BinaryIO) -> Sndfile:
    """See `Sndfile`."""
    try:
        return Sndfile(file)
    except soundfile.LibsndfileError as error:
        kind = UnrecognizedFormatError if error.code == _UNRECOGNIZED else AudioError
        raise kind(reason(error)) from None


def reason(error: soundfile.LibsndfileError) -> str:
    """What libsndfile says, without its full stop."""
    said: str = error.error_string.rstrip(".")
    return said
