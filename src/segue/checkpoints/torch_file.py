"""The safe reader for torch .bin files: tensors only, never code.

`torch.save` writes a zip archive (`_save` in torch/serialization.py, torch 1.6 and later):

- `NAME/data.pkl`, a pickle of the object, in which a persistent id stands for every storage;
- `NAME/data/KEY`, the bytes of one storage, uncompressed: they are used where they lie;
- `NAME/byteorder`, `little` or `big`; older versions leave it out, and mean little.

A pickle is a program, and Python's own unpickler gives a hostile one a lot to work with even when
`find_class` is narrow: BUILD sets attributes of anything that can be named, REDUCE calls
anything that can be called, and one memo index can claim gigabytes.  So it never runs here.
`pickletools` splits the pickle into instructions, which runs nothing, and `_Unpickler` carries
out the few that containers, numbers, text and tensors need.  The names of functions and classes
are compared with a short list and stand only for themselves: nothing is ever imported, and
nothing that a file names is ever called.
"""

from __future__ import annotations

import io
import math
import os
import pickletools
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from segue.checkpoints.files import unreadable
from segue.checkpoints.mistaken import TRAINING_CHECKPOINT, file_of_another_kind
from segue.errors import CheckpointError

# The pickle holds names and shapes, about 250 bytes a tensor: 0.3 MiB for the largest MusicGen.
# It bounds what a hostile one can cost as well: at worst 250 times its size in memory.
_MAX_PICKLE_BYTES = 4 * 2**20
_MAX_DEPTH = 100  # of containers in containers, so that a recursive reader never runs out of stack

# A mapping holds a file descriptor, and macOS gives a process 256 of them: storages that lie in
# the same window of the file share one.  A window is unmapped with the last array that is in it.
_WINDOW_BYTES = 256 * 2**20

_DTYPES: dict[str, np.dtype[Any]] = {
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
    "torch.storage.UntypedStorage": np.dtype("u1"),
}
_CALLABLES = {
    "collections.OrderedDict",
    "torch.Size",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor_v2",
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}

# MAGIC_NUMBER in torch/serialization.py, as the pickle of an integer holds it.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
_TAR_MAGIC, _TAR_MAGIC_OFFSET = b"ustar", 257  # POSIX.1-1988, and GNU tar
_ASK = "look for a safetensors version of it"

_LOCAL_HEADER = struct.Struct("<4s2x2H16x2H")  # signature, flags, method, len(name), len(extra)
_LOCAL_SIGNATURE = b"PK\x03\x04"
_ENCRYPTED = 0x1

# What zipfile, pickletools, numpy and the stack machine raise over bytes that make no sense.
_DAMAGE = (
    zipfile.BadZipFile,
    struct.error,
    ArithmeticError,
    EOFError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
)


def load(path: Path) -> Any:
    """The object in a file that `torch.save` wrote.

    Dicts (`OrderedDict` too), lists, tuples, text, numbers and `None` are Python's own.
    Tensors, parameters and storages are read-only numpy arrays, bfloat16 through
    `ml_dtypes.bfloat16`.  They are views of the file: nothing is copied, tensors on one storage
    share its memory, and the file must stay as it is while they are in use.

    Raises `CheckpointError`, which names the file, for anything else that the file may hold
    and for a file that is damaged, cut short or in a format of torch before 1.6.
    """
    try:
        with _BoundedReader(io.FileIO(path)) as file:
            _check_format(file)
            return _Unpickler(_Archive(file)).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except OSError as error:
        raise unreadable(path, error) from error
    except _DAMAGE as error:
        raise _damaged(f"{path}: is damaged or cut short") from error


def _check_format(file: io.BufferedReader) -> None:
    """Raise for every format but the zip archive, which torch too tells by its first bytes."""
    head = file.read(512)
    if head.startswith(_LOCAL_SIGNATURE):
        return
    if not head:
        raise _damaged("is empty")
    if (problem := file_of_another_kind(head)) is not None:
        raise CheckpointError(f"is not a zip archive that torch.save wrote: {problem}")
    if head[_TAR_MAGIC_OFFSET:].startswith(_TAR_MAGIC):
        # torch.load(weights_only=True) refuses these too, so there is no safe way to re-save one.
        raise CheckpointError(
            "is in the legacy tar format of the first torch versions, which cannot be read "
            f"safely: {_ASK}"
        )
    if _LEGACY_MAGIC in head[:32]:
        raise CheckpointError(
            "is in the legacy pickle format of torch before 1.6, which is not read: re-save it "
            "with a current torch: torch.save(torch.load(old, weights_only=True), new)"
        )
    raise CheckpointError(
        "is not a zip archive that torch.save wrote: check that it is a checkpoint, "
        "and that it was downloaded whole"
    )


class _BoundedReader(io.BufferedReader):
    """A file of which no more than a pickle's worth is read at once, whatever a header claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_PICKLE_BYTES:
            raise _damaged(f"claims a header or a data.pkl of {size} bytes, more than fits a model")
        return super().read(size)


class _Archive:
    """A zip archive of uncompressed members, each in a place of its own in the file."""

    def __init__(self, file: _BoundedReader):
        self._file = file
        self._windows: dict[int, np.memmap[Any, np.dtype[np.uint8]]] = {}
        self.size = file.seek(0, os.SEEK_END)
        with zipfile.ZipFile(file) as directory:
            members = sorted(directory.infolist(), key=lambda member: member.header_offset)
        self.spans: dict[str, tuple[int, int]] = {}  # name: where its bytes begin and end
        free = 0  # where the member before ends: torch's never overlap, a zip bomb's do
        for member in members:
            name = member.orig_filename
            if name in self.spans:
                raise _damaged(f"holds {_shown(name)} twice")
            if member.header_offset < free:
                raise _damaged(f"holds members that overlap, {_shown(name)} among them")
            start = self._data_offset(member)
            free = start + member.file_size
            if free > self.size:
                raise _damaged(f"is cut short: {_shown(name)} reaches past its end")
            self.spans[name] = start, free

    def _data_offset(self, member: zipfile.ZipInfo) -> int:
        """Where the bytes begin: after the local header, whose padding the directory leaves out."""
        self._file.seek(member.header_offset)
        signature, flags, method, name_length, extra_length = _LOCAL_HEADER.unpack(
            self._file.read(_LOCAL_HEADER.size)
        )
        name = self._file.read(name_length)
        if signature != _LOCAL_SIGNATURE or name != member.orig_filename.encode():
            raise _damaged(f"has no header where {_shown(member.orig_filename)} should begin")
        if (flags | member.flag_bits) & _ENCRYPTED:
            raise CheckpointError(f"is encrypted, which torch never does: {_ASK}")
        if method or member.compress_type or member.compress_size != member.file_size:
            raise CheckpointError(
                f"holds {_shown(member.orig_filename)} compressed, which torch never does: "
                "use the file as torch.save wrote it"
            )
        return self._file.tell() + int(extra_length)

    def read(self, name: str) -> bytes:
        start, end = self.spans[name]
        self._file.seek(start)
        return self._file.read(end - start)

    def map(self, name: str) -> np.ndarray[Any, Any]:
        """The bytes of a member, read-only and where they lie in the file."""
        start, end = self.spans[name]
        if start == end:  # nothing to map
            return np.frombuffer(b"", np.uint8)
        index = start // _WINDOW_BYTES
        first, last = index * _WINDOW_BYTES, min((index + 1) * _WINDOW_BYTES, self.size)
        if end > last:  # it crosses windows, as one member can at each of their borders
            return np.memmap(self._file, np.uint8, "r", start, (end - start,))
        if index not in self._windows:
            self._windows[index] = np.memmap(self._file, np.uint8, "r", first, (last - first,))
        window: np.memmap[Any, Any] = self._windows[index]
        return window[start - first : end - first]


@dataclass(frozen=True)
class _Global:
    """The name of a class or a function in a pickle."""

    name: str


class _Unpickler:
    """The pickle's stack machine, less everything that could run, import or change anything."""

    def __init__(self, archive: _Archive):
        pickles = [
            name for name in archive.spans if name.endswith("/data.pkl") and name.count("/") == 1
        ]
        if len(pickles) != 1:
            raise CheckpointError(
                f"holds {len(pickles) or 'no'} data.pkl where torch.save writes one: "
                "check that it is a torch checkpoint"
            )
        self._archive = archive
        self._root = pickles[0].removesuffix("data.pkl")
        self._storages: dict[str, np.ndarray[Any, Any]] = {}
        byteorder = f"{self._root}byteorder"
        if byteorder in archive.spans and archive.read(byteorder) != b"little":
            raise CheckpointError(
                "does not hold little-endian numbers, the only ones that are read: "
                "re-save it on a little-endian machine"
            )

    def load(self) -> Any:
        pickle = self._archive.read(f"{self._root}data.pkl")
        value = self._run(pickle)
        _check_result(value, len(pickle))
        return value

    def _run(self, pickle: bytes) -> Any:
        """What is on the stack at STOP.

        The instructions are those that `pickle.Pickler` writes for tensors in protocols 2 to 5;
        pickletools describes each.
        """
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}

        def pop_to_mark() -> list[Any]:
            mark = marks.pop()
            items = stack[mark:]
            del stack[mark:]
            return items

        for opcode, argument, _ in pickletools.genops(pickle):
            match opcode.name:
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    break
                case constant if constant in _CONSTANTS:
                    stack.append(_CONSTANTS[constant])
                case "BININT" | "BININT1" | "BININT2" | "LONG1":
                    stack.append(_int64(argument))
                case "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                    stack.append(argument)
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_DICT":
                    stack.append({})
                case "MARK":
                    marks.append(len(stack))
                case "TUPLE":
                    stack.append(tuple(pop_to_mark()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    length = int(opcode.name[-1])
                    stack[-length:] = [tuple(stack[-length:])]
                case "APPEND":
                    items = [stack.pop()]
                    _expect(stack[-1], list).extend(items)
                case "APPENDS":
                    items = pop_to_mark()
                    _expect(stack[-1], list).extend(items)
                case "SETITEM":
                    item, key = stack.pop(), stack.pop()
                    _set_items(stack[-1], [key, item])
                case "SETITEMS":
                    items = pop_to_mark()
                    _set_items(stack[-1], items)
                case "BINPUT" | "LONG_BINPUT":
                    memo[_expect(argument, int)] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[_expect(argument, int)])
                case "GLOBAL":
                    stack.append(_global(_expect(argument, str).replace(" ", ".", 1)))
                case "INST":  # a name and a call at once, of pickles from before protocol 2
                    raise _refused(f"load {_shown(_expect(argument, str).replace(' ', '.', 1))}")
                case "STACK_GLOBAL":
                    name, module = _expect(stack.pop(), str), _expect(stack.pop(), str)
                    stack.append(_global(f"{module}.{name}"))
                case "REDUCE":
                    arguments, function = stack.pop(), stack.pop()
                    stack.append(self._rebuild(_expect(function, _Global).name, arguments))
                case "BINPERSID":
                    stack.append(self._storage(stack.pop()))
                case "BUILD":  # a state dict's versions of its modules, which nobody needs
                    stack.pop()
                    _expect(stack[-1], dict)
                case other:
                    raise _refused(f"carry out the pickle instruction {other}")
        return stack.pop()

    def _rebuild(self, function: str, arguments: Any) -> Any:
        """What the functions that a checkpoint may name make of their arguments."""
        match function, arguments:
            case "collections.OrderedDict", ():
                return {}
            case "torch.Size", (tuple(size),):
                return size
            case "torch._utils._rebuild_parameter", (np.ndarray() as data, _, _):
                return data
            # requires_grad, backward_hooks and, where it is not empty, metadata come last.
            # Metadata says that the numbers are to be negated or conjugated, as weights never are.
            case "torch._utils._rebuild_tensor_v2", (storage, offset, size, stride, _, _):
                return self._tensor(storage, offset, size, stride)
        raise _damaged(f"calls {function} as torch never does")

    def _storage(self, persistent_id: Any) -> np.ndarray[Any, Any]:
        """The whole of a storage, shape (numel,)."""
        match persistent_id:
            case "storage", _Global(name), str(key), str(_), int(numel) if name in _DTYPES:
                dtype = _DTYPES[name]
            case _:
                raise _damaged("refers to a storage as torch never does")
        if key not in self._storages:
            member = f"{self._root}data/{key}"
            if member not in self._archive.spans:
                raise _damaged(f"lacks {_shown(member)}")
            data = self._archive.map(member)
            if not 0 <= numel * dtype.itemsize <= data.size:
                raise _damaged(f"wants {numel} numbers of {_shown(member)}, which holds fewer")
            self._storages[key] = np.asarray(data[: numel * dtype.itemsize]).view(dtype)
        storage = self._storages[key]
        if (storage.dtype, storage.size) != (dtype, numel):
            raise _damaged(f"gives storage {_shown(key)} two types or sizes")
        return storage

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> np.ndarray[Any, Any]:
        """A view of a storage; offset and stride count its elements, as torch's do."""
        _expect(storage, np.ndarray)
        for number in (offset, *_expect(size, tuple), *_expect(stride, tuple)):
            if _expect(number, int) < 0:
                raise _damaged("holds a tensor of a negative size, stride or offset")
        numel, itemsize = math.prod(size), storage.dtype.itemsize
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if numel and last >= storage.size:
            raise _damaged(f"holds a tensor that reaches past its storage of {storage.size}")
        # A stride of 0 repeats what is there, without end: a copy of it must stay affordable.
        if numel * itemsize > self._archive.size:
            raise _damaged(f"holds a tensor of {numel} numbers, more than the file has bytes for")
        return np.ndarray(
            size,
            storage.dtype,
            storage.view(np.uint8),  # numpy passes no bfloat16 through its buffer
            offset * itemsize if numel else 0,
            [step * itemsize for step in stride] if numel else None,
        )


def _check_result(value: Any, budget: int) -> None:
    """Raise unless `value` is a tree of plain things that costs no more to walk than to read.

    A pickle spends a byte or more on each thing in it.  Only one that puts the same container in
    many places, or in itself, comes to more things than that, or to endless ones.
    """
    waiting = [(value, 0)]
    while waiting:
        value, depth = waiting.pop()
        match value:
            case dict() | list() | tuple():
                budget -= len(value)
                if budget < 0 or depth == _MAX_DEPTH:
                    raise _refused("unfold containers that are nested without end")
                items = value.values() if isinstance(value, dict) else value
                waiting.extend((item, depth + 1) for item in items)
            case _Global(name):
                raise _refused(f"load {name!r} as a value")


def _global(name: str) -> _Global:
    if name.startswith("omegaconf."):  # what AudioCraft's solvers keep, and its export leaves out
        raise CheckpointError(TRAINING_CHECKPOINT)
    if name not in _DTYPES and name not in _CALLABLES:
        raise _refused(f"load {_shown(name)}")
    return _Global(name)


def _set_items(target: Any, items: list[Any]) -> None:
    _expect(target, dict)
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, int):  # hashing a deeply nested tuple overflows C's stack
            raise _refused(f"use a {type(key).__name__} as the key of a dict")
        target[key] = value


def _int64(number: Any) -> int:
    """An integer as torch has them; longer ones can be chosen to share one hash, and be slow."""
    if not -(2**63) <= number < 2**63:
        raise _refused("load an integer of more than 64 bits")
    return int(number)


def _expect(value: Any, kind: type) -> Any:
    """`value`, which must be of exactly that type: a bool is not an int here."""
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def _shown(name: str) -> str:
    """A name out of a file, fit for one line of a terminal."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def _refused(what: str) -> CheckpointError:
    return CheckpointError(
        f"refuses to {what}: a checkpoint may hold tensors only, in plain containers with text and "
        f"numbers: {_ASK}"
    )


def _damaged(what: str) -> CheckpointError:
    return CheckpointError(f"{what}: download it again, or ask where it came from for a whole one")
