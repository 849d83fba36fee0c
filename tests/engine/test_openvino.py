"""The engine on OpenVINO: it generates what the MLX engine generates, token for token."""

import locale
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import segue
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import save_quantized
from segue.checkpoints.recipe import POSSIBLE, Recipe
from segue.engine.base import Sampling
from segue.engine.mlx import MLXEngine
from segue.engine.mlx.sampling import noise
from segue.engine.native.library import unavailable
from segue.errors import RequestError
from segue.pattern import UNKNOWN, delay

pytest.importorskip("openvino")
from segue.engine.cpu.sampling import BELOW_ONE, gumbel, random_words, sample
from segue.engine.openvino import OpenVINOEngine, runtime
from segue.engine.openvino.codec import MAX_MODELS
from segue.engine.openvino.packed import Packed, dequantized

TEXT = "drums piano"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Compiled models of tests lie where nobody else's do."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "segue" / "openvino"


@pytest.fixture(scope="module", params=["mono", "stereo"])
def engines(request, toy, toy_stereo):
    folder = str(toy if request.param == "mono" else toy_stereo)
    return MLXEngine(open_checkpoint(folder)), OpenVINOEngine(open_checkpoint(folder))


@pytest.fixture(scope="module")
def engine(toy):
    return OpenVINOEngine(open_checkpoint(str(toy)))


def sequence_of(engine, frames, seed=0):
    lm = engine.config.lm
    codes = np.random.default_rng(seed).integers(0, lm.cardinality, (lm.num_codebooks, frames))
    return delay(codes.astype(np.int32), lm.delays, lm.special_token)


def start_of(engine, known, total, takes=1):
    """A sequence of `total` frames of which the first are known, `(takes, K, S)`."""
    sequence = sequence_of(engine, total)
    sequence[:, known + 1 :] = UNKNOWN
    return np.repeat(sequence[None], takes, axis=0)


def generated(engine, sequence, seeds=(0,), sampling=None, text="", first_step=0):
    conditioning = engine.condition(text) if text else None
    columns = engine.prefill(sequence, seeds, sampling or Sampling(), conditioning, first_step)
    return np.stack(list(columns), axis=2)


def logits_of(engine, text=""):
    return engine.logits(sequence_of(engine, 30), engine.condition(text) if text else None)


# --- The codec ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [5, 640, 1000, 1920, 4480, 5120, 38_400, 3 * 64_000 + 17])
def test_the_codec_is_that_of_mlx_at_any_length(engines, length):
    mlx, openvino = engines
    channels = mlx.config.lm.audio_channels
    samples = np.random.default_rng(length).standard_normal((length, channels)) * 0.3
    codes = mlx.encode(samples.astype(np.float32))
    ours = openvino.encode(samples.astype(np.float32))
    assert ours.shape == codes.shape
    assert ours.dtype == np.int32
    assert (ours == codes).mean() > 0.998  # two entries may be as near as float32 can tell
    decoded = openvino.decode(codes)
    assert decoded.flags.c_contiguous or decoded.shape[1] > 1
    np.testing.assert_allclose(decoded, mlx.decode(codes), atol=1e-5)


def test_nothing_comes_of_nothing(engine):
    assert engine.encode(np.zeros((0, 1), np.float32)).shape == (4, 0)
    assert engine.decode(np.zeros((4, 0), np.int32)).shape == (0, 1)


def test_many_odd_lengths_do_not_pile_up(engine):
    for length in range(1, 2 * MAX_MODELS):
        engine.encode(np.zeros((length, 1), np.float32))
    assert len(engine.codec.models) <= MAX_MODELS


# --- The language model ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", TEXT])
def test_logits_are_those_of_mlx(engines, text):
    mlx, openvino = engines
    np.testing.assert_allclose(logits_of(openvino, text), logits_of(mlx, text), atol=1e-4)


SAMPLINGS = [
    Sampling(),
    Sampling(temperature=0),
    Sampling(top_k=1),
    Sampling(top_k=10, temperature=0.7),
    Sampling(top_k=0),
    Sampling(guidance_coef=3.0),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("text", ["", TEXT])
@pytest.mark.parametrize("starts", ["shared", "own"])
def test_it_generates_what_mlx_generates(engines, sampling, text, starts):
    """Also where it samples: both engines have the same noise."""
    seeds = (3, 4, 5)
    start = start_of(engines[0], 20, 60, takes=1 if starts == "shared" else 3)
    ours, theirs = (generated(e, start, seeds, sampling, text, first_step=7) for e in engines)
    assert ours.shape == theirs.shape == (3, engines[0].config.lm.num_codebooks, 43)
    np.testing.assert_array_equal(ours, theirs)


def test_a_take_is_the_same_alone_and_in_a_batch(engine):
    start = start_of(engine, 20, 60)
    together = generated(engine, start, (8, 9))
    for n, seed in enumerate((8, 9)):
        np.testing.assert_array_equal(generated(engine, start, (seed,))[0], together[n])


def test_noise_goes_on_where_an_earlier_window_ended(engine):
    start = start_of(engine, 20, 40)
    assert (generated(engine, start) != generated(engine, start, first_step=900)).any()


def test_known_columns_stay(engine):
    start = start_of(engine, 10, 30)
    start[:, 2, 20:25] = 7
    found = generated(engine, start)
    assert (found[:, 2, 20 - 11 : 25 - 11] == 7).all()


def test_a_sequence_that_is_known_already_has_no_columns_to_generate(engine):
    sequence = sequence_of(engine, 10)[None]
    assert list(engine.prefill(sequence, (0,), Sampling())) == []


def test_two_runs_at_once_are_independent(engine):
    one, other = start_of(engine, 10, 40), start_of(engine, 30, 60)
    alone = [generated(engine, start) for start in (one, other)]
    runs = [engine.prefill(start, (0,), Sampling()) for start in (one, other)]
    mixed = list(zip(*runs, strict=True))
    for n in range(2):
        np.testing.assert_array_equal(np.stack([c[n] for c in mixed], axis=2), alone[n])


def test_a_run_may_be_dropped_at_any_time(engine):
    for steps in (0, 1, 5):
        columns = engine.prefill(start_of(engine, 10, 60), (0,), Sampling())
        for _ in range(steps):
            next(columns)
        del columns
    assert generated(engine, start_of(engine, 10, 20)).shape == (1, 4, 13)


@pytest.mark.slow
def test_a_long_run_holds(engine):
    """As long as the model's window, in a process of its own: what breaks in it must not hide."""
    code = (
        "import sys, numpy as np\n"
        "from segue.checkpoints.opening import open_checkpoint\n"
        "from segue.engine.base import Sampling\n"
        "from segue.engine.openvino import OpenVINOEngine\n"
        "engine = OpenVINOEngine(open_checkpoint(sys.argv[1]))\n"
        "for takes, coef in ((1, None), (5, 3.0)):\n"
        "    start = np.full((1, 4, 1504), -1, np.int32)\n"
        "    start[:, :, :9] = 64\n"
        "    seeds = tuple(range(takes))\n"
        "    text = engine.condition('drums') if coef else None\n"
        "    run = engine.prefill(start, seeds, Sampling(guidance_coef=coef), text)\n"
        "    assert sum(1 for _ in run) == 1495\n"
        "print('whole')\n"
    )
    folder = os.path.join(os.path.dirname(__file__), "..", "golden", "mono")  # noqa: PTH118, PTH120
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=False
    )
    assert done.stdout == "whole\n", done.stderr


# --- Memory ---------------------------------------------------------------------------------------


def test_a_run_that_is_over_empties_its_cache(engine, monkeypatch):
    """Run to its end or dropped on the way; a compiled model would hold it until its next."""
    runs = []
    start = engine.lm.run
    monkeypatch.setattr(engine.lm, "run", lambda cross: runs.append(start(cross)) or runs[-1])
    whole = generated(engine, start_of(engine, 10, 40))
    columns = engine.prefill(start_of(engine, 10, 40), (0,), Sampling())
    next(columns)
    assert runs[1].stored_columns == 11
    del columns
    assert [run.stored_columns for run in runs] == [1, 1]
    np.testing.assert_array_equal(generated(engine, start_of(engine, 10, 40)), whole)


def text_hidden(engine):
    encoder, tokenizer = engine.text_encoder
    return encoder(np.array(tokenizer.encode(TEXT).ids))


def test_what_surrounds_the_language_model_makes_room_for_it(engine):
    samples = np.random.default_rng(0).standard_normal((6400, 1)).astype(np.float32)
    codes, hidden = engine.encode(samples), text_hidden(engine)
    assert engine.codec.models
    assert "text_encoder" in vars(engine)
    engine.prefill(start_of(engine, 10, 20), (0,), Sampling())
    assert not engine.codec.models
    assert "text_encoder" not in vars(engine)
    np.testing.assert_array_equal(engine.encode(samples), codes)
    np.testing.assert_array_equal(text_hidden(engine), hidden)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system decides alone")
def test_files_of_compiled_models_leave_memory_and_are_read_again(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # files that no other engine has mapped
    expected = logits_of(OpenVINOEngine(open_checkpoint(str(toy))))  # compiles where nobody did
    engine = OpenVINOEngine(open_checkpoint(str(toy)))  # reads what was compiled

    def resident():
        """Kilobytes of them that lie in memory."""
        total, ours = 0, False
        for line in open("/proc/self/smaps"):  # noqa: PTH123, SIM115
            if "-" in line.split()[0]:
                ours = str(tmp_path) in line
            elif ours and line.startswith("Rss:"):
                total += int(line.split()[1])
        return total

    before = resident()
    assert before > 0
    np.testing.assert_array_equal(logits_of(engine), expected)
    assert resident() < before / 2  # the system may keep a page that it has just touched
    np.testing.assert_array_equal(logits_of(engine), expected)
    batch = generated(engine, start_of(engine, 10, 20), (1, 2))  # weights are packed anew for it
    np.testing.assert_array_equal(batch[0], generated(engine, start_of(engine, 10, 20), (1,))[0])


@pytest.mark.slow
def test_paging_out_is_safe_while_models_come_and_go(toy):
    """In a process of its own: memory that is taken from its owner would end it."""
    code = (
        "import gc, sys, threading, numpy as np\n"
        "from segue.checkpoints.opening import open_checkpoint\n"
        "from segue.engine.openvino import OpenVINOEngine, runtime\n"
        "over = threading.Event()\n"
        "def models():\n"
        "    for _ in range(8):\n"
        "        engine = OpenVINOEngine(open_checkpoint(sys.argv[1]))\n"
        "        engine.encode(np.zeros((6400, 1), np.float32))\n"
        "        del engine\n"
        "        gc.collect()\n"
        "        others = [np.ones(1 << size, np.float32) for size in range(14, 22)]\n"
        "def memory():\n"
        "    while not over.is_set():\n"
        "        runtime.page_out()\n"
        "*those, other = [threading.Thread(target=f) for f in (models, models, memory)]\n"
        "for thread in (*those, other): thread.start()\n"
        "for thread in those: thread.join()\n"
        "over.set()\n"
        "other.join()\n"
        "print('whole')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(toy)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "whole\n", done.stderr


# --- Sampling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 7, 4 * 2048])
def test_random_words_are_those_of_mlx(size):
    for seed, step in ((0, 0), (3, 1), (2**32 - 1, 1500)):
        key = mx.array([seed, step], mx.uint32)
        theirs = np.array(mx.random.uniform(shape=(size,), key=key))
        words = random_words(seed, step, size, np.arange(size)).astype(np.float32)
        np.testing.assert_array_equal(np.minimum(words / np.float32(2**32), BELOW_ONE), theirs)


def test_noise_is_that_of_mlx():
    theirs = np.array(noise(mx.array([5, 6], mx.uint32), mx.array([9], mx.uint32), 4, 2048))
    at = np.arange(4 * 2048).reshape(4, 2048)
    for seed, one in zip((5, 6), theirs, strict=True):
        np.testing.assert_allclose(gumbel(seed, 9, 4 * 2048, at), one, rtol=1e-5, atol=1e-6)
    together = gumbel(np.array([5, 6], np.uint32)[:, None, None], 9, 4 * 2048, np.stack([at, at]))
    np.testing.assert_array_equal(together, [gumbel(seed, 9, 4 * 2048, at) for seed in (5, 6)])


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_top_k_keeps_exactly_k_where_logits_tie(top_k):
    logits = np.zeros((1, 1, 64), np.float32)
    drawn = {int(sample(logits, step, (0,), Sampling(top_k=top_k))[0, 0]) for step in range(300)}
    assert len(drawn) == top_k


# --- Quantized checkpoints ------------------------------------------------------------------------

SCOPES = {4: "all-quantizable", 8: "decoder-linears+emb", 3: "all-quantizable"}


def save(toy, folder, recipe, **options):
    save_quantized(open_checkpoint(str(toy)), recipe, folder, **options)
    return str(folder)


RECIPES = [
    *(Recipe(SCOPES[bits], bits, group) for bits in (4, 8) for group in (32, 64)),
    *(
        Recipe("decoder-linears", bits, groups[0], mode)
        for mode, sizes in POSSIBLE.items()
        for bits, groups in sizes.items()
        if (mode, bits) not in (("affine", 4), ("affine", 8)) and groups[0] <= 32
    ),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("cast_dtype", [None, "float16", "bfloat16"])
def test_a_quantized_checkpoint_is_the_same_model_on_both_engines(
    toy, tmp_path, recipe, cast_dtype
):
    folder = save(toy, tmp_path / "q", recipe, cast_dtype=cast_dtype)
    mlx, openvino = MLXEngine(open_checkpoint(folder)), OpenVINOEngine(open_checkpoint(folder))
    for text in ("", TEXT):
        np.testing.assert_allclose(logits_of(openvino, text), logits_of(mlx, text), atol=1e-3)
    compressed = recipe.mode == "affine" and recipe.bits in (4, 8)
    assert ("widened" in openvino.dtype) != compressed


def test_a_group_size_of_128_is_compressed_too():
    check_constant(np.random.default_rng(0).standard_normal((6, 256)), 4, 128)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("low", [-1.0, 0.25, -2.0])
def test_groups_on_one_side_of_zero_are_exact(bits, low):
    """Their zero point lies outside of what a weight can be."""
    check_constant(low + np.random.default_rng(0).random((5, 128)), bits, 64)


def check_constant(weight, bits, group_size):
    parts = [np.array(p) for p in mx.quantize(mx.array(weight.astype("f4")), group_size, bits)]
    packed = Packed(segue.checkpoints.config.QuantizationParams(bits, group_size), *parts)
    constant = packed.constant()
    # Found again in the graph: the constant that is multiplied is as small as it is on disk.
    kinds = set()
    nodes = [constant.get_node() if hasattr(constant, "get_node") else constant]
    while nodes:
        node = nodes.pop()
        nodes += [node.input_value(n).get_node() for n in range(node.get_input_size())]
        if node.get_type_name() == "Constant":
            kinds.add(node.get_output_element_type(0).get_type_name())
    assert f"u{bits}" in kinds
    x = runtime.ops.parameter(runtime.ov.PartialShape([-1, weight.shape[1]]), np.float32)
    model = runtime.ov.Model([runtime.ops.matmul(x, constant, False, True)], [x], "m")
    found = runtime.compiled(model)([np.eye(weight.shape[1], dtype=np.float32)])[0].T
    values, scales, biases = map(mx.array, parts)
    whole = np.array(mx.dequantize(values, scales, biases, group_size, bits))
    np.testing.assert_allclose(found, whole, atol=1e-6)


@pytest.mark.parametrize(
    ("bits", "group_size", "mode"),
    [(b, g, m) for m, sizes in POSSIBLE.items() for b, groups in sizes.items() for g in groups],
)
def test_packed_rows_are_what_mlx_says(bits, group_size, mode):
    weight = np.random.default_rng(bits).standard_normal((8, 256)).astype(np.float32)
    parts = mx.quantize(mx.array(weight), group_size, bits, mode)
    theirs = mx.dequantize(*parts, group_size=group_size, bits=bits, mode=mode)
    arrays = [np.array(part) for part in parts]
    params = segue.checkpoints.config.QuantizationParams(bits, group_size, mode)
    ours = dequantized(arrays[0], arrays[1], arrays[2] if len(arrays) > 2 else None, params)
    np.testing.assert_allclose(ours, np.array(theirs.astype(mx.float32)), rtol=1e-2)


def test_a_group_without_a_scale_is_widened(toy, tmp_path):
    """A scale of 0 makes a weight its bias, which no zero point can say."""
    folder = save(toy, tmp_path / "q", Recipe("decoder-linears", 4, 32))
    weights = load_file(tmp_path / "q" / "model.safetensors")
    weights["decoder.model.decoder.layers.0.fc1.scales"][0, 0] = 0
    save_file(weights, tmp_path / "q" / "model.safetensors")
    mlx, openvino = MLXEngine(open_checkpoint(folder)), OpenVINOEngine(open_checkpoint(folder))
    np.testing.assert_allclose(logits_of(openvino), logits_of(mlx), atol=1e-3)
    assert "4-bit" in openvino.dtype


def test_quantizing_in_memory_is_as_saving_first(toy, tmp_path):
    recipe = Recipe("decoder-linears+emb", 4, 32)
    saved = segue.load(save(toy, tmp_path / "q", recipe), engine="openvino").engine
    fresh = segue.load(str(toy), engine="openvino", recipe=recipe).engine
    np.testing.assert_array_equal(logits_of(fresh), logits_of(saved))


# --- Choosing it, and its cache -------------------------------------------------------------------


def test_it_is_what_a_processor_alone_gets(toy):
    if mx.default_device().type == mx.DeviceType.gpu:
        pytest.skip("MLX has a GPU here")
    engine = segue.load(str(toy)).engine
    assert engine.name == ("openvino" if unavailable() else "native")
    assert engine.dtype == "float32"
    assert segue.load(str(toy), engine="mlx").engine.name == "mlx"


def test_threads_are_counted_and_said(toy):
    assert "1 thread" in segue.load(str(toy), engine="openvino", threads=1).engine.device
    for threads in (0, -1, 10**6):
        with pytest.raises(RequestError, match="threads must lie"):
            segue.load(str(toy), engine="openvino", threads=threads)
    with pytest.raises(RequestError, match="choose the engine 'native' or 'openvino'"):
        segue.load(str(toy), engine="mlx", threads=2)


def test_compiled_models_are_kept_by_content(toy, tmp_path, cache):
    shutil.rmtree(cache, ignore_errors=True)
    copy = tmp_path / "copy"
    shutil.copytree(toy, copy)
    first = logits_of(OpenVINOEngine(open_checkpoint(str(toy))))
    kept = set(cache.glob("*.blob"))
    assert kept
    np.testing.assert_array_equal(logits_of(OpenVINOEngine(open_checkpoint(str(copy)))), first)
    assert set(cache.glob("*.blob")) == kept
    weights = load_file(copy / "model.safetensors")
    weights["decoder.model.decoder.layers.1.fc2.weight"][0, 0] += 1
    save_file(weights, copy / "model.safetensors")
    changed = OpenVINOEngine(open_checkpoint(str(copy)))
    np.testing.assert_allclose(
        logits_of(changed), logits_of(MLXEngine(open_checkpoint(str(copy)))), atol=1e-4
    )
    assert len(set(cache.glob("*.blob"))) > len(kept)


def test_a_damaged_compiled_model_is_compiled_anew(toy, cache):
    whole = logits_of(OpenVINOEngine(open_checkpoint(str(toy))))
    for path in cache.glob("*.blob"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    np.testing.assert_array_equal(logits_of(OpenVINOEngine(open_checkpoint(str(toy)))), whole)


def test_what_was_used_longest_ago_is_swept(tmp_path):
    for n in range(4):
        path = tmp_path / f"{n}.blob"
        path.write_bytes(bytes(10))
        os.utime(path, (n, n))
    runtime.sweep(tmp_path, limit=25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.blob", "3.blob"]


def test_a_cache_that_cannot_be_written_is_done_without(toy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert runtime.cache_folder() is None
    assert logits_of(OpenVINOEngine(open_checkpoint(str(toy)))).shape[0] == 34


def test_importing_it_reports_nothing_to_anybody():
    code = "import sys, segue.engine.openvino; print([m for m in sys.modules if 'telemetry' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_threads_that_compile_leave_the_locale_of_the_process_as_it_was():
    def model(n):
        weights = np.random.default_rng(n).normal(size=(64, 64)).astype(np.float32)
        x = runtime.ops.parameter([1, 64], np.float32)
        y = runtime.ops.matmul(x, runtime.ops.constant(weights), False, False)
        return runtime.ov.Model([y], [x])

    models = [model(n) for n in range(12)]
    before = locale.setlocale(locale.LC_ALL)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(runtime.compiled, models * 8))  # most of them from the cache
        assert locale.setlocale(locale.LC_ALL) == before
    finally:
        locale.setlocale(locale.LC_ALL, before)
