"""Decode with FFmpeg (PyAV) what libsndfile does not decode, or only in part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import cache
from itertools import islice
from typing import Any, BinaryIO

import av
import av.error
import numpy as np

from ...errors import AudioError
from .. import channels as speakers
from .view import converted

_FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,caf,dsf,dts,eac3,flac,iff,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,"
    "mpc,mpc8,ogg,tak,truehd,tta,w64,wav,wv"
)
"""Containers of music.  Others name files and addresses that would be opened, or hold no music;
MPEG audio is only read where its frames have been found, since much looks like it."""

_DECODERS = {
    *("aac", "aac_latm", "ac3", "alac", "amrnb", "amrwb", "ape", "dca", "eac3", "flac", "gsm"),
    *("gsm_ms", "libopus", "mlp", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "mpc7"),
    *("mpc8", "opus", "shorten", "tak", "truehd", "tta", "vorbis", "wavpack", "wmalossless"),
    *("wmapro", "wmav1", "wmav2", "wmavoice"),
}

# Formats whose header has the length; that of others is estimated from the bit rate.
_COUNTED = {"flac": 0.0, "mov": 0.25, "matroska": 0.25, "asf": 0.5, "wv": 0.0, "tta": 0.0}
"""The seconds by which it may be wrong in a sound file."""

_NAMES = {"mp3": "MPEG_LAYER_III", "mp2": "MPEG_LAYER_II", "mp1": "MPEG_LAYER_I"}
_INTEGERS = {"u8": "PCM_U8", "s16": "PCM_16", "flt": "FLOAT", "dbl": "DOUBLE"}

_MOST_SILENT = 10
"""Seconds that damage may have removed; a position that implies more is damaged itself."""

_LONGEST_FLAC_FRAME, _MOST_ENDS = 1 << 20, 50

_MOST_DAMAGED = 100_000
"""Consecutive packets that decode to nothing."""


@cache
def _codecs() -> frozenset[str]:
    """The allowed decoders."""
    simple = {name for name in av.codecs_available if name.startswith(("pcm_", "adpcm_", "dsd_"))}
    return frozenset(_DECODERS | simple)


class Ffmpeg:
    """A file that FFmpeg opens; see `Sndfile` for the attributes of all decoders.

    Args:
        file: an object with the methods of a file.
        format_: FFmpeg's name of the container, where it is known.

    Attributes:
        order: the position of each channel in the file; None if they are in WAV's order.

    Raises:
        AudioError: FFmpeg does not open it, or it has no sound.
    """

    def __init__(self, file: BinaryIO, format_: str | None = None) -> None:
        file.seek(0)
        options = {
            "format_whitelist": format_ or _FORMATS,
            "codec_whitelist": ",".join(sorted(_codecs())),
        }
        self.damaged: str | None = None
        try:
            self._container: Any = av.open(
                file, format=format_, options=options, metadata_errors="replace"
            )
        except av.error.FFmpegError as error:
            raise AudioError(_reason(error)) from None
        try:
            self._prepare()
        except BaseException:
            self._container.close()
            raise

    def _prepare(self) -> None:
        stream = self._container.streams.best("audio")
        if stream is None:
            raise AudioError("there is no sound in it")
        context = stream.codec_context
        name = None if context is None else context.codec.name
        if name not in _codecs():
            raise AudioError("it is in a codec that is not read")
        self._stream = stream
        if name == "flac":  # damage is reported, not decoded as noise
            context.options = {"err_detect": "crccheck+explode"}
        context.thread_count = 1
        self._frames = self._decoded()
        self._first = next(self._frames, None)
        if self._first is None:
            raise AudioError(self.damaged or "not one sample of it can be read")
        self.sample_rate = int(self._first.sample_rate)
        self.channels = int(self._first.layout.nb_channels)
        self.layout, self.order = self._layout(self._first)
        self.subtype: str | None = self._subtype(self._first)
        counted = _COUNTED.get(self._container.format.name.split(",")[0])
        self.tolerance = counted or 0.0
        self.declared = None if counted is None else self._counted()

    def _counted(self) -> int | None:
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            seconds = stream.duration * stream.time_base
        elif self._container.duration is not None:
            seconds = Fraction(self._container.duration, 1_000_000)
        else:
            return None
        return round(seconds * self.sample_rate) if seconds > 0 else None

    def _layout(self, frame: Any) -> tuple[int | None, list[int] | None]:
        """The layout, and the position of each of its channels in a frame."""
        names = [channel.name for channel in frame.layout.channels]
        layout = speakers.layout_of(names)
        if layout is None:
            return None, None
        if self._stream.codec_context.name == "flac" and len(names) in (5, 6):
            # "back/surround": FFmpeg takes them for sides, all others for backs.
            layout = speakers.usual_layout(len(names))
        order = sorted(range(len(names)), key=lambda n: speakers.SPEAKERS.index(names[n]))
        return layout, None if order == sorted(order) else order

    def _subtype(self, frame: Any) -> str:
        codec = self._stream.codec_context.codec
        name: str = codec.canonical_name
        base = frame.format.name.removesuffix("p")
        if not codec.lossless:
            return _NAMES.get(name, name.upper())
        if base != "s32":
            return _INTEGERS.get(base, name.upper())
        extra = bytes(self._stream.codec_context.extradata or b"")
        if name == "flac" and len(extra) >= 14:
            bits = ((extra[12] & 1) << 4 | extra[13] >> 4) + 1
        elif name == "alac" and len(extra) >= 18:
            bits = extra[17]
        else:
            bits = 32 if (frame.to_ndarray() & 0xFF).any() else 24
        return "PCM_24" if bits <= 24 else "PCM_32"

    def _decoded(self) -> Iterator[Any]:
        """Decode frames to the end of the file."""
        empty, failed = 0, None
        packets = self._container.demux(self._stream)
        while empty < _MOST_DAMAGED:
            empty += 1
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, ValueError) as error:
                self.damaged = _reason(error)
                packet = None
            if packet is None:
                break
            try:
                frames = packet.decode()
            except av.error.EOFError:
                break
            except (av.error.FFmpegError, ValueError) as error:
                self.damaged, failed = _reason(error), packet
                continue
            for frame in frames:
                if frame.samples:
                    empty, failed = 0, None
                    yield frame
        if failed is not None:
            yield from self._last(failed)

    def _last(self, packet: Any) -> Iterator[Any]:
        """Decode the last packet of a FLAC, which FFmpeg extends to the end of the file."""
        context = self._stream.codec_context
        if context.name != "flac":
            return
        for end in islice(_frame_ends(bytes(packet)[:_LONGEST_FLAC_FRAME]), _MOST_ENDS):
            lenient: Any = av.CodecContext.create("flac", "r")
            lenient.extradata = context.extradata
            with suppress(av.error.FFmpegError, ValueError):
                frames = lenient.decode(av.Packet(bytes(packet)[:end]))
                self.damaged = None
                yield from frames
                return

    def blocks(self, dtype: str) -> Iterator[np.ndarray]:
        """Decode blocks of samples `(T, C)` of the type `float32`, `float64` or `int32`."""
        frame, self._first = self._first, None
        expected = None
        while frame is not None:
            if int(frame.sample_rate) != self.sample_rate:
                self.damaged = "its sample rate changes on the way"
                return
            # Damage becomes silence, so that what follows keeps its time.
            in_samples = frame.pts is not None and frame.time_base == Fraction(1, self.sample_rate)
            if in_samples and expected is not None and self.damaged is not None:
                gap = min(frame.pts - expected, _MOST_SILENT * self.sample_rate)
                if gap > 0:
                    yield np.zeros((gap, self.channels), dtype)
            expected = frame.pts + frame.samples if in_samples else None
            samples = _samples(frame)
            same = samples.shape[1] == self.channels
            if same and self.order is not None:
                samples = samples[:, self.order]
            samples = converted(samples, dtype)
            if not same:
                samples = speakers.to_channels(samples, self.channels, self.layout)
            yield samples
            frame = next(self._frames, None)

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def _frame_ends(data: bytes) -> Iterator[int]:
    """Where a FLAC frame at the start of `data` may end: where its CRC-16 is 0."""
    table = _crc_table()
    crc = 0
    for n, byte in enumerate(data, 1):
        crc = (crc << 8 & 0xFF00) ^ table[crc >> 8 ^ byte]
        if crc == 0:
            yield n


@cache
def _crc_table() -> list[int]:
    """Of the polynomial 0x8005 (RFC 9639, section 9.3)."""
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = crc << 1 & 0xFFFF ^ (0x8005 if crc & 0x8000 else 0)
        table.append(crc)
    return table


def _samples(frame: Any) -> np.ndarray:
    """The samples `(T, C)` of a frame, in the type that they are stored in."""
    samples: np.ndarray = frame.to_ndarray()
    if frame.format.is_planar:
        return samples.T
    return samples.reshape(-1, int(frame.layout.nb_channels))


def _reason(error: Exception) -> str:
    message = getattr(error, "strerror", None) or str(error)
    if isinstance(error, av.error.EOFError):
        return "it ends before there is any sound"
    if isinstance(error, av.error.InvalidDataError):
        return "it is damaged, or no audio that is known"
    return message[:1].lower() + message[1:]
