"""The pickle in a torch file, carried out without running anything that it names."""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from ..errors import CheckpointError
from . import omegaconf_pickle
from .torch_archive import ASK, Archive, damaged, shown

_MAX_DEPTH = 100  # of containers in containers, so that a recursive reader never runs out of stack

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
    "collections.defaultdict",
    "collections.OrderedDict",
    "torch.Size",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor_v2",
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


@dataclass(frozen=True)
class _Global:
    """The name of a class or a function in a pickle."""

    name: str


class Unpickler:
    """The pickle's stack machine without everything that could run, import or change anything."""

    def __init__(self, archive: Archive):
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
        """Build the object that the pickle describes; see `torch_file.load`.

        Raises:
            CheckpointError: it asks for more than containers, numbers, text and tensors.
        """
        pickle = self._archive.read(f"{self._root}data.pkl")
        value = self._run(pickle)
        if _check_result(value, len(pickle)):
            value = omegaconf_pickle.plain(value)
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
                    raise _refused(f"load {shown(_expect(argument, str).replace(' ', '.', 1))}")
                case "STACK_GLOBAL":
                    name, module = _expect(stack.pop(), str), _expect(stack.pop(), str)
                    stack.append(_global(f"{module}.{name}"))
                case "REDUCE":
                    arguments, function = stack.pop(), stack.pop()
                    stack.append(self._rebuild(_expect(function, _Global).name, arguments))
                case "NEWOBJ":
                    arguments, cls = stack.pop(), _expect(stack.pop(), _Global).name
                    if arguments != () or cls not in omegaconf_pickle.OBJECTS:
                        raise _refused("carry out the pickle instruction NEWOBJ")
                    stack.append(omegaconf_pickle.Object(cls))
                case "BINPERSID":
                    stack.append(self._storage(stack.pop()))
                case "BUILD":
                    state, built = stack.pop(), stack[-1]
                    if isinstance(built, omegaconf_pickle.Object):
                        built.state = _expect(state, dict)
                    else:  # a state dict's versions of its modules, which are not used
                        _expect(built, dict)
                case other:
                    raise _refused(f"carry out the pickle instruction {other}")
        return stack.pop()

    def _rebuild(self, function: str, arguments: Any) -> Any:
        """The result of one of the functions that a checkpoint may name."""
        match function, arguments:
            case "collections.OrderedDict", ():
                return {}
            case "collections.defaultdict", (_Global(_),):
                return {}
            case "torch.Size", (tuple(size),):
                return size
            case "torch._utils._rebuild_parameter", (np.ndarray() as data, _, _):
                return data
            # requires_grad, backward_hooks and, where it is not empty, metadata come last.
            # Metadata marks numbers to be negated or conjugated, which weights never are.
            case "torch._utils._rebuild_tensor_v2", (storage, offset, size, stride, _, _):
                return self._tensor(storage, offset, size, stride)
        raise damaged(f"calls {function} as torch never does")

    def _storage(self, persistent_id: Any) -> np.ndarray[Any, Any]:
        """The whole of a storage, shape (numel,)."""
        match persistent_id:
            case "storage", _Global(name), str(key), str(_), int(numel) if name in _DTYPES:
                dtype = _DTYPES[name]
            case _:
                raise damaged("refers to a storage as torch never does")
        if key not in self._storages:
            member = f"{self._root}data/{key}"
            if member not in self._archive.spans:
                raise damaged(f"lacks {shown(member)}")
            data = self._archive.map(member)
            if not 0 <= numel * dtype.itemsize <= data.size:
                raise damaged(f"wants {numel} numbers of {shown(member)}, which holds fewer")
            self._storages[key] = np.asarray(data[: numel * dtype.itemsize]).view(dtype)
        storage = self._storages[key]
        if (storage.dtype, storage.size) != (dtype, numel):
            raise damaged(f"gives storage {shown(key)} two types or sizes")
        return storage

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> np.ndarray[Any, Any]:
        """A view of a storage; offset and stride count its elements, as torch's do."""
        _expect(storage, np.ndarray)
        for number in (offset, *_expect(size, tuple), *_expect(stride, tuple)):
            if _expect(number, int) < 0:
                raise damaged("holds a tensor of a negative size, stride or offset")
        numel, itemsize = math.prod(size), storage.dtype.itemsize
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if numel and last >= storage.size:
            raise damaged(f"holds a tensor that reaches past its storage of {storage.size}")
        # A stride of 0 repeats an element without end: a copy must stay affordable.
        if numel * itemsize > self._archive.size:
            raise damaged(f"holds a tensor of {numel} numbers, more than the file has bytes for")
        return np.ndarray(
            size,
            storage.dtype,
            storage.view(np.uint8),  # numpy passes no bfloat16 through its buffer
            offset * itemsize if numel else 0,
            [step * itemsize for step in stride] if numel else None,
        )


def _check_result(value: Any, budget: int) -> bool:
    """Raise unless `value` is a tree of plain things that costs no more to walk than to read.

    Returns whether there are objects of omegaconf in it.

    A pickle spends a byte or more on each thing in it.  Only one that puts the same container in
    many places, or in itself, comes to more things than that, or to endless ones.
    """
    waiting, objects = [(value, 0)], False
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, omegaconf_pickle.Object):
            objects, value = True, [value.value]
        match value:
            case dict() | list() | tuple():
                budget -= len(value)
                if budget < 0 or depth == _MAX_DEPTH:
                    raise _refused("unfold containers that are nested without end")
                items = value.values() if isinstance(value, dict) else value
                waiting.extend((item, depth + 1) for item in items)
            case _Global(name):
                raise _refused(f"load {name!r} as a value")
    return objects


def _global(name: str) -> _Global:
    known = (_DTYPES, _CALLABLES, omegaconf_pickle.OBJECTS, omegaconf_pickle.TYPES)
    if not any(name in names for names in known):
        raise _refused(f"load {shown(name)}")
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


def _refused(what: str) -> CheckpointError:
    return CheckpointError(
        f"refuses to {what}: a checkpoint may hold tensors only, in plain containers with text and "
        f"numbers: {ASK}"
    )
