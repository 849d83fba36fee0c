"""The codec's CUDA kernels compute what the portable way computes: on a card, and emulated."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from benchmarks.gpu.codec import codes_of, even
from segue.checkpoints.config import CodecConfig
from segue.checkpoints.opening import open_checkpoint
from segue.engine.mlx import MLXEngine, codec_pieces, kernels
from segue.engine.mlx.codec import Conv, ConvTranspose, LSTMLayer
from segue.engine.mlx.execution import Execution
from segue.engine.mlx.kernels import compiling, convolution, recurrence, runtime

from .cuda_on_cpu import AVAILABLE, CudaOnCPU

cuda = pytest.mark.skipif(not kernels.available(), reason="needs CUDA: the codec on a card")

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "residual": {"sizes": (2, 131, 16, 132, 3), "dilation": 2, "before": True, "after": True},
    "skip": {"sizes": (2, 300, 64, 32, 1), "skip": True, "after": True},
    "strided, ragged": {"sizes": (2, 83, 8, 64, 8), "stride": 4},
    "first of the encoder": {"sizes": (1, 50, 1, 64, 7)},
    "last of the decoder": {"sizes": (2, 300, 32, 1, 7), "before": True},
    "zeros, causal": {"sizes": (1, 40, 8, 8, 3), "pad_mode": "constant", "causal": True},
}


@pytest.fixture
def emulator(monkeypatch, tmp_path_factory):
    if not AVAILABLE:
        pytest.skip("needs g++ on x86-64")
    found = CudaOnCPU(tmp_path_factory.mktemp("kernels"))
    monkeypatch.setattr(runtime, "gpu", lambda: runtime.GPU(132, 227 << 10, True))
    monkeypatch.setattr(runtime, "run", found.run)
    return found


def filled_with_noise(module):
    for module_ in module.modules():
        for name, values in module_.items():
            if isinstance(values, mx.array):
                module_[name] = 0.3 * mx.random.normal(values.shape)
    return module


def differ(one, other):
    return float(mx.abs(one - other).max())


def convolved(sizes, stride=1, dilation=1, before=False, after=False, skip=False, **config):
    """What the kernel makes of noise, and what the portable way makes of it."""
    mx.random.seed(1)
    B, T, into, out, kernel = sizes
    conv = filled_with_noise(Conv(CodecConfig(**config), into, out, kernel, stride, dilation))
    x = mx.random.normal((B, T, into))
    added = mx.random.normal((B, -(-T // stride), out)) if skip else None
    options = {"elu_before": before, "elu_after": after, "skip": added}
    portable = conv(x, **options)
    conv.fused = True
    return conv(x, **options), portable


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_convolution_is_the_portable_one(emulator, case):
    fused, portable = convolved(**CONVOLUTIONS[case])
    assert emulator.launched == ["convolve_narrow" if portable.shape[2] == 1 else "convolve"]
    assert differ(fused, portable) < 1e-5


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("sizes", "stride"), [((2, 19, 8, 4), 8), ((1, 150, 16, 32), 5)])
def test_a_transposed_convolution_is_the_portable_one(emulator, sizes, stride, causal):
    mx.random.seed(2)
    B, T, into, out = sizes
    conv = filled_with_noise(ConvTranspose(CodecConfig(causal=causal), into, out, stride))
    x = mx.random.normal((B, T, into))
    portable = conv(x)
    conv.fused = True
    assert differ(conv(x), portable) < 1e-5
    assert emulator.launched == ["convolve_transposed"]


@pytest.mark.parametrize(("rows", "tile"), [(1, 8), (3, 8), (5, 2)])
def test_an_lstm_is_the_portable_one_and_a_row_is_the_same_alone(emulator, rows, tile, monkeypatch):
    mx.random.seed(3)
    monkeypatch.setattr(recurrence, "THREADS", 128)  # not as many as a GPU has
    monkeypatch.setattr(recurrence, "TILE", min(4, tile))
    layer = filled_with_noise(LSTMLayer(64))
    x = mx.random.normal((rows, 6, 64))
    portable = layer(x)
    layer.fused = True
    found = layer(x)
    assert emulator.launched == ["convolve", "lstm"]
    assert differ(found, portable) < 1e-5
    np.testing.assert_array_equal(layer(x[-1:]), found[-1:])


def test_an_lstm_that_overflows_ends(emulator, monkeypatch):
    """NaN is what hidden states are before they are computed, too."""
    monkeypatch.setattr(recurrence, "THREADS", 128)
    layer = filled_with_noise(LSTMLayer(64))
    layer.bias[70] = mx.nan
    layer.fused = True
    assert mx.isnan(layer(mx.zeros((1, 3, 64)))).any(axis=(0, 2)).all()


def test_what_a_kernel_does_not_take_is_left_to_the_portable_way(monkeypatch):
    monkeypatch.setattr(runtime, "run", lambda *_, **__: pytest.fail("a kernel ran"))
    monkeypatch.setattr(runtime, "gpu", lambda: runtime.GPU(100, 227 << 10, True))
    config = CodecConfig()
    for odd in (
        Conv(config, 8, 2, 3),  # channels that are not read by fours
        Conv(config, 8, 1, 3),
        Conv(config, 64, 1, 8, 4),
        Conv(config, 8, 8, 7),  # a reflection that is longer than the signal
        ConvTranspose(config, 8, 6, 4),
        LSTMLayer(40),
    ):
        odd.fused = True
        width = odd.Wh.shape[1] if isinstance(odd, LSTMLayer) else odd.conv.weight.shape[2]
        mx.eval(odd(mx.zeros((1, 3, width))))
    assert not kernels.lstm_fits(recurrence.MAX_ROWS + 1, 512)
    assert not kernels.lstm_fits(1, 1024)  # more blocks than multiprocessors
    assert not kernels.lstm_fits(1, 2048)
    assert kernels.lstm_fits(1, 768)


def test_launches_of_all_threads_go_to_one_stream(toy, monkeypatch):
    """Two of `lstm` at once would wait for each other: see `turns`."""
    streams = []

    def run(name, source, inputs, constants, outputs, *_, **__):
        streams.append((name, str(mx.default_stream(mx.default_device()))))
        return [mx.zeros(shape, dtype) for shape, dtype in outputs.values()]

    monkeypatch.setattr(runtime, "run", run)
    monkeypatch.setattr(runtime, "gpu", lambda: runtime.GPU(132, 227 << 10, True))
    engine = MLXEngine(open_checkpoint(str(toy)), execution=Execution(False, kernels.CODEC))
    streams.clear()  # of what was launched to find out what there is to compile
    codes = codes_of(engine, 1, 9)
    with ThreadPoolExecutor(2) as pool:
        decoded = [pool.submit(engine.decode, codes) for _ in range(2)]
        encoded = [pool.submit(engine.encode, each.result()) for each in decoded]
        assert all(each.result().shape == codes.shape for each in encoded)
    assert [name for name, _ in streams].count("lstm") == 8
    assert len({stream for _, stream in streams}) == 1


def test_every_kernel_of_the_codec_compiles(toy, monkeypatch):
    pytest.importorskip("cuda.core", reason="needs the CUDA compiler: segue[cuda]")
    written = {}

    def run(name, source, inputs, constants, outputs, blocks, threads, functions="", **options):
        types = tuple((key, array.dtype) for key, array in inputs.items())
        made = tuple((key, dtype) for key, (_, dtype) in outputs.items())
        scalars, resident = tuple(options["scalars"]), options.get("resident", 0)
        numbers = tuple(constants.items())
        kernel = runtime.Kernel(
            name, source, types, made, numbers, threads, scalars, functions, resident
        )
        written[name] = kernel.written()
        return [mx.zeros(shape, dtype) for shape, dtype in outputs.values()]

    monkeypatch.setattr(runtime, "run", run)
    monkeypatch.setattr(runtime, "gpu", lambda: runtime.GPU(132, 227 << 10, True))
    engine = MLXEngine(open_checkpoint(str(toy)), execution=Execution(False, kernels.CODEC))
    engine.decode(codes_of(engine, 3, 9))
    narrow = Conv(CodecConfig(), 16, 1, 7)
    narrow.fused = True
    mx.eval(narrow(mx.zeros((1, 9, 16))))
    assert set(written) == {"convolve", "convolve_narrow", "convolve_transposed", "lstm"}
    for symbol, text in written.values():
        code = compiling.compiled(text, "sm_90")
        assert code[:4] == b"\x7fELF"
        assert symbol.encode() in code


def test_a_narrow_convolution_adds_nothing():
    weight = mx.zeros((1, 7, 32))
    assert kernels.convolution_fits(weight, 1, plain=True)
    assert not kernels.convolution_fits(weight, 1, plain=False)


@cuda
def test_the_whole_codec_is_the_portable_one_on_a_card(toy, monkeypatch):
    fused, portable = (
        MLXEngine(open_checkpoint(str(toy)), execution=Execution(True, on))
        for on in (kernels.CODEC, frozenset())
    )
    for engine in (fused, portable):
        even(engine)
    codes = codes_of(fused, 40, 70)
    samples = fused.decode(codes)
    np.testing.assert_allclose(samples, portable.decode(codes), atol=1e-4)
    np.testing.assert_array_equal(fused.decode(codes[7]), samples[7])
    monkeypatch.setattr(codec_pieces, "FRAMES_CONVOLVED", 20)
    monkeypatch.setattr(codec_pieces, "FRAMES_REMEMBERED", 200)
    np.testing.assert_array_equal(fused.decode(codes), samples)
    noise = np.random.default_rng(0).standard_normal((3, 70 * 640 - 5, 1)).astype(np.float32)
    assert (fused.encode(noise) == portable.encode(noise)).mean() > 0.998


@cuda
@pytest.mark.parametrize("rows", [1, 3, 16, 32])
def test_a_wide_lstm_is_the_portable_one_on_a_card(rows):
    mx.random.seed(4)
    layer = LSTMLayer(1024)
    layer.Wx, layer.Wh = (0.03 * mx.random.normal((4096, 1024)) for _ in range(2))
    x = mx.random.normal((rows, 40, 1024))
    portable = layer(x)
    layer.fused = True
    found = layer(x)
    mx.eval(found)
    assert differ(found, portable) < 1e-5
    np.testing.assert_array_equal(layer(x[-1:]), found[-1:])


@cuda
@pytest.mark.parametrize("channels", [(64, 1, 7), (128, 64, 3), (512, 256, 3), (256, 512, 1)])
def test_wide_convolutions_are_the_portable_ones_on_a_card(channels):
    fused, portable = convolved((2, 1000, *channels), before=True)
    scale = float(mx.abs(portable).max())
    assert differ(fused, portable) < 1e-5 * scale
    assert convolution.THREADS == 256
