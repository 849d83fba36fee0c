"""The zip archive that `torch.save` writes: uncompressed members, mapped where they lie."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from typing import Any

import numpy as np

from ..errors import CheckpointError

# The pickle holds names and shapes, about 250 bytes a tensor: 0.3 MiB for the largest MusicGen.
# It bounds what a hostile one can cost as well: at worst 250 times its size in memory.
MAX_PICKLE_BYTES = 4 * 2**20

# A mapping holds a file descriptor, and macOS gives a process 256 of them: storages that lie in
# the same window of the file share one.  A window is unmapped with the last array that is in it.
WINDOW_BYTES = 256 * 2**20

ASK = "look for a safetensors version of it"
"""What to do about a file that is not read."""

_LOCAL_HEADER = struct.Struct("<4s2x2H16x2H")  # signature, flags, method, len(name), len(extra)
LOCAL_SIGNATURE = b"PK\x03\x04"
_ENCRYPTED = 0x1


class BoundedReader(io.BufferedReader):
    """A file of which no more than a pickle's worth is read at once, whatever a header claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does, or raise `CheckpointError` for more than a pickle has."""
        if size is not None and size > MAX_PICKLE_BYTES:
            raise damaged(f"claims a header or a data.pkl of {size} bytes, more than fits a model")
        return super().read(size)


class Archive:
    """A zip archive of uncompressed members, each in a place of its own in the file.

    Attributes:
        size: of the file, in bytes.
        spans: where the bytes of each member begin and end, by its name.

    Raises:
        CheckpointError: members overlap, are compressed or encrypted, or reach past the end.
    """

    def __init__(self, file: BoundedReader):
        self._file = file
        self._windows: dict[int, np.memmap[Any, np.dtype[np.uint8]]] = {}
        self.size = file.seek(0, os.SEEK_END)
        with zipfile.ZipFile(file) as directory:
            members = sorted(directory.infolist(), key=lambda member: member.header_offset)
        self.spans: dict[str, tuple[int, int]] = {}
        free = 0  # where the member before ends: torch's never overlap, a zip bomb's do
        for member in members:
            name = member.orig_filename
            if name in self.spans:
                raise damaged(f"holds {shown(name)} twice")
            if member.header_offset < free:
                raise damaged(f"holds members that overlap, {shown(name)} among them")
            start = self._data_offset(member)
            free = start + member.file_size
            if free > self.size:
                raise damaged(f"is cut short: {shown(name)} reaches past its end")
            self.spans[name] = start, free

    def _data_offset(self, member: zipfile.ZipInfo) -> int:
        """Where the bytes begin: after the local header, whose padding the directory leaves out."""
        self._file.seek(member.header_offset)
        signature, flags, method, name_length, extra_length = _LOCAL_HEADER.unpack(
            self._file.read(_LOCAL_HEADER.size)
        )
        name = self._file.read(name_length)
        if signature != LOCAL_SIGNATURE or name != member.orig_filename.encode():
            raise damaged(f"has no header where {shown(member.orig_filename)} should begin")
        if (flags | member.flag_bits) & _ENCRYPTED:
            raise CheckpointError(f"is encrypted, which torch never does: {ASK}")
        if method or member.compress_type or member.compress_size != member.file_size:
            raise CheckpointError(
                f"holds {shown(member.orig_filename)} compressed, which torch never does: "
                "use the file as torch.save wrote it"
            )
        return self._file.tell() + int(extra_length)

    def read(self, name: str) -> bytes:
        """Copy the bytes of a member."""
        start, end = self.spans[name]
        self._file.seek(start)
        return self._file.read(end - start)

    def map(self, name: str) -> np.ndarray[Any, Any]:
        """Map the bytes of a member, read-only: `(size,)` uint8."""
        start, end = self.spans[name]
        if start == end:  # nothing to map
            return np.frombuffer(b"", np.uint8)
        index = start // WINDOW_BYTES
        first, last = index * WINDOW_BYTES, min((index + 1) * WINDOW_BYTES, self.size)
        if end > last:  # it crosses windows, as one member can at each of their borders
            return np.memmap(self._file, np.uint8, "r", start, (end - start,))
        if index not in self._windows:
            self._windows[index] = np.memmap(self._file, np.uint8, "r", first, (last - first,))
        window: np.memmap[Any, Any] = self._windows[index]
        return window[start - first : end - first]


def shown(name: str) -> str:
    """A name out of a file, fit for one line of a terminal."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def damaged(what: str) -> CheckpointError:
    """The error for a file that is not whole, and what to do."""
    return CheckpointError(f"{what}: download it again, or ask where it came from for a whole one")
