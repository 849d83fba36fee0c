"""Find the chained files of an Ogg file by its pages (RFC 3533, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from .view import Bytes

_CAPTURE = b"OggS"
_BEGINS, _ENDS = 2, 4
_NONE = (1 << 64) - 1
_SEARCH_BYTES = 1 << 16


@dataclass
class Link:
    """A file in the chain.

    Attributes:
        start, end: its bytes.
        head: the first bytes of its first packet, which name the codec.
        streams: the number of multiplexed streams.
        ended: whether its last page is marked as the last.
        plain: whether its positions start at its start, and only grow.
    """

    start: int
    end: int
    head: bytes
    streams: int = 1
    ended: bool = False
    plain: bool = True


def links(data: Bytes, at: int = 0) -> list[Link]:
    """List the chained files of `data` from the byte `at` on."""
    chain: list[Link] = []
    heading, position = False, 0
    while (at := data.find(_CAPTURE, at)) >= 0:
        header = data.at(at, 27)
        if len(header) < 27:
            break
        table = data.at(at + 27, header[26])
        content = at + 27 + len(table)
        end = content + sum(table)
        begins = header[5] & _BEGINS
        if header[4] != 0:  # no known version: the four letters are part of a packet
            at += 4
            continue
        if begins and heading:
            chain[-1].streams += 1
        elif begins:
            if chain:
                chain[-1].end = at
            chain.append(Link(at, data.size, data.at(content, 64)))
            heading, position = True, 0
        elif chain:
            heading = False
        if chain:
            link = chain[-1]
            granule = int.from_bytes(header[6:14], "little")
            if granule not in (_NONE, 0):
                # No page holds more than 255 packets, of up to 8192 samples in Vorbis.
                first = position == 0
                link.plain &= position <= granule < position + (1 << 22 if first else 1 << 40)
                position = granule
            link.ended = bool(header[5] & _ENDS)
            link.end = min(end, data.size)
            link.ended &= end <= data.size
        at = min(end, data.size)
    return chain
