"""CUDA kernels on the CPU: compiled as C++, a thread for each of a block's.

What a source computes shows without a card, at the size of a toy; how it uses a GPU does not.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mlx.core as mx
import numpy as np

from segue.engine.mlx.kernels import runtime

COMPILER = shutil.which("g++")
PRELUDE = Path(__file__).with_suffix(".h")

# What speaks PTX, and memory that is shared by the threads of a block which run at once.
PLAIN = (
    (r'uint4 read;\s*asm volatile\("ld\..*?;\n', r"uint4 read = peeked(from);\n"),
    (r'asm volatile\("st\..*?"memory"\);', "__atomic_store_n(to, bits, __ATOMIC_RELAXED);"),
    (r"extern __shared__ float4 shared\[\];", "float4* shared = block->shared.data();"),
    (r'extern "C" __global__', "static"),
)


class Emulator:
    """Takes the place of `runtime.run`.

    Args:
        folder: where programs are kept.

    Attributes:
        launched: the names of the kernels that ran.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.launched: list[str] = []

    def __call__(
        self,
        name: str,
        source: str,
        inputs: Mapping[str, mx.array],
        constants: Mapping[str, runtime.Constant],
        outputs: Mapping[str, tuple[tuple[int, ...], mx.Dtype]],
        blocks: int,
        threads: int,
        functions: str = "",
        scalars: Mapping[str, int] = MappingProxyType({}),
        shared_bytes: int = 0,
        resident: int = 0,
        initial: int | None = None,
    ) -> list[mx.array]:
        """See `runtime.run`."""
        self.launched.append(name)
        given = tuple((key, array.dtype) for key, array in inputs.items())
        made = tuple((key, dtype) for key, (_, dtype) in outputs.items())
        kernel = runtime.Kernel(
            name,
            source,
            given,
            made,
            tuple(constants.items()),
            threads,
            tuple(scalars),
            functions,
            resident,
        )
        arrays = [aligned(np.array(array)) for array in inputs.values()]
        for shape, dtype in outputs.values():
            kind = np.float32 if dtype == mx.float32 else np.int32
            arrays.append(aligned(np.full(shape, np.nan if initial is None else initial, kind)))
        pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
        numbers = (ctypes.c_int * len(scalars))(*scalars.values())
        self._program(kernel).run(pointers, numbers, blocks, threads, shared_bytes, resident == 1)
        return [mx.array(array) for array in arrays[len(inputs) :]]

    def _program(self, kernel: runtime.Kernel) -> Any:
        symbol, text = kernel.written()
        path = self._folder / f"{symbol}.so"
        if not path.exists():
            for pattern, instead in PLAIN:
                text = re.sub(pattern, instead, text, flags=re.DOTALL)
            types = [runtime.TYPES[dtype] for _, dtype in kernel.inputs + kernel.outputs]
            arguments = [f"({kind}*)pointers[{n}]" for n, kind in enumerate(types)]
            arguments += [f"numbers[{n}]" for n in range(len(kernel.scalars))]
            text = (
                f'#include "{PRELUDE}"\n{text}\nextern "C" void run(void** pointers, int* numbers,'
                "int blocks, int threads, int bytes, bool at_once) {\n"
                "  launch(blocks, threads, bytes, at_once, "
                f"[=] {{ {symbol}({', '.join(arguments)}); }});\n}}\n"
            )
            source = self._folder / f"{symbol}.cpp"
            source.write_text(text)
            assert COMPILER is not None
            options = ["-std=c++20", "-O1", "-w", "-shared", "-fPIC", "-pthread"]
            subprocess.run([COMPILER, *options, str(source), "-o", str(path)], check=True)
        return ctypes.CDLL(str(path))


def aligned(values: np.ndarray) -> np.ndarray:
    """A copy that begins where sixteen bytes can be read at a time."""
    room: np.ndarray = np.empty(values.nbytes + 16, np.uint8)
    start = -room.ctypes.data % 16
    found = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    found[...] = values
    return found
