"""The native engine: every path computes what plain C does, and that what MLX does."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import segue
from segue.checkpoints.config import QuantizationParams
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import quantized
from segue.checkpoints.recipe import Recipe
from segue.demo.toy import write_checkpoint
from segue.engine.base import Sampling
from segue.errors import ModelOverflowError, RequestError
from segue.pattern import UNKNOWN, delay

from ..broken import broken
from .engines import require

mx = pytest.importorskip("mlx.core")
pytest.importorskip("openvino")

from segue.engine.mlx import MLXEngine  # noqa: E402
from segue.engine.native import library, packing, structures  # noqa: E402
from segue.engine.native.engine import NativeEngine  # noqa: E402
from segue.engine.native.lm import Cache, NativeLM, Rows, TextCache  # noqa: E402
from segue.engine.native.measured_products import Products  # noqa: E402
from segue.engine.openvino.packed import Packed  # noqa: E402
from segue.engine.openvino.weights import Weights  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _native():
    require("native")


def paths():
    return library.load().segue_paths().decode().split()


def packed_of(bits, group, rows=48, columns=256):
    weight = mx.random.normal((rows, columns), key=mx.random.key(bits * group))
    words, scales, biases = (np.array(part) for part in mx.quantize(weight, group, bits))
    return Packed(QuantizationParams(bits, group), words, scales, biases)


def columns_of(count, columns=256, seed=0):
    x = np.random.default_rng(seed).standard_normal((count, columns)).astype(np.float32)
    x[0, 5] = 300  # an outlier, as activations have them
    return x


def close(found, x, packed, activations=16):
    """Whether products are as near as so many bits of the largest activation make them."""
    weights = packed.dense().astype(np.float64)
    apart = np.abs(found - x.astype(np.float64) @ weights.T).max()
    return (
        apart
        <= {16: 4e-5, 8: 1e-2}[activations]
        * np.abs(x).max()
        * np.linalg.norm(weights, axis=1).max()
    )


# --- Products -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("activations", [8, 16])
def test_every_path_multiplies_as_float64_does(bits, group, activations):
    packed = packed_of(bits, group)
    x = columns_of(27)
    for path in paths():
        multiply = Products([packed], 2, path, activations)
        for columns in (x, x[:3]):
            [found] = multiply(columns)
            assert close(found, columns, packed, activations)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 17, 256])
@pytest.mark.parametrize("activations", [8, 16])
def test_a_column_has_the_same_product_whatever_is_beside_it(count, activations):
    x, packed = columns_of(count, 640), [packed_of(bits, 64, columns=640) for bits in (2, 4, 8)]
    for path in paths():
        multiply = Products(packed, 2, path, activations)
        whole = multiply(x)
        for n in {0, count // 2, count - 1}:
            np.testing.assert_array_equal(
                [each[n] for each in whole], [each[0] for each in multiply(x[n : n + 1])]
            )


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("activations", [8, 16])
def test_integers_are_multiplied_exactly_on_every_path(bits, activations):
    """Scales are powers of two, so floats round nothing: the products are the integers' own."""
    packed, most = packed_of(bits, 64, columns=640), {8: 127, 16: 32639}[activations]
    scales = np.full_like(packed.scales, 0.25)
    biases = np.full_like(scales, -0.25 * (2**bits - 1))
    packed = Packed(packed.params, packed.weight, scales, biases)
    x = np.random.default_rng(2).integers(-most, most, (20, 640), endpoint=True)
    x[:2], x[:, ::64] = [[most], [-most]], most  # the largest sums, and a scale of 1
    weights = np.rint(4 * packed.dense()).astype(np.int64)
    for path in paths():
        multiply = Products([packed], 2, path, activations)
        for columns in (x, x[:2]):
            [found] = multiply(columns.astype(np.float32))
            exact = columns @ weights.T
            if activations == 8:
                np.testing.assert_array_equal(4 * found, exact)
            else:  # beyond float32's 24 bits, each group's sum is rounded
                np.testing.assert_allclose(
                    4 * found, exact, rtol=0, atol=2e-6 * np.abs(exact).max()
                )


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 33])
def test_rows_need_not_fill_a_block(rows):
    packed, x = packed_of(4, 32, rows=rows), columns_of(2)
    for path in paths():
        [found] = Products([packed], 3, path)(x)
        assert close(found, x, packed)


@pytest.mark.parametrize(
    ("scale", "bias", "head"),
    [
        (np.float32(0.1), -3 * np.float32(0.1), structures.ZERO_POINT),
        (np.float32(-0.1), -15 * np.float32(-0.1), structures.ZERO_POINT),
        (np.float32(0.25), np.float32(0.3), structures.FLOAT_BIAS),
        (np.float32(0.1), np.float32(0.1), structures.FLOAT_BIAS),  # a zero point of -1
        (np.float32(0.0), np.float32(0.1), structures.FLOAT_BIAS),
        (np.float32(0.25), np.float32(0.625), structures.HALF_BIAS),
        (np.float32(0.0), np.float32(0.0), structures.HALF_BIAS),
    ],
)
def test_scales_and_biases_are_never_rounded(scale, bias, head):
    packed = packed_of(4, 64)
    packed = Packed(
        packed.params,
        packed.weight,
        np.full_like(packed.scales, scale),
        np.full_like(packed.scales, bias),
    )
    assert packing.packed_matrix(packed)[0].head == head
    # Activations that their own quantization does not round: the largest of a group is its limit.
    x = np.random.default_rng(1).integers(-32639, 32639, (2, 256)).astype(np.float32)
    x[:, ::64] = 32639
    weights = packed.dense().astype(np.float64)
    expected = x.astype(np.float64) @ weights.T
    for path in paths():
        [found] = Products([packed], 1, path)(x)
        assert np.abs(found - expected).max() <= 5e-7 * (np.abs(x) @ np.abs(weights).T).max()


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_floats_are_kept_in_their_type(kind):
    weight = np.random.default_rng(0).standard_normal((40, 256)).astype(kind).astype(np.float32)
    weight *= 2.0**20 if kind is ml_dtypes.bfloat16 else 1  # beyond float16
    matrix, memory = packing.float_matrix(weight)
    assert memory.nbytes == 48 * 256 * (4 if kind is np.float32 else 2)
    assert matrix.kind == {np.float32: 0, np.float16: 1, ml_dtypes.bfloat16: 2}[kind]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_none_in_the_product(value):
    x = columns_of(2)
    x[1, 70] = value
    for path in paths():
        for activations in (8, 16):
            [found] = Products([packed_of(4, 64)], 1, path, activations)(x)
            assert np.isfinite(found[0]).all()
            assert not np.isfinite(found[1]).any()


def test_tiny_and_huge_activations_stay_in_range():
    packed = packed_of(8, 64)
    for size in (1e-38, 1e-20, 1e30):
        x = columns_of(1) * np.float32(size)
        for path in paths():
            [found] = Products([packed], 1, path)(x)
            assert np.isfinite(found).all()
            if size > 1e-30:
                assert close(found, x, packed)


# --- The whole model ------------------------------------------------------------------------------

RECIPES = {
    "as stored": None,
    **{f"{bits} bits": Recipe("decoder-linears", bits, 32) for bits in (2, 3, 4, 5, 6, 8)},
    "embeddings too": Recipe("decoder-linears+emb", 4, 64),
    "mxfp4": Recipe("decoder-linears", 4, 32, mode="mxfp4"),
}


@pytest.fixture(scope="module", params=RECIPES)
def pair(request, toy):
    """Makes a language model of the toy's by a path and more, and MLX on the same weights."""
    recipe = RECIPES[request.param]
    checkpoint = quantized(open_checkpoint(str(toy)), recipe, None)

    def make(**options):
        weights = Weights(checkpoint.lm, checkpoint.config.quantization)
        return NativeLM(checkpoint.config.lm, weights, **options)

    return make, MLXEngine(open_checkpoint(str(toy)), recipe=recipe)


def sequence_of(config, frames=60, seed=0):
    codes = np.random.default_rng(seed).integers(0, config.cardinality, (4, frames))
    return delay(codes.astype(np.int32), config.delays, config.special_token)


def logits_of(lm, sequence):
    hidden = lm.embed(sequence.T, 0)
    logits = lm.run([Rows(Cache(lm, len(hidden)), hidden, last=len(hidden))])
    return logits.reshape(sequence.shape[1], len(sequence), -1)


def divergence(expected, found):
    """Mean KL divergence of softmaxes over the last axis, in float64."""
    p, q = (x.astype(np.float64) - x.max(-1, keepdims=True) for x in (expected, found))
    p, q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (p, q))
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def test_every_path_agrees_with_mlx(pair):
    make, mlx = pair
    sequence = sequence_of(mlx.config.lm)
    expected = mlx.logits(sequence)
    for path in paths():
        lm = make(path=path, threads=2)
        assert lm.path == path
        found = logits_of(lm, sequence)
        assert divergence(expected, found) <= 1e-6
        exact = logits_of(make(path=path, threads=2, kv_bits=32), sequence)
        assert np.abs(exact - expected).max() < 1e-3
        assert divergence(expected, exact) <= 1e-7


def test_activations_in_8_bits_are_near_and_the_same_on_every_path(pair):
    make, mlx = pair
    sequence = sequence_of(mlx.config.lm)
    expected = mlx.logits(sequence)
    found = [logits_of(make(path=path, threads=2, activations=8), sequence) for path in paths()]
    plain = found[-1]
    if make().packed:
        assert 1e-6 < divergence(expected, plain) < 2e-3
    else:
        assert divergence(expected, plain) < 1e-6
    for other in found:
        assert divergence(plain, other) <= divergence(expected, plain)


def test_the_number_of_threads_changes_nothing(pair):
    make, mlx = pair
    sequence = sequence_of(mlx.config.lm)
    for bits in (8, 16):
        one = logits_of(make(threads=1, kv_bits=bits, activations=bits), sequence)
        for threads in (2, 3, 7):
            other = make(threads=threads, kv_bits=bits, activations=bits)
            np.testing.assert_array_equal(logits_of(other, sequence), one)


def test_the_number_of_threads_changes_no_step(pair):
    """One column is quantized by every thread for itself."""
    make, mlx = pair
    hidden = make(threads=1).embed(sequence_of(mlx.config.lm, 20).T, 0)

    def steps(threads):
        lm = make(threads=threads)
        cache = Cache(lm, len(hidden))
        return [lm.run([Rows(cache, hidden[n : n + 1])]) for n in range(len(hidden))]

    one = steps(1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(steps(threads), one)


def test_one_pass_and_steps_are_the_same(pair):
    make, mlx = pair
    sequence = sequence_of(mlx.config.lm, 40)
    for bits in (8, 16):
        lm = make(threads=2, kv_bits=bits, activations=bits)
        hidden = lm.embed(sequence.T, 0)
        cache = Cache(lm, len(hidden))
        found = [lm.run([Rows(cache, hidden[n : n + 1])]) for n in range(len(hidden))]
        steps = np.concatenate(found)
        np.testing.assert_array_equal(steps, logits_of(lm, sequence).reshape(steps.shape))


def test_a_cache_in_8_bits_is_near_and_the_same_on_every_path(pair):
    make, mlx = pair
    sequence = sequence_of(mlx.config.lm)
    expected = mlx.logits(sequence)
    found = [logits_of(make(path=path, threads=2, kv_bits=8), sequence) for path in paths()]
    plain = found[-1]
    assert paths()[-1] == "plain"
    assert 1e-9 < divergence(expected, plain) < 1e-3
    for other in found:
        # What rounds to another integer moves a key by a 127th of its largest.
        assert divergence(plain, other) < divergence(expected, plain)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("begin", [1, 15, 16, 17, 40])
def test_rows_on_one_base_are_what_they_are_alone(pair, begin, bits):
    make, mlx = pair
    lm = make(threads=2, kv_bits=bits)
    hidden = [lm.embed(sequence_of(mlx.config.lm, 70, n).T, 0) for n in range(6)]
    common = hidden[0][:begin]
    base = Cache(lm, begin)
    lm.run([Rows(base, common)])
    caches = [Cache(lm, 20, base) for _ in hidden]
    for step in range(20):
        shared = lm.run(
            [Rows(c, h[begin + step][None]) for c, h in zip(caches, hidden, strict=True)]
        )
    for n, own in enumerate(hidden):
        cache = Cache(lm, begin + 20)
        alone = lm.run([Rows(cache, np.concatenate([common, own[begin : begin + 20]]))])
        np.testing.assert_array_equal(alone[0], shared[n])


def test_more_columns_than_one_call_takes(pair):
    make, mlx = pair
    lm = make(threads=2)
    hidden = lm.embed(sequence_of(mlx.config.lm, 600).T, 0)
    one, two = Cache(lm, len(hidden)), Cache(lm, len(hidden))
    whole = lm.run([Rows(one, hidden, last=3)])
    lm.run([Rows(two, hidden[:-2])])
    np.testing.assert_array_equal(whole[1:], lm.run([Rows(two, hidden[-2:], last=2)]))


@pytest.mark.parametrize("last", [0, 1, 5])
def test_wanting_fewer_logits_changes_none(pair, last):
    make, mlx = pair
    lm = make(threads=2)
    hidden = lm.embed(sequence_of(mlx.config.lm, 20).T, 0)
    shape = (2, 1, lm.config.num_heads, 5, lm.config.head_dim)
    keys, values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    text = TextCache(lm, [(keys, values)] * lm.config.num_layers)
    for texts in ((None,), (text,), (text, None)):

        def logits(last, texts=texts):
            rows = [Rows(Cache(lm, len(hidden)), hidden, t, last) for t in texts]
            return lm.run(rows)

        found, whole = logits(last), logits(len(hidden)).reshape(len(texts), len(hidden), -1)
        wanted = whole[:, len(hidden) - last :]
        np.testing.assert_array_equal(found, wanted.reshape(found.shape))


# --- Shapes, values, and what is refused ----------------------------------------------------------


@pytest.mark.parametrize(("dim", "heads", "ffn"), [(96, 3, 32), (32, 32, 160), (160, 2, 64)])
def test_other_shapes_agree_with_mlx(tmp_path, dim, heads, ffn):
    from segue.demo.toy import CONFIG

    decoder = {"hidden_size": dim, "num_attention_heads": heads, "ffn_dim": ffn, "vocab_size": 50}
    codec = {"codebook_size": 50}
    config = CONFIG | {
        "decoder": CONFIG["decoder"] | decoder,
        "audio_encoder": CONFIG["audio_encoder"] | codec,
    }
    write_checkpoint(tmp_path / "toy", config=config)
    for recipe in (None, Recipe("decoder-linears", 4, 32)):
        mlx = MLXEngine(open_checkpoint(str(tmp_path / "toy")), recipe=recipe)
        native, byte = (
            NativeEngine(open_checkpoint(str(tmp_path / "toy")), recipe=recipe, kv_bits=bits)
            for bits in (None, 8)
        )
        sequence = sequence_of(mlx.config.lm)
        for text in (None, "drums piano"):
            engines: tuple[Any, ...] = (mlx, native, byte)
            expected, found, near = (
                engine.logits(sequence, text and engine.condition(text)) for engine in engines
            )
            assert divergence(expected, found) <= 1e-6
            assert divergence(expected, near) <= 1e-3


def test_one_seed_is_one_result_with_guidance_and_text(toy):
    engine = segue.load(str(toy), engine="native", recipe="q4").engine
    sequence = sequence_of(engine.config.lm)
    sequence[:, 20:] = UNKNOWN
    conditioning, sampling = engine.condition("drums"), Sampling(guidance_coef=3.0)

    def generated(seeds):
        columns = engine.prefill(sequence[None], seeds, sampling, conditioning)
        return np.stack(list(columns), axis=2)

    together = generated((7, 8, 9))
    np.testing.assert_array_equal(together, generated((7, 8, 9)))
    for n, seed in enumerate((7, 8, 9)):
        np.testing.assert_array_equal(generated((seed,))[0], together[n])


@pytest.mark.parametrize(("bits", "size"), [(16, 1e7), (8, np.inf)])
def test_a_cache_that_overflows_is_told(toy, tmp_path, bits, size):
    """A score of minus infinity would hide it."""
    name = "decoder.model.decoder.layers.0.self_attn_layer_norm.weight"
    folder = broken(toy, tmp_path / "loud", name, size, ...)
    engine = NativeEngine(open_checkpoint(folder), kv_bits=bits)
    sequence = sequence_of(engine.config.lm)
    sequence[:, 20:] = UNKNOWN
    with pytest.raises(ModelOverflowError):
        list(engine.prefill(sequence[None], (0,), Sampling()))


def test_a_cache_that_is_full_is_refused_before_anything_is_written(toy):
    lm = NativeEngine(open_checkpoint(str(toy))).native
    hidden = np.zeros((17, lm.config.dim), np.float32)
    cache = Cache(lm, 16)
    with pytest.raises(ValueError, match="no room"):
        lm.run([Rows(cache, hidden)])
    assert cache.length == 0
    with pytest.raises(ValueError, match="not the model's"):
        lm.run([Rows(cache, hidden[:1, :-1])])
    with pytest.raises(ValueError, match="refuses columns"):
        lm.run([Rows(cache, hidden[:1]), Rows(Cache(lm, 16), hidden[:1]), Rows(cache, hidden[:1])])


def test_a_path_that_is_none_is_refused_with_those_that_there_are(toy, monkeypatch):
    monkeypatch.setenv(library.PATH_VARIABLE, "quick")
    with pytest.raises(RequestError, match=r"'quick'.*plain"):
        segue.load(str(toy), engine="native")


def test_bits_of_the_cache_are_taken_by_every_choice(toy):
    for bits in (8, 16):
        engine: Any = segue.load(str(toy), engine="native", kv_bits=bits).engine
        assert engine.native.kv_bits == bits
        assert segue.load(str(toy), kv_bits=bits, threads=1).engine.name == "native"


def test_activations_are_taken_by_every_choice(toy):
    for activations in ("int8", "int16"):
        native: Any = segue.load(str(toy), engine="native", recipe="q4", activations=activations)
        assert not native.engine.load_report.notes
    chosen = segue.load(str(toy), recipe="q4", activations="int8").engine
    assert chosen.name == "native"
    sequence = sequence_of(chosen.config.lm)
    exact, near = native.engine.logits(sequence), chosen.logits(sequence)
    assert 1e-6 < divergence(exact, near) < 2e-3


def test_activations_beside_floats_are_told(toy):
    [note] = segue.load(str(toy), engine="native", activations="int8").engine.load_report.notes
    assert "no weights are quantized" in note


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "openvino", "activations": "int8"}, "only the engine 'native'.*'openvino'"),
        ({"engine": "mlx", "activations": "int16"}, "only the engine 'native'.*'mlx'"),
        ({"engine": "native", "activations": "int4"}, "activations are int16 or int8, not 'int4'"),
    ],
)
def test_activations_that_no_engine_has_are_one_line(toy, options, words):
    with pytest.raises(RequestError, match=words):
        segue.load(str(toy), **options)


def test_activations_are_refused_where_auto_finds_another_engine(toy, monkeypatch):
    monkeypatch.setattr(library, "unavailable", lambda: "there is no compiler")
    with pytest.raises(RequestError, match="only the engine 'native'"):
        segue.load(str(toy), activations="int8")
