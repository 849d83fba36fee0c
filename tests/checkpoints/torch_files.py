"""Files as `torch.save` writes them, without torch: zip archives, and the pickles inside them.

Down to single instructions, so that tests can also write what a hostile file would hold.
"""

import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

KINDS = {
    np.dtype("float32"): "FloatStorage",
    np.dtype("float16"): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
}


@dataclass(frozen=True)
class Global:
    module: str
    name: str


@dataclass(frozen=True)
class Call:
    function: Any
    arguments: Any


@dataclass(frozen=True)
class Persistent:
    id: Any


@dataclass(frozen=True)
class Object:
    """An object of a class that is made without arguments, and given its attributes."""

    cls: Global
    state: Any


@dataclass(frozen=True)
class Raw:
    """Instructions, as they stand."""

    instructions: bytes


REBUILD_TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
REBUILD_PARAMETER = Global("torch._utils", "_rebuild_parameter")
ORDERED_DICT = Call(Global("collections", "OrderedDict"), ())


def pickled(value: Any) -> bytes:
    """The instructions of pickle protocol 2 that leave `value` on the stack."""
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int() if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        case int():
            number = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(number)]) + number
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(pickled, value)) + b"t"
        case list():
            return b"](" + b"".join(map(pickled, value)) + b"e"
        case dict():
            items = b"".join(pickled(key) + pickled(item) for key, item in value.items())
            return b"}(" + items + b"u"
        case Global(module, name):
            return f"c{module}\n{name}\n".encode()
        case Call(function, arguments):
            return pickled(function) + pickled(arguments) + b"R"
        case Object(cls, state):
            return pickled(cls) + b")\x81" + pickled(state) + b"b"
        case Persistent(persistent_id):
            return pickled(persistent_id) + b"Q"
        case Raw(instructions):
            return instructions
    raise TypeError(value)


def storage(numel: Any, kind: str = "FloatStorage", key: Any = "0") -> Persistent:
    return Persistent(("storage", Global("torch", kind), key, "cpu", numel))


def tensor(stored: Any, size: Any, stride: Any, offset: Any = 0) -> Call:
    return Call(REBUILD_TENSOR, (stored, offset, size, stride, False, ORDERED_DICT))


def archive(members: dict[str, bytes]) -> bytes:
    """A zip file that lays each member at a multiple of 64 bytes, as torch does."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as writer:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            padding = -(file.tell() + 30 + len(name) + 4) % 64
            info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
            writer.writestr(info, data)
            info.extra = b""  # torch leaves it out of the directory
    return file.getvalue()


def checkpoint(value: Any, *storages: np.ndarray, name: str = "archive", **extra: bytes) -> bytes:
    members = {"data.pkl": b"\x80\x02" + pickled(value) + b"."} | {"byteorder": b"little"} | extra
    members |= {f"data/{key}": array.tobytes() for key, array in enumerate(storages)}
    return archive({f"{name}/{member}": data for member, data in members.items()})


def save(content: Mapping[str, Any], path: Path) -> None:
    """Write `content`, whose arrays, at any depth, become tensors, each on its own storage."""
    arrays: list[np.ndarray] = []

    def saved(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: saved(item) for name, item in value.items()}
        if isinstance(value, Object):
            return Object(value.cls, saved(value.state))
        if not isinstance(value, np.ndarray):
            return value
        arrays.append(np.ascontiguousarray(value))
        strides = tuple(step // value.itemsize for step in arrays[-1].strides)
        stored = storage(value.size, KINDS[value.dtype], str(len(arrays) - 1))
        return tensor(stored, value.shape, strides)

    path.write_bytes(checkpoint(saved(content), *arrays))
