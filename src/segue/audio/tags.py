"""Tags in audio files: title, comment and tempo, where players and sequencers look for them.

A WAV gets a `LIST/INFO` chunk and, with a tempo, an `acid` chunk (as libsndfile reads it,
https://github.com/libsndfile/libsndfile, `wav_read_acid_chunk`), behind its samples.  FLAC and Ogg
get Vorbis comments and MP3 an ID3 tag, by FFmpeg, which copies the encoded sound as it is.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from pathlib import Path

_MUXERS = {".flac": "flac", ".mp3": "mp3", ".ogg": "ogg", ".oga": "ogg", ".opus": "ogg"}

_ONE_SHOT, _STRETCH = 0x01, 0x04
"""Flags of an `acid` chunk: not a loop, or one that may be stretched to another tempo."""


@dataclass(frozen=True)
class Tags:
    """What a file says of itself.

    Attributes:
        title: of the music.
        comment: what it was made with.
        bpm: its tempo, in beats a minute.
        beats_per_bar: 3.5 is 7/8.
        beats: how many there are from its first sample to its last; whole for a loop.
        loop: whether it begins with a bar and is whole beats long.
    """

    title: str = ""
    comment: str = ""
    bpm: float | None = None
    beats_per_bar: float = 4.0
    beats: float = 0.0
    loop: bool = False


def tagged(path: Path, encoded: io.BytesIO, tags: Tags) -> io.BytesIO:
    """Return the content of an audio file with tags; without, where its format has none.

    Args:
        path: its suffix names the format.
        encoded: the content.
        tags: what it is to say.
    """
    suffix = path.suffix.lower()
    # A file's name may hold bytes that are no UTF-8; tags may not.
    tags = replace(tags, title=_utf8(tags.title), comment=_utf8(tags.comment))
    if suffix == ".wav":
        return _riff(encoded, tags)
    if suffix not in _MUXERS:
        return encoded
    return _remuxed(encoded, _MUXERS[suffix], tags)


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _riff(encoded: io.BytesIO, tags: Tags) -> io.BytesIO:
    info = [(b"INAM", tags.title), (b"ICMT", tags.comment), (b"ISFT", "segue")]
    listed = b"INFO" + b"".join(_chunk(name, text.encode() + b"\0") for name, text in info if text)
    chunks = _chunk(b"LIST", listed) + (b"" if tags.bpm is None else _acid(tags))
    size = encoded.seek(0, io.SEEK_END)
    padding = b"\0" * (size % 2)
    total = size + len(padding) + len(chunks)
    if total - 8 >= 1 << 32:  # its size would not fit; the music is worth more than its tags
        return encoded
    encoded.write(padding + chunks)
    encoded.seek(4)
    encoded.write(struct.pack("<I", total - 8))
    return encoded


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _acid(tags: Tags) -> bytes:
    beats, unit = tags.beats_per_bar, 4
    while beats != int(beats) and unit < 64:  # 3.5 quarters are 7 eighths
        beats, unit = 2 * beats, 2 * unit
    flags = _STRETCH if tags.loop else _ONE_SHOT
    fields = (flags, 0, 0x8000, 0.0, round(tags.beats), unit, round(beats), tags.bpm)
    return _chunk(b"acid", struct.pack("<IHHfIHHf", *fields))


def _remuxed(encoded: io.BytesIO, muxer: str, tags: Tags) -> io.BytesIO:
    import av  # here, as most files are WAVs, and FFmpeg takes long to import

    found = {"title": tags.title, "comment": tags.comment}
    if tags.bpm is not None:
        found["TBPM" if muxer == "mp3" else "BPM"] = f"{tags.bpm:g}"
    content = io.BytesIO()
    encoded.seek(0)
    with av.open(encoded, "r") as source, av.open(content, "w", format=muxer) as target:
        stream = source.streams.audio[0]
        copied = target.add_stream_from_template(stream)
        # Ogg's comments belong to a stream, all others' to the file.
        where = copied.metadata if muxer == "ogg" else target.metadata
        where.update({name: text for name, text in found.items() if text})
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    return content
