"""The structures and functions of `c/segue_native.h`, for `ctypes`."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int32, c_size_t, c_void_p
from typing import Any

VERSION = 3
BLOCK = 16
MAX_COLUMNS = 256
MAX_HEAD_DIM = 512

FLOAT32, FLOAT16, BFLOAT16, PACKED = range(4)
HALF_BIAS, FLOAT_BIAS, ZERO_POINT = range(3)


class Matrix(ctypes.Structure):
    """`struct matrix`."""

    _fields_ = (
        ("data", c_void_p),
        *((name, c_int32) for name in ("rows", "columns", "kind", "bits", "group", "head")),
        *((name, c_int32) for name in ("record", "unused")),
    )


class Layer(ctypes.Structure):
    """`struct layer`."""

    _fields_ = (
        *((name, c_void_p) for name in ("self_norm", "cross_norm", "ffn_norm")),
        *((name, Matrix) for name in ("qkv", "self_out", "cross_q", "cross_out", "fc1", "fc2")),
    )


class Config(ctypes.Structure):
    """`struct config`."""

    _fields_ = tuple(
        (name, c_int32)
        for name in (
            *("dim", "heads", "ffn", "layers", "logits", "threads", "cache_size", "text"),
            "activations",
        )
    )


class CacheStructure(ctypes.Structure):
    """`struct cache`."""

    _fields_ = (
        ("data", c_void_p),
        ("base", c_void_p),
        *((name, c_int32) for name in ("capacity", "base_length", "length", "unused")),
    )


class Column(ctypes.Structure):
    """`struct column`."""

    _fields_ = (
        ("cache", c_void_p),
        ("text", c_void_p),
        ("position", c_int32),
        ("wanted", c_int32),
    )


def declare(library: ctypes.CDLL) -> None:
    """Say what the functions of the library take and return."""
    floats = POINTER(c_float)
    for name, returned, arguments in (
        ("version", c_int32, ()),
        ("sources", c_char_p, ()),
        ("paths", c_char_p, ()),
        ("new", c_void_p, (POINTER(Config), POINTER(Layer), c_void_p, POINTER(Matrix), c_char_p)),
        ("free", None, (c_void_p,)),
        ("path", c_char_p, (c_void_p,)),
        ("cache_bytes", c_size_t, (POINTER(Config), c_int32)),
        ("reserve", c_int32, (c_void_p, c_int32)),
        ("forward", c_int32, (c_void_p, POINTER(Column), c_int32, floats, floats)),
        ("store_text", c_int32, (c_void_p, POINTER(CacheStructure), c_int32, floats, floats)),
        ("product", c_int32, (c_void_p, POINTER(Matrix), floats, c_int32, floats)),
    ):
        function: Any = getattr(library, f"segue_{name}")
        function.restype, function.argtypes = returned, arguments
