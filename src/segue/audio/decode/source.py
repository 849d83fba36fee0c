"""Open a file of any format as one stream of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

import numpy as np
import soxr

from ...errors import AudioError
from ..channels import to_channels, usual_layout, vorbis_order
from . import chunks, mpeg, ogg
from .mpeg import after_tags
from .sndfile import UnrecognizedFormatError, open_sndfile
from .view import Bytes, View, converted

if TYPE_CHECKING:
    from .ffmpeg import Ffmpeg

_MOST_PARTS = 1_000
"""Concatenated files in a file; one with more is hostile."""

_JUNK_BYTES = 4096
"""The most bytes between frames that are not worth a note."""


class Decoder(Protocol):
    """The decoder of one part; see `Sndfile`."""

    sample_rate: int
    channels: int
    subtype: str | None
    layout: int | None
    declared: int | None
    tolerance: float
    damaged: str | None

    def blocks(self, dtype: str) -> Iterator[np.ndarray]:
        """Decode blocks of samples `(T, C)`."""

    def close(self) -> None:
        """Close the file."""


Opener = Callable[[], Decoder]


class Source:
    """The samples of a file, all its parts concatenated.

    Args:
        parts: opens each; parts with another rate or other channels are converted to the first's.
        checked: whether the declared length of a part is compared with the decoded one.

    Attributes:
        sample_rate, channels, subtype, layout, declared: of the first part; see `Sndfile`.
        notes: for the user, one line each; complete when all blocks have been read.

    Raises:
        AudioError: no part can be opened.
    """

    def __init__(self, parts: Sequence[Opener], checked: bool = True) -> None:
        self._left = list(parts[:_MOST_PARTS])
        self._checked = checked
        self.notes: list[str] = []
        if len(parts) > 1:
            count = f"{len(parts)} recordings lie one behind the other in it"
            all_of_them = "all are read" if len(parts) <= _MOST_PARTS else f"{_MOST_PARTS} are read"
            self.notes.append(f"{count}: {all_of_them}")
        first = self._next()
        if first is None:
            raise AudioError(self._failed or "there is no sound in it")
        self._decoder: Decoder | None = first
        self.sample_rate, self.channels = first.sample_rate, first.channels
        self.subtype, self.layout, self.declared = first.subtype, first.layout, first.declared

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _next(self) -> Decoder | None:
        """Open the next part that can be."""
        self._failed = None
        while self._left:
            try:
                return self._left.pop(0)()
            except AudioError as error:
                self._failed = self._failed or str(error)
        return None

    def blocks(self, dtype: str) -> Iterator[np.ndarray]:
        """Decode blocks `(T, C)` of the type `float32`, `float64` or `int32` to the end; once."""
        damaged, unread = False, False
        while (decoder := self._decoder) is not None:
            read = 0
            for block in self._conformed(decoder, dtype):
                read += len(block)
                yield block
            damaged |= decoder.damaged is not None
            self._check(decoder, read)
            self.close()
            self._decoder = self._next()
            unread |= self._failed is not None
        if damaged or unread:
            self.notes.append("some of it is damaged, and is silent or left out")

    def _conformed(self, decoder: Decoder, dtype: str) -> Iterator[np.ndarray]:
        """The blocks of a part, converted to the rate and the channels of the first."""
        rate, channels = self.sample_rate, self.channels
        if (decoder.sample_rate, decoder.channels) == (rate, channels):
            yield from decoder.blocks(dtype)
            return
        resampler = None
        if decoder.sample_rate != rate:
            resampler = soxr.ResampleStream(decoder.sample_rate, rate, channels, quality="VHQ")
        layout = self.layout if channels > decoder.channels else decoder.layout
        for block in decoder.blocks("float32"):
            conformed = to_channels(block, channels, layout)
            if resampler is not None:
                conformed = resampler.resample_chunk(np.ascontiguousarray(conformed))
            yield converted(conformed, dtype)
        if resampler is not None:
            rest = resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True)
            yield converted(rest, dtype)

    def _check(self, decoder: Decoder, read: int) -> None:
        if self._checked and decoder.declared is not None:
            rate = decoder.sample_rate
            present = read * rate / self.sample_rate
            if abs(present - decoder.declared) > decoder.tolerance * rate:
                self.note_length(decoder.declared / rate, present / rate)

    def note_length(self, declared: float | None, present: float) -> None:
        """Note that the header declares `declared` seconds (None: no length), not `present`."""
        says = "does not say how long it is" if declared is None else f"says {_time(declared)}"
        self.notes.append(
            f"its header {says}, and {_time(present)} of sound are there: these count"
        )


def _time(seconds: float) -> str:
    return f"{seconds:.4g} s" if seconds < 3600 else f"{seconds / 3600:.3g} h"


def open_source(file: BinaryIO, seconds: float | None = None) -> Source:
    """Open a file by its content.

    Args:
        file: a file of the system, unbuffered, or an object with the methods of one.
        seconds: the length that is read, if it is not all.

    Raises:
        AudioError: it is not audio of a known format; the message does not name the file.
    """
    data = Bytes(file)
    if data.size == 0:
        raise AudioError("it is empty")
    start = after_tags(data) if data.at(0, 3) in (b"ID3", b"APE") else 0
    whole = file
    if start:
        whole = cast(BinaryIO, View(file, [(start, data.size)]))
        data = Bytes(whole)
    head = data.at(0, 16)
    if (plan := chunks.plan(data)) is not None:
        return _open_chunked(whole, plan)
    if head[:4] == b"OggS" and (chain := ogg.links(data)):
        return _open_ogg(whole, chain)
    if head[:4] == b"fLaC":
        return _open_flac(whole, data)
    if not _is_known(head) and (stream := mpeg.walk(data, seconds)) is not None:
        return _open_mpeg(whole, stream, seconds is None)
    return Source([lambda: _open_any(whole)])


def _is_known(head: bytes) -> bool:
    """Whether a file is in a container, so that bare MPEG frames are not looked for."""
    return head[4:8] == b"ftyp" or head.startswith(
        (b"RIFF", b"\x1aE\xdf\xa3", b"0&\xb2u", b"wvpk", b"MAC ", b"TTA1", b"riff", b"MThd", b"FLV")
    )


def _open_chunked(file: BinaryIO, plan: chunks.Plan) -> Source:
    """Open WAV or a related format."""
    repaired = file if plan.pieces is None else cast(BinaryIO, View(file, plan.pieces))
    source = Source(
        [lambda: _open_any(repaired, plan.layout)], checked=plan.declared == plan.present
    )
    if plan.declared != plan.present:
        present = (source.declared or 0) / source.sample_rate
        declared = None if plan.declared is None else present * plan.declared / max(1, plan.present)
        source.note_length(declared, present)
    return source


def _open_flac(file: BinaryIO, data: Bytes) -> Source:
    """Open FLAC, of which several may be concatenated."""
    starts, at = [0], 4
    while (at := data.find(b"fLaC", at)) >= 0:
        # The letters, and the head of a block of 34 bytes, which comes first.
        if data.at(at + 4, 4) in (b"\0\0\0\x22", b"\x80\0\0\x22"):
            starts.append(at)
        at += 4
    ends = [*starts[1:], data.size]
    views = [cast(BinaryIO, View(file, [piece])) for piece in zip(starts, ends, strict=True)]
    return Source([partial(_ffmpeg, view, "flac") for view in views])


def _open_mpeg(file: BinaryIO, stream: mpeg.Stream, all_of_it: bool) -> Source:
    """Open MPEG audio."""
    views = [cast(BinaryIO, View(file, part.repaired())) for part in stream.parts]
    source = Source([partial(_ffmpeg, view, "mp3") for view in views], checked=False)
    if not all_of_it:
        return source
    first = stream.parts[0]
    second = first.frame_samples / first.sample_rate
    # Some count the frame with the header, or not the last one.
    if len(views) == 1 and first.declared is not None and abs(first.declared - first.frames) > 2:
        source.note_length(first.declared * second, first.frames * second)
    elif stream.cut:
        source.notes.append("it ends within a frame, as what was cut off does")
    if stream.junk > _JUNK_BYTES:
        source.notes.append(f"{stream.junk} bytes in it are no sound, and were left out")
    return source


def _open_ogg(file: BinaryIO, chain: list[ogg.Link]) -> Source:
    """Open Ogg."""
    source = Source([partial(_open_link, file, link) for link in chain], checked=False)
    if not chain[-1].ended:
        source.notes.append("the end of it is missing, as of what was cut off: the rest is read")
    return source


def _open_link(file: BinaryIO, link: ogg.Link) -> Decoder:
    view = cast(BinaryIO, View(file, [(link.start, link.end)]))
    opus = link.head.startswith(b"OpusHead")
    if link.streams == 1 and link.plain and (opus or link.head.startswith(b"\x01vorbis")):
        # Opus with a mapping of a family above 1 has channels for no speakers (RFC 7845, 5.1.1.3).
        speakerless = opus and link.head[18:19] > b"\x01"
        with suppress(AudioError):
            opened = open_sndfile(view)
            if speakerless:
                opened.layout = 0
            elif opened.channels > 2:
                opened.reorder(vorbis_order(opened.channels), usual_layout(opened.channels))
            return opened
    return _ffmpeg(view)


def _open_any(file: BinaryIO, layout: int | None = None) -> Decoder:
    """Open with libsndfile, or else with FFmpeg."""
    try:
        opened = open_sndfile(file)
    except AudioError as refused:
        try:
            return _ffmpeg(file)
        except AudioError as error:
            known = not isinstance(refused, UnrecognizedFormatError)
            raise refused if known else error from None
    opened.layout = layout
    if layout is None and opened.channels > 2 and opened.format in ("AIFF", "CAF", "W64"):
        at = file.tell()  # libsndfile's position, too
        named, order = _speakers_of(file, opened.channels)
        file.seek(at)
        opened.reorder(order, named)
    return opened


def _speakers_of(file: BinaryIO, channels: int) -> tuple[int | None, list[int] | None]:
    """The layout that an AIFF, CAF or W64 names, and the position of each of its channels."""
    try:
        opened = _ffmpeg(file)
    except AudioError:
        return None, None
    try:
        same = opened.channels == channels
        return (opened.layout, opened.order) if same else (None, None)
    finally:
        opened.close()


def _ffmpeg(file: BinaryIO, format_: str | None = None) -> Ffmpeg:
    # Imported late: it takes a tenth of a second, and most music is WAV.
    from .ffmpeg import Ffmpeg

    return Ffmpeg(file, format_)
