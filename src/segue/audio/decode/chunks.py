"""Find the samples of WAV, RF64, BW64, W64, AIFF, CAF and AU, whatever the header says.

A recorder that crashes leaves a length of 0 or that of its last save; a pipe leaves the largest
length; a truncated copy leaves the length of the whole.  Where a header and the file disagree, the
header is repaired in a view of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .view import Bytes, Piece

_TRAILING_CHUNKS = frozenset(
    b"LIST id3  ID3  bext iXML axml chna cue  smpl inst fact PEAK JUNK junk PAD  FLLR acid strc "
    b"cart _PMX plst afsp minf elm1 regn umid DGDA ResU LGWV Cr8r SAUR levl ovwf CSET DISP wavl "
    b"MARK COMT INST MIDI AESD APPL NAME AUTH (c)  ANNO SAXL CHAN FVER COMM "
    b"chan info mark strg pakt peak uuid free kuki edct midi ovvw umid data fmt ds64 "
    b"APET ID3\x02 ID3\x03 ID3\x04".split()
)
"""Names (without trailing blanks) of chunks and tags that follow the samples."""

_MOST_CHUNKS = 10_000

_UNKNOWN = 0xFFFFFFFF

_W64_GUID = bytes.fromhex("2e91cf11a5d628db04c10000")
_W64_OTHERS = bytes.fromhex("f3acd3118cd100c04f8edb8a")
"""What follows the four letters of W64's first chunk, and of most others."""

_EXTENSIBLE = 0xFFFE
_PCM_TAGS = (1, 3, _EXTENSIBLE)


@dataclass(frozen=True)
class Plan:
    """How a file is read.

    Attributes:
        pieces: of the file, repaired; None reads it unchanged.
        declared: bytes of samples by the header; None if it declares no length.
        present: bytes of samples in the file.
        layout: of the channels, where the file has one; see `segue.audio.channels`.
    """

    pieces: list[Piece] | None
    declared: int | None
    present: int
    layout: int | None = None


def plan(data: Bytes) -> Plan | None:
    """Plan how `data` is read; None if it is of another format, or too damaged."""
    head = data.at(0, 12)
    try:
        if head[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX") and head[8:] == b"WAVE":
            return _wav(data, head[:4])
        if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
            return _aiff(data)
        if head[:4] == b"caff":
            return _caf(data)
        if head[:4] == b".snd":
            return _au(data)
        if head[:4] == b"riff" and data.at(4, 12) == _W64_GUID:
            return _w64(data)
    except struct.error:  # it ends within its header
        return None
    return None


def _wav(data: Bytes, magic: bytes) -> Plan | None:
    order = ">" if magic == b"RIFX" else "<"
    sizes: list[int] = []
    layout, frame_bytes, patches = None, 1, {}
    at = 12
    for _ in range(_MOST_CHUNKS):
        name, size = struct.unpack(order + "4sI", data.at(at, 8))
        start = at + 8
        if name == b"data":
            break
        if name == b"ds64":
            sizes = list(struct.unpack("<QQQ", data.at(start, 24)))
            patches[at] = b"JUNK"
        elif name == b"fmt ":
            tag, _, _, _, frame_bytes = struct.unpack(order + "HHIIH", data.at(start, 14))
            if tag == _EXTENSIBLE and size >= 24:
                (layout,) = struct.unpack(order + "I", data.at(start + 20, 4))
            if tag not in _PCM_TAGS:
                frame_bytes = max(1, frame_bytes)
        at = start + size + size % 2
    else:
        return None
    declared: int | None = None if size == _UNKNOWN else size
    if declared is None and sizes and 0 < sizes[1] < 1 << 62:
        declared = sizes[1]
    end = _end(data, start, declared, big=magic == b"RIFX")
    matches = declared is not None and abs(end - start - declared) < max(1, frame_bytes)
    if matches and magic != b"BW64":
        return Plan(None, end - start, end - start, layout)
    patches[0] = magic if magic == b"RIFX" else b"RIFF"
    patches[at + 4] = struct.pack(order + "I", min(end - start, _UNKNOWN))
    declared = end - start if matches else declared
    return Plan(_patched(patches, end), declared, end - start, layout)


def _aiff(data: Bytes) -> Plan | None:
    at, frames_at, frame_bytes = 12, None, 0
    for _ in range(_MOST_CHUNKS):
        name, size = struct.unpack(">4sI", data.at(at, 8))
        if name == b"SSND":
            break
        if name == b"COMM":
            channels, _, bits = struct.unpack(">HIH", data.at(at + 8, 8))
            frames_at, frame_bytes = at + 10, channels * ((bits + 7) // 8)
            if size > 18 and data.at(at + 26, 4) not in (b"NONE", b"sowt", b"twos", b"fl32"):
                frames_at = None  # compressed: so many bytes are not so many frames
        at += 8 + size + size % 2
    else:
        return None
    (offset,) = struct.unpack(">I", data.at(at + 8, 4))
    start = at + 16 + offset
    declared = size - 8 - offset if 8 + offset <= size < _UNKNOWN else None
    end = _end(data, start, declared, big=True)
    if declared is not None and abs(end - start - declared) < max(1, frame_bytes):
        return Plan(None, end - start, end - start)
    if frames_at is None or frame_bytes == 0:
        return Plan(None, declared, end - start)
    present = end - start
    patches = {
        frames_at: struct.pack(">I", min(present // frame_bytes, _UNKNOWN)),
        at + 4: struct.pack(">I", min(present + 8 + offset, _UNKNOWN)),
    }
    return Plan(_patched(patches, end), declared, present)


def _caf(data: Bytes) -> Plan | None:
    at = 8
    for _ in range(_MOST_CHUNKS):
        name, size = struct.unpack(">4sq", data.at(at, 12))
        if name == b"data":
            break
        if size < 0:
            return None
        at += 12 + size
    else:
        return None
    start = at + 16  # four bytes count its edits
    declared = size - 4 if size >= 4 else None
    end = _end(data, start, declared, head=12, big=True)
    if declared == end - start:
        return Plan(None, declared, declared)
    patches = {at + 4: struct.pack(">q", end - start + 4)}
    return Plan(_patched(patches, end), declared, end - start)


def _w64(data: Bytes) -> Plan | None:
    at = 40  # its own head, and the letters of WAVE
    for _ in range(_MOST_CHUNKS):
        name, size = struct.unpack("<4s12xQ", data.at(at, 24))
        if name == b"data":
            break
        at += max(24, size + -size % 8)
    else:
        return None
    start, declared = at + 24, max(0, size - 24)
    present = max(0, data.size - start)
    behind = start + declared + -declared % 8
    known = data.size - behind < 24 or data.at(behind + 4, 12) == _W64_OTHERS
    if declared <= present and known:
        return Plan(None, declared, declared)
    return Plan(None, declared, present)  # libsndfile itself reads to the end


def _au(data: Bytes) -> Plan:
    start, size = struct.unpack(">II", data.at(4, 8))
    present = max(0, data.size - start)
    if size in (_UNKNOWN, present):  # the format's mark of a stream
        return Plan(None, present, present)
    return Plan(_patched({8: struct.pack(">I", _UNKNOWN)}, data.size), size, present)


def _end(data: Bytes, start: int, declared: int | None, head: int = 8, big: bool = False) -> int:
    """Find where samples end that begin at `start`.

    Args:
        data: the file.
        start: of the samples.
        declared: bytes by the header.
        head: bytes before a chunk's content, four of them its name, the others its length.
        big: whether the most significant byte of a length comes first.
    """
    start = min(start, data.size)
    if declared is None or start + declared >= data.size:
        return data.size
    end = start + declared
    behind = end + (end % 2 if head == 8 else 0)
    if data.size - behind < head:
        return end
    name = data.at(behind, 4)
    known = name in _TRAILING_CHUNKS or name.rstrip(b" ") in _TRAILING_CHUNKS or name[:3] == b"TAG"
    if known or (declared > 0 and data.zeros(behind, data.size)):
        return end
    # Unknown letters are a chunk if it ends with the file, or where another chunk begins.
    for _ in range(_MOST_CHUNKS):
        if not name.strip().isalnum():
            break
        size = int.from_bytes(data.at(behind + 4, head - 4), "big" if big else "little")
        behind += head + size + (size % 2 if head == 8 else 0)
        if behind >= data.size:
            return end if behind - data.size < head else data.size
        name = data.at(behind, 4)
    return data.size


def _patched(patches: dict[int, bytes], end: int) -> list[Piece]:
    """The file up to `end`, with the bytes at some places replaced."""
    pieces: list[Piece] = []
    at = 0
    for place, new in sorted(patches.items()):
        pieces += [(at, place), new]
        at = place + len(new)
    return [*pieces, (at, end)]
