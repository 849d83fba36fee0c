"""How CUDA kernels are chosen, written and compiled; none of it needs a GPU."""

import re
import sys
from dataclasses import replace
from types import MappingProxyType

import mlx.core as mx
import numpy as np
import pytest

from benchmarks.gpu.kernels import cases
from segue.engine.mlx import kernels
from segue.engine.mlx.kernels import choosing, compiling, memory, runtime
from segue.errors import RequestError

ONLY_A_CARD = "needs CUDA: whether the cache keeps what a kernel writes, only a card shows"
ARGUMENTS = (("x", mx.float32),), (("out", mx.float32),)
ADD = runtime.Kernel("add", "out[0] = x[0] + N;", *ARGUMENTS, (("N", 3),))
TWICE = "__device__ int twice(int n) { return 2 * n; }"


@pytest.fixture
def on_cuda(monkeypatch):
    """A machine with CUDA, of which nothing is known yet."""
    monkeypatch.setattr(choosing, "on_cuda", lambda: True)
    monkeypatch.setattr(runtime, "architecture", lambda: "sm_90")
    known = runtime.compile_error, runtime.compiler, compiling.cuda_headers, compiling.load_compiler
    for each in known:
        each.cache_clear()
    yield
    for each in known:
        each.cache_clear()


@pytest.fixture
def no_compiler(on_cuda, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.core", None)


@pytest.fixture
def compiler(on_cuda, monkeypatch, tmp_path):
    """cuda.core, and an empty place on disk for what it compiles."""
    core = pytest.importorskip("cuda.core", reason="needs the CUDA compiler: segue[cuda]")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return core


@pytest.fixture
def requested(monkeypatch):
    """The kernels that are requested, by whatever calls them; nothing runs."""
    found = []

    def run(
        name,
        source,
        inputs,
        constants,
        outputs,
        blocks,
        threads,
        functions="",
        scalars=MappingProxyType({}),
        shared_bytes=0,
        resident=0,
        initial=None,
    ):
        types = tuple((key, array.dtype) for key, array in inputs.items())
        made = tuple((key, dtype) for key, (_, dtype) in outputs.items())
        numbers = tuple(constants.items()), threads, tuple(scalars)
        found.append(runtime.Kernel(name, source, types, made, *numbers, functions, resident))
        return [mx.zeros(shape, dtype) for shape, dtype in outputs.values()]

    monkeypatch.setattr(runtime, "run", run)
    monkeypatch.setattr(runtime, "gpu", lambda: runtime.GPU(132, 99 << 10, True))
    return found


def test_kernels_are_named_by_the_variable_and_only_run_on_cuda(on_cuda, monkeypatch):
    monkeypatch.setattr(runtime, "compile_error", lambda: None)
    monkeypatch.setattr(memory, "cache_write_persists", lambda: True)
    monkeypatch.setenv(kernels.VARIABLE, "linear, attend")
    assert kernels.chosen(64) == {"linear", "attend"}
    assert kernels.chosen(40) == {"linear"}
    monkeypatch.setenv(kernels.VARIABLE, "layer")
    assert kernels.chosen(64) == {"layer", "attend"}
    assert kernels.chosen(40) == frozenset()
    monkeypatch.setenv(kernels.VARIABLE, "all")
    assert kernels.chosen(64) == set(kernels.NAMES)
    monkeypatch.setenv(kernels.VARIABLE, "none")
    assert kernels.chosen(64) == frozenset()
    monkeypatch.setattr(choosing, "on_cuda", lambda: False)
    monkeypatch.setenv(kernels.VARIABLE, "all")
    assert kernels.chosen(64) == frozenset()


def test_a_kernel_that_there_is_not_is_named(monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, "linear,magic")
    with pytest.raises(RequestError, match=r"magic.*embed, layer, linear, attend, sample"):
        kernels.chosen(64)


def attention(writes):
    """What `attend` computes, in numpy, from a cache of its own that is written or is not."""
    filled = np.zeros((2, memory.HEADS, memory.STEPS, memory.DIM), np.float32)

    def attend(qkv, cache, position, heads):
        q, k, v = np.array(qkv).reshape(3, heads, memory.DIM)
        at = position.item()
        stored = filled.copy()
        stored[:, :, at] = k, v
        if writes:
            filled[:] = stored
        scores = np.einsum("hd,hld->hl", q, stored[0, :, : at + 1]) / memory.DIM**0.5
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        return mx.array(np.einsum("hl,hld->hd", shares, stored[1, :, : at + 1]).reshape(1, -1))

    return attend


@pytest.mark.parametrize("writes", [True, False])
def test_a_cache_in_which_a_write_does_not_persist_is_noticed(writes, monkeypatch):
    monkeypatch.setattr(memory, "attend", attention(writes))
    monkeypatch.setattr(mx, "compile", lambda step: step)
    assert memory.cache_write_persists.__wrapped__() == writes


def test_without_a_persistent_cache_attention_takes_the_portable_way(on_cuda, monkeypatch):
    monkeypatch.setattr(runtime, "compile_error", lambda: None)
    monkeypatch.setattr(memory, "cache_write_persists", lambda: False)
    monkeypatch.setattr(choosing, "FASTER", frozenset({"attend", "layer", "linear"}))
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    assert kernels.chosen(64) == {"linear"}
    monkeypatch.setenv(kernels.VARIABLE, "attend,linear")
    line = r"^SEGUE_MLX_KERNELS=(attend,linear|layer): .* leave attend and layer out"
    with pytest.raises(RequestError, match=line):
        kernels.chosen(64)
    monkeypatch.setenv(kernels.VARIABLE, "layer")
    with pytest.raises(RequestError, match=line):
        kernels.chosen(64)


@pytest.mark.skipif(not kernels.available(), reason=ONLY_A_CARD)
def test_what_the_kernel_writes_to_the_cache_persists():
    assert memory.cache_write_persists()


def test_without_a_compiler_the_portable_way_is_taken(no_compiler, monkeypatch):
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    monkeypatch.setattr(choosing, "FASTER", frozenset({"attend"}))
    assert not kernels.available()
    assert kernels.chosen(64) == frozenset()


def test_a_kernel_that_is_named_but_cannot_be_compiled_is_refused(no_compiler, monkeypatch):
    monkeypatch.setenv(kernels.VARIABLE, "linear,attend")
    with pytest.raises(RequestError) as refused:
        kernels.chosen(64)
    line = str(refused.value)
    assert re.match(r"SEGUE_MLX_KERNELS=linear,attend: .*\(.*cuda.*\).*segue\[cuda\].*=none$", line)
    monkeypatch.setenv(kernels.VARIABLE, "none")
    assert kernels.chosen(64) == frozenset()


def test_where_no_kernel_is_wanted_the_compiler_is_not_looked_for(on_cuda, monkeypatch):
    monkeypatch.setattr(runtime, "compile_error", lambda: pytest.fail("looked for"))
    monkeypatch.setattr(choosing, "FASTER", frozenset())
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    assert kernels.chosen(64) == frozenset()


def test_what_is_compiled_has_its_constants_and_includes_what_its_types_need():
    inputs, outputs = (("x", mx.float16), ("n", mx.int32)), (("out", mx.float32), ("s", mx.uint32))
    constants = (("T", mx.float16), ("N", 8), ("WIDE", True), ("DEEP", False))
    source = "out[0] = x[n[0]] + twice(m);"
    kernel = runtime.Kernel("sum", source, inputs, outputs, constants, 64, ("m",), TWICE)
    symbol, text = kernel.written()
    known, _, body = text.partition('extern "C"')
    assert body == (
        f" __global__ void __launch_bounds__(64) {symbol}"
        "(const __half* x, const int* n, float* out, unsigned* s, int m) {\n"
        "out[0] = x[n[0]] + twice(m);\n}\n"
    )
    assert (
        "using T = __half;\nconstexpr int N = 8;\n"
        f"constexpr bool WIDE = true;\nconstexpr bool DEEP = false;\n{TWICE}\n"
    ) in known
    assert re.findall(r"#include <(.*)>", text) == ["cuda_fp16.h"]
    assert "#include" not in ADD.written()[1]
    both = replace(ADD, constants=(("T", mx.float16), ("TO", mx.bfloat16))).written()[1]
    assert re.findall(r"#include <(.*)>", both) == ["cuda_fp16.h", "cuda_bf16.h"]


def test_kernels_of_one_name_that_differ_have_different_symbols(monkeypatch):
    same = [ADD.written()[0] for _ in range(2)]
    others = [
        replace(ADD, **change).written()
        for change in (
            {"source": ADD.source + " "},
            {"inputs": (("x", mx.float16),)},
            {"outputs": (("out", mx.int32),)},
            {"constants": (("N", 4),)},
            {"threads": 64},
            {"scalars": ("n",)},
            {"functions": TWICE},
            {"resident": 1},
        )
    ]
    monkeypatch.setattr(runtime, "HEADER", runtime.HEADER + " ")
    others.append(ADD.written())
    assert same[0] == same[1]
    assert re.fullmatch(r"segue_add_[0-9a-f]{16}", same[0])
    assert len({same[0], *(symbol for symbol, _ in others)}) == 10


def test_every_word_of_a_kernel_is_filled_in(requested):
    for dtype in (mx.float16, mx.bfloat16, mx.float32):
        for case in cases(64, 2, 3, dtype):
            case.fused()
    names = {each.name for each in requested}
    assert {
        "embed",
        "attend",
        "sample",
        "layer",
        "linear_norm",
        "linear_quantized_norm_gelu",
    } < names
    texts = dict(each.written() for each in requested)
    assert len(texts) == len(set(requested))
    for text in texts.values():
        assert not re.search(r"\b\w+_(PART|SOURCE|STORED)\b|\bX_AT\b", text)
        assert "mlx" not in text


def test_each_kernel_compiles(compiler, requested):
    for rows in (1, 4):
        for case in cases(64, 2, rows, mx.bfloat16):
            case.fused()
    for each in {one.name: one for one in requested}.values():
        symbol, code = runtime.compiled_kernel(each)
        assert code[:4] == b"\x7fELF"
        assert symbol.encode() in code


def test_what_was_compiled_is_read_from_disk(compiler, monkeypatch, tmp_path):
    _, text = ADD.written()
    code = compiling.compiled(text, "sm_90")
    assert compiling.compiled(text, "sm_80") != code
    program = compiler.Program
    monkeypatch.setattr(compiler, "Program", lambda *_: pytest.fail("compiled anew"))
    assert compiling.compiled(text, "sm_90") == code

    for path in (tmp_path / "segue" / "cuda" / "entries").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-100])
    monkeypatch.setattr(compiler, "Program", program)
    assert compiling.compiled(text, "sm_90") == code


def test_what_is_refused_beside_others_is_compiled_once_more_alone(compiler, monkeypatch):
    program, asked = compiler.Program, []

    def refused_at_first(*given):
        asked.append(given)
        if len(asked) == 1:
            raise RuntimeError("invalid value for --gpu-architecture (-arch)")
        return program(*given)

    monkeypatch.setattr(compiler, "Program", refused_at_first)
    assert compiling.compiled(ADD.written()[1], "sm_90")[:4] == b"\x7fELF"
    assert len(asked) == 2


def test_a_cache_that_cannot_be_written_is_done_without(compiler, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiling.compiled(ADD.written()[1], "sm_90")[:4] == b"\x7fELF"


def test_what_does_not_compile_is_reported_in_one_line(compiler, monkeypatch):
    with pytest.raises(RequestError, match=r'identifier "nothing" is undefined') as refused:
        runtime.compiled_kernel(replace(ADD, source="out[0] = nothing;"))
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(runtime, "architecture", lambda: "sm_1")
    assert "gpu-architecture" in runtime.compile_error()
