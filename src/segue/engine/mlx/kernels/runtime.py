"""From CUDA source to a kernel that runs: put together, compiled, cached on disk, launched.

`mx.fast.cuda_kernel` would do all of it, but the headers that it puts before every source cost the
compiler seconds a kernel, in every process anew, and it takes two kernels of one name for the same.
Here a kernel includes what its types need, and has a hash of its source in its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mlx.core as mx

from ....errors import RequestError
from ...caching import cache_folder

VARIABLE = "SEGUE_MLX_KERNELS"
"""The environment variable that chooses kernels."""

MAX_CACHE_BYTES = 64 << 20
"""What compiled kernels may take on disk, some 5 to 80 kB each; those that nobody used for longest
go first."""

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

INCLUDES = {"__half": "cuda_fp16.h", "__nv_bfloat16": "cuda_bf16.h"}
"""Where CUDA defines types that are not the compiler's own."""

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
def compiled_kernel(kernel: Kernel) -> tuple[str, bytes]:
    """Compile a kernel, once in a process: its symbol and its code.

    Raises:
        RequestError: it cannot be compiled.
    """
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


def compiled(text: str, arch: str) -> bytes:
    """Compile `text`, or read what it was compiled to from disk.

    On disk it has a hash of itself before it: a damaged file is compiled anew.

    Args:
        text: from `Kernel.written`.
        arch: the GPU's, from `architecture`.
    """
    # Some 50 MB and half a second, which only a machine with CUDA has to have.
    from cuda.core import Program, ProgramOptions
    from cuda.core.utils import make_program_cache_key

    folder, digest = cuda_headers()
    options = ProgramOptions(arch=arch, include_path=folder)
    key = make_program_cache_key(
        code=text, code_type="c++", options=options, target_type="cubin", extra_digest=digest
    )
    store = _store()
    with suppress(OSError):
        cached = store.get(key, b"")
        if cached and sha256(cached[32:]).digest() == cached[:32]:
            return cached[32:]
    code = bytes(Program(text, "c++", options).compile("cubin").code)
    with suppress(OSError):
        store[key] = sha256(code).digest() + code
    return code


def _store() -> Any:
    """Bytes by their keys: on disk, or nowhere if there is no place for them."""
    from cuda.core.utils import FileStreamProgramCache

    folder = cache_folder("cuda")
    with suppress(OSError):
        if folder is not None:
            return FileStreamProgramCache(folder, max_size_bytes=MAX_CACHE_BYTES)
    return {}


@cache
def cuda_headers() -> tuple[str, bytes]:
    """The folder that CUDA's headers are in, and a hash of those that kernels include."""
    from cuda.pathfinder import find_nvidia_header_directory

    folder = find_nvidia_header_directory("cudart")
    if folder is None:
        raise FileNotFoundError("CUDA's headers are not found")
    digest = sha256()
    for file in INCLUDES.values():
        for path in sorted(Path(folder).glob(f"{file}*")):  # with cuda_fp16.hpp and such
            digest.update(path.read_bytes())
    return folder, digest.digest()
