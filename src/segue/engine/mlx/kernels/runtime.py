"""From CUDA source to a kernel that runs: put together, compiled (`compiling`), launched.

`mx.fast.cuda_kernel` would do all of it, but the headers that it puts before every source cost the
compiler seconds a kernel, in every process anew, and it takes two kernels of one name for the same.
Here a kernel includes what its types need, and has a hash of its source in its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from types import MappingProxyType

import mlx.core as mx

from ....errors import RequestError
from .compiling import INCLUDES, Compiler, compiled, load_compiler

VARIABLE = "SEGUE_MLX_KERNELS"
"""The environment variable that chooses kernels."""

Constant = int | bool | mx.Dtype
Arguments = tuple[tuple[str, mx.Dtype], ...]

TYPES = {
    mx.float32: "float",
    mx.float16: "__half",
    mx.bfloat16: "__nv_bfloat16",
    mx.int32: "int",
    mx.uint32: "unsigned",
    mx.uint8: "unsigned char",
}

# A chunk is eight values: 16 bytes of float16, 4 of four-bit weights.
HEADER = """
#define LEAST __int_as_float(0xff800000)

template <typename T>
struct alignas(8 * sizeof(T)) Chunk {
  T value[8];
};

template <typename T>
__device__ __forceinline__ void read_chunk(const T* from, float* to) {
  Chunk<T> chunk = *reinterpret_cast<const Chunk<T>*>(from);
#pragma unroll
  for (int i = 0; i < 8; i++) to[i] = static_cast<float>(chunk.value[i]);
}

template <typename T>
__device__ __forceinline__ float rounded(float value) {
  return static_cast<float>(static_cast<T>(value));
}
"""


@dataclass(frozen=True)
class Kernel:
    """A kernel that is not compiled yet.

    Attributes:
        name: for people; kernels of one name may differ.
        source: the body, a thread's work.
        inputs: types by their names in the source, which are pointers to what is contiguous.
        outputs: likewise, after the inputs.
        constants: numbers and types by their names in the source.
        threads: of each block.
        scalars: names of numbers that may differ from call to call, after the outputs.
        functions: what the source calls; constants are known there.
        resident: blocks that a multiprocessor is to run at once, which share its registers; 0
            leaves their number to the compiler.
    """

    name: str
    source: str
    inputs: Arguments
    outputs: Arguments
    constants: tuple[tuple[str, Constant], ...] = ()
    threads: int = 32
    scalars: tuple[str, ...] = ()
    functions: str = ""
    resident: int = 0

    def written(self) -> tuple[str, str]:
        """Its symbol, and all of its source."""
        pointers = [f"const {TYPES[dtype]}* {key}" for key, dtype in self.inputs]
        pointers += [f"{TYPES[dtype]}* {key}" for key, dtype in self.outputs]
        parameters = ", ".join([*pointers, *(f"int {key}" for key in self.scalars)])
        lines = [_line(key, value) for key, value in self.constants]
        known = "\n".join([HEADER, *lines, self.functions])
        # Without a bound the compiler may use more registers than so many threads can have.
        resident = f", {self.resident}" if self.resident else ""
        bound = f"__launch_bounds__({self.threads}{resident})"
        body = f"({parameters}) {{\n{self.source}\n}}\n"
        text = known + bound + body
        includes = "".join(
            f"#include <{file}>\n" for kind, file in INCLUDES.items() if kind in text
        )
        symbol = f"segue_{self.name}_{sha256((includes + text).encode()).hexdigest()[:16]}"
        return symbol, f'{includes}{known}\nextern "C" __global__ void {bound} {symbol}{body}'


PROBE = Kernel(
    "probe",
    """
float values[8], others[8];
read_chunk(x, values);
read_chunk(y, others);
out[0] = rounded<T>(values[0] + others[0]);
""",
    (("x", mx.float16), ("y", mx.bfloat16)),
    (("out", mx.float32),),
    (("T", mx.float16),),
)


def run(
    name: str,
    source: str,
    inputs: Mapping[str, mx.array],
    constants: Mapping[str, Constant],
    outputs: Mapping[str, tuple[tuple[int, ...], mx.Dtype]],
    blocks: int,
    threads: int,
    functions: str = "",
    scalars: Mapping[str, int] = MappingProxyType({}),
    shared_bytes: int = 0,
    resident: int = 0,
    initial: int | None = None,
) -> list[mx.array]:
    """Launch a kernel, and return its outputs.

    Args:
        name: see `Kernel`.
        source: see `Kernel`.
        inputs: by their names in the source.
        constants: likewise.
        outputs: shapes and types by their names in the source.
        blocks: how many are launched.
        threads: of each block.
        functions: what the source calls.
        scalars: by their names in the source.
        shared_bytes: of memory that a block's threads share, besides what the source declares.
        resident: see `Kernel`.
        initial: what outputs are filled with before; None leaves them as they are.

    Raises:
        RequestError: it cannot be compiled.
    """
    kernel = Kernel(
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
    if (collected := noted(kernel, outputs)) is not None:
        return collected
    symbol, code = compiled_kernel(kernel)
    return mx.fast.precompiled_cuda_kernel(
        name=symbol,
        compiled_source=code,
        inputs=list(inputs.values()),
        output_shapes=[shape for shape, _ in outputs.values()],
        output_dtypes=[dtype for _, dtype in outputs.values()],
        scalars=list(scalars.values()),
        grid=(blocks * threads, 1, 1),
        threadgroup=(threads, 1, 1),
        shared_memory=shared_bytes,
        init_value=initial,
        ensure_row_contiguous=True,
    )


_WANTED: ContextVar[dict[Kernel, None] | None] = ContextVar("_WANTED", default=None)


@contextmanager
def collecting() -> Iterator[dict[Kernel, None]]:
    """Note kernels in place of launching them: what is computed within must not be evaluated.

    Yields:
        The kernels, as keys in the order in which they are first launched.
    """
    wanted: dict[Kernel, None] = {}
    before = _WANTED.set(wanted)
    try:
        yield wanted
    finally:
        _WANTED.reset(before)


def noted(
    kernel: Kernel, outputs: Mapping[str, tuple[tuple[int, ...], mx.Dtype]]
) -> list[mx.array] | None:
    """Note a kernel, and return outputs that mean nothing, if kernels are only collected."""
    if (wanted := _WANTED.get()) is None:
        return None
    wanted[kernel] = None
    return [mx.zeros(shape, dtype) for shape, dtype in outputs.values()]


def evaluate(arrays: object) -> None:
    """What `mx.eval` does, but nothing while kernels are only collected."""
    if _WANTED.get() is None:
        mx.eval(arrays)


@cache
def compile_error() -> str | None:
    """Why kernels cannot be compiled here, or None if they can; it compiles a small one."""
    try:
        compiled_kernel(PROBE)
    except RequestError as error:
        return str(error)
    return None


def _line(name: str, value: Constant) -> str:
    """A constant of the source."""
    if isinstance(value, mx.Dtype):
        return f"using {name} = {TYPES[value]};"
    if isinstance(value, bool):
        return f"constexpr bool {name} = {str(value).lower()};"
    return f"constexpr int {name} = {value};"


@cache
def compiler() -> Compiler[Kernel, tuple[str, bytes]]:
    """That of the process."""
    return Compiler(_compile)


def start_compiling(kernels: Iterable[Kernel]) -> list[Future[tuple[str, bytes]]]:
    """Compile kernels in threads; whoever launches one waits for it."""
    load_compiler()
    return [compiler().start(kernel) for kernel in kernels]


def compiled_kernel(kernel: Kernel) -> tuple[str, bytes]:
    """Compile a kernel, once in a process: its symbol and its code.

    Raises:
        RequestError: it cannot be compiled.
    """
    load_compiler()
    return compiler().start(kernel).result()


def _compile(kernel: Kernel) -> tuple[str, bytes]:
    symbol, text = kernel.written()
    try:
        return symbol, compiled(text, architecture())
    # Each library on the way has its own errors: one is missing, it does not find another, the
    # compiler is too old for the GPU.
    except Exception as error:
        raise RequestError(
            f"CUDA kernels cannot be compiled here ({_reason(error)}); "
            f"install segue[cuda], or set {VARIABLE}=none"
        ) from error


def _reason(error: Exception) -> str:
    """The line of an error's message that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" \0")]
    return next((line for line in lines if "error:" in line), (lines or [type(error).__name__])[0])


@cache
def architecture() -> str:
    """The GPU's, as the compiler names it: `sm_90`."""
    return str(mx.device_info()["architecture"])


@dataclass(frozen=True)
class GPU:
    """What kernels have to know of it.

    Attributes:
        multiprocessors: how many; so many blocks of a kernel surely run at once.
        shared_bytes: of shared memory, what a block may have at most.
        tensor_cores: whether it has those that multiply float16 and bfloat16, 16 by 16.
    """

    multiprocessors: int
    shared_bytes: int
    tensor_cores: bool


@cache
def gpu() -> GPU:
    """The one that MLX computes on."""
    from cuda.core import Device

    properties = Device(0).properties
    return GPU(
        properties.multiprocessor_count,
        properties.max_shared_memory_per_block_optin,
        properties.compute_capability_major >= 8,
    )
