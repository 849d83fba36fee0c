"""Runs the CUDA kernels' sources on a CPU, compiled with the machine's C++ compiler.

It takes the place of `runtime.run`.  What a GPU does by instructions of its own, which the sources
write in assembly, each in a function of its own, is done here by what `cuda_on_cpu.h` has for it.
"""

from __future__ import annotations

import ctypes
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import mlx.core as mx
import numpy as np

from segue.engine.mlx.kernels import runtime

COMPILER = shutil.which("g++")
AVAILABLE = COMPILER is not None and platform.machine() == "x86_64"
HEADER = Path(__file__).with_suffix(".h")

INSTEAD = {
    "load_acquire": "let_others(); return *(const volatile unsigned*)from;",
    "prefetch_l2": "",
    "copy_16_bytes": "current->copies.push_back({to, from});",
    "end_of_copies": "current->copies.push_back({nullptr, nullptr});",
    "wait_for_copies": "wait_for_copy_groups(MAY_BE_UNDER_WAY);",
    "multiply": "multiply_tiles(d, a, b, BFLOAT16);",
    "multiply_add_halves": "return multiply_and_add_pairs(x, y, z);",
    "peek": "let_others(); return *reinterpret_cast<const uint4*>(from);",
    "hand_over": "*to = value == value ? __float_as_uint(value) : 0x7fc00000u;",
}
"""Bodies of functions, in place of assembly."""

CALLED = """
struct Given {{ void** arrays; int* numbers; }};
static void call(void* given) {{
  void** arrays = ((Given*)given)->arrays;
  int* numbers = ((Given*)given)->numbers;
  {symbol}({arguments});
}}
extern "C" void run(
    int blocks, int threads, long shared, int at_once, void** arrays, int* numbers) {{
  Given given{{arrays, numbers}};
  launch(blocks, threads, shared, at_once, call, &given);
}}
"""


class CudaOnCPU:
    """Kernels that were compiled for the CPU.

    Args:
        folder: for what is compiled.

    Attributes:
        launched: the names of the kernels that ran.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._compiled: dict[str, Callable[..., None]] = {}
        self.launched: list[str] = []

    @property
    def compiled(self) -> set[str]:
        """The symbols of the kernels that were compiled."""
        return set(self._compiled)

    def run(
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
        kernel = runtime.Kernel(
            name,
            source,
            tuple((key, array.dtype) for key, array in inputs.items()),
            tuple((key, dtype) for key, (_, dtype) in outputs.items()),
            tuple(constants.items()),
            threads,
            tuple(scalars),
            functions,
            resident,
        )
        if (noted := runtime.noted(kernel, outputs)) is not None:
            return noted
        self.launched.append(name)
        arrays = [_memory_of(array) for array in inputs.values()]
        made = [_unwritten(shape, dtype, initial) for shape, dtype in outputs.values()]
        mx.eval(made)
        arrays += [_memory_of(array) for array in made]
        self._compile(kernel)(
            blocks,
            threads,
            ctypes.c_long(shared_bytes),
            int(resident == 1),  # those whose blocks wait for each other
            (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays)),
            (ctypes.c_int * max(1, len(scalars)))(*scalars.values()),
        )
        return made

    def _compile(self, kernel: runtime.Kernel) -> Callable[..., None]:
        symbol, text = kernel.written()
        if symbol not in self._compiled:
            path = self._folder / symbol
            path.with_suffix(".cpp").write_text(_as_cpp(kernel, symbol, text))
            library = path.with_suffix(".so")
            options = ["-std=c++17", "-O1", "-w", "-fPIC", "-shared"]
            done = subprocess.run(
                [str(COMPILER), *options, str(path.with_suffix(".cpp")), "-o", str(library)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr[:2000]
            self._compiled[symbol] = ctypes.CDLL(str(library)).run
        return self._compiled[symbol]


def _unwritten(shape: tuple[int, ...], dtype: mx.Dtype, initial: int | None) -> mx.array:
    """An output: what nobody writes is no number, where the type has any that is none."""
    if initial is not None:
        return mx.full(shape, initial, dtype)
    return mx.full(shape, mx.nan if mx.issubdtype(dtype, mx.floating) else 0, dtype)


def _memory_of(array: mx.array) -> np.ndarray:
    """The memory of an array, so that what is written there stays."""
    mx.eval(array)
    numbers = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    # As MLX does: of an array that lies in steps, a kernel gets a copy.
    return np.ascontiguousarray(np.array(numbers, copy=False))


def _as_cpp(kernel: runtime.Kernel, symbol: str, text: str) -> str:
    """A kernel's source as C++."""
    for name, body in INSTEAD.items():
        text = _with_body(text, name, body)
    assert not re.search(r"\basm\b", text)
    text = re.sub(r"#include <.*>|#pragma unroll.*", "", text)
    # Memory of MLX's on a CPU is not aligned as much as on a GPU.
    text = re.sub(r"alignas\([^{]*\) ", "", text)
    text = text.replace(
        "extern __shared__ float4 shared[];", "float4* shared = (float4*)current->block->shared;"
    ).replace("__CUDA_ARCH__", "900")
    types = [runtime.TYPES[dtype] for _, dtype in kernel.inputs + kernel.outputs]
    arguments = [f"(({kind}*)arrays[{n}])" for n, kind in enumerate(types)]
    arguments += [f"numbers[{n}]" for n in range(len(kernel.scalars))]
    called = CALLED.format(symbol=symbol, arguments=", ".join(arguments))
    return f'#include "{HEADER}"\n{text}\n{called}'


def _with_body(text: str, name: str, body: str) -> str:
    """A source with another body of a function, if it has that one."""
    head = re.search(rf"__device__ __forceinline__ [\w ]+\b{name}\([^{{]*\)\s*{{", text)
    if head is None:
        return text
    end = depth = head.end()
    depth = 1
    while depth > 0:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return f"{text[: head.end()]} {body} }}{text[end:]}"
