"""Find the frames of MPEG audio (MP3, and layers I and II), one by one.

The length of a file is that of its frames; a Xing or VBRI header is often wrong about it.  Tags,
zeros and junk may be before, behind and between frames, and whole files may be concatenated: each
is a part here, since a decoder would apply the first one's header to all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .view import Bytes, Piece

# kbit/s, by index 1 to 14; ISO 11172-3 table 2.4.2.3, ISO 13818-3 table 2.4.2.3.
_V1_L1 = (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448)
_V1_L2 = (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
_V1_L3 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_V2_L1 = (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_V2_L23 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_BITRATES = {
    (1, 1): _V1_L1, (1, 2): _V1_L2, (1, 3): _V1_L3,
    (2, 1): _V2_L1, (2, 2): _V2_L23, (2, 3): _V2_L23,
}  # fmt: skip
_RATES = (44_100, 48_000, 32_000)
_VERSIONS = {0: 4, 2: 2, 3: 1}
"""The divisor of a rate: MPEG 2.5, 2 and 1."""

_SYNC = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]", re.DOTALL)
"""The first two bytes of frames of layers I to III."""

_SEARCHED = 1 << 16
"""The most bytes before the first frame."""

_BLOCK = 1 << 12

_CONFIRMED = 3
"""Consecutive frames that make a stream."""

_MOST_FALSE = 200_000
"""The most false frame headers; a file with more was made to waste time."""


@dataclass
class Part:
    """Consecutive frames of one stream.

    Attributes:
        pieces: first byte of each run of frames, and one behind its last.
        sample_rate: in Hz.
        frames: their number, without that of a Xing header.
        frame_samples: samples of each channel in a frame.
        declared: the number of frames by a Xing or VBRI header.
        count_at: the position of that number in a Xing header.
    """

    sample_rate: int
    frame_samples: int
    pieces: list[tuple[int, int]] = field(default_factory=list)
    frames: int = 0
    declared: int | None = None
    count_at: int | None = None

    def add(self, start: int, end: int) -> None:
        """Append a frame."""
        if self.pieces and self.pieces[-1][1] == start:
            self.pieces[-1] = (self.pieces[-1][0], end)
        else:
            self.pieces.append((start, end))

    def repaired(self) -> list[Piece]:
        """Return the pieces, with the number of frames corrected in a Xing header with too few.

        FFmpeg would cut the padding at the end that the header declares.
        """
        if self.count_at is None or self.declared is None or self.declared >= self.frames:
            return list(self.pieces)
        pieces: list[Piece] = []
        for start, end in self.pieces:
            if start <= self.count_at < end:
                count = self.frames.to_bytes(4, "big")
                pieces += [(start, self.count_at), count, (self.count_at + 4, end)]
            else:
                pieces.append((start, end))
        return pieces


@dataclass(frozen=True)
class Stream:
    """The frames of a file.

    Attributes:
        parts: each has at least one frame.
        junk: bytes between frames that are no tags and no zeros.
        cut: whether the last frame is not whole.
    """

    parts: list[Part]
    junk: int
    cut: bool


@dataclass(frozen=True)
class _Frame:
    kind: tuple[int, int, int]
    sample_rate: int
    length: int
    samples: int
    side_info: int


def _frame(header: bytes) -> _Frame | None:
    """Parse four bytes as the header of a frame; None if they are none, or of free length."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    index, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or index in (0, 15) or rate == 3:
        return None
    divisor = _VERSIONS[version]
    sample_rate = _RATES[rate] // divisor
    bits = 1000 * _BITRATES[min(divisor, 2), layer][index - 1]
    padding = header[2] >> 1 & 1
    samples = 384 if layer == 1 else 576 if layer == 3 and divisor > 1 else 1152
    if layer == 1:
        length = (12 * bits // sample_rate + padding) * 4
    else:
        length = samples // 8 * bits // sample_rate + padding
    mono = header[3] >> 6 == 3
    side_info = (17 if mono else 32) if divisor == 1 else (9 if mono else 17)
    return _Frame((version, layer, rate), sample_rate, length, samples, side_info)


def after_tags(data: Bytes, at: int = 0) -> int:
    """Skip the tags and zeros at `at`, if there are any; return the position behind them."""
    while (end := _tag_end(data, at)) > at:
        at = min(end, data.size)
    return at


def _tag_end(data: Bytes, at: int) -> int:
    """The end of the tag or zeros at `at`; `at` if there are none."""
    head = data.at(at, 32)
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 0x80:
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte
        return at + 10 + size + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        # Its length does not include a header, but a footer.
        size = int.from_bytes(head[12:16], "little")
        is_header = head[23] & 0x20
        return at + 32 + (size if is_header else 0)
    if head[:3] == b"TAG" and data.size - at in (128, 128 + 227):
        return data.size
    if head[:4] == b"TAG+":
        return at + 227
    if head[:3] == b"TAG":
        return at + 128
    if head[:11] == b"LYRICSBEGIN":
        ends = [data.find(mark, at) for mark in (b"LYRICS200", b"LYRICSEND")]
        return min((end + 9 for end in ends if end >= 0), default=at)
    if head[:1] == b"\0":
        while at < data.size:
            window = data.at(at, 4096)
            left = len(window.lstrip(b"\0"))
            at += len(window) - left
            if left:
                break
    return at


def walk(data: Bytes, seconds: float | None = None) -> Stream | None:
    """Find the frames of a file.

    Args:
        data: the file.
        seconds: the length to look for; None for all.

    Returns:
        None if it is not MPEG audio.
    """
    parts: list[Part] = []
    junk, false, fresh, cut = 0, 0, True, False
    kind = None
    remaining = float("inf") if seconds is None else seconds
    at = after_tags(data)
    while at < data.size:
        frame = _frame(data.at(at, 4))
        if frame is not None and (frame.kind == kind or _confirmed(data, at)):
            if at + frame.length > data.size:
                cut = True
                break
            info = _info(data, at, frame)
            if fresh or frame.kind != kind or info is not None:
                if parts and parts[-1].frames and remaining <= 0:
                    break
                parts.append(Part(frame.sample_rate, frame.samples))
                fresh, kind = False, frame.kind
            part = parts[-1]
            if info is not None:
                part.declared, part.count_at = info
            else:
                part.frames += 1
                remaining -= frame.samples / frame.sample_rate
            part.add(at, at + frame.length)
            at += frame.length
            # A few more, since a decoder cuts both ends.
            if remaining < -0.2:
                break
            continue
        behind = after_tags(data, at)
        if behind > at:
            fresh, at = data.at(at, 3) == b"ID3" or fresh, behind
            continue
        found, wrong = _next(data, at + 1, _SEARCHED if not parts else None)
        false += wrong
        if found is None or false > _MOST_FALSE:
            junk += data.size - at
            break
        junk, at = junk + found - at, found
    parts = [part for part in parts if part.frames]
    return Stream(parts, junk, cut) if parts else None


def _next(data: Bytes, start: int, most: int | None) -> tuple[int | None, int]:
    """Where frames continue behind `start`, and the number of false headers before."""
    wrong, end = 0, data.size if most is None else min(data.size, start + most)
    while start < end:
        window = data.at(start, _BLOCK)
        for match in _SYNC.finditer(window):
            if _confirmed(data, start + match.start()):
                return start + match.start(), wrong
            wrong += 1
            if wrong > _MOST_FALSE:
                return None, wrong
        if len(window) < _BLOCK:
            break
        start += len(window) - 1
    return None, wrong


def _confirmed(data: Bytes, at: int) -> bool:
    """Whether a frame at `at` is followed by others of its kind, or by the end."""
    kind = None
    for _ in range(_CONFIRMED):
        frame = _frame(data.at(at, 4))
        if frame is None or kind not in (None, frame.kind):
            ended = at >= data.size or data.at(at, 3) in (b"TAG", b"ID3", b"APE", b"LYR", b"\0\0\0")
            return kind is not None and ended
        kind = frame.kind
        at += frame.length
    return True


def _info(data: Bytes, at: int, frame: _Frame) -> tuple[int | None, int | None] | None:
    """The number of frames by a Xing or VBRI header, and its position; None without a header."""
    content = data.at(at, 64)
    xing = 4 + frame.side_info
    if content[xing : xing + 4] in (b"Xing", b"Info"):
        if content[xing + 7] & 1:
            return int.from_bytes(content[xing + 8 : xing + 12], "big"), at + xing + 8
        return None, None
    if content[36:40] == b"VBRI":
        return int.from_bytes(content[50:54], "big"), None
    return None
