"""A model that computes NaN or infinity fails; what came of it is never handed on as music."""

import mlx.core as mx
import numpy as np
import pytest

import segue
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import save_quantized
from segue.checkpoints.recipe import Recipe
from segue.engine.base import Sampling
from segue.engine.mlx import kernels
from segue.engine.mlx.sampling import Sampler, controls
from segue.errors import ModelOverflowError
from segue.pattern import UNKNOWN, delay
from segue.preview import Preview

from ..broken import broken
from .engines import ENGINES, require

LAYER = "decoder.model.decoder.layers.1."
SAMPLES = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)


def play(model, **options):
    length = {"prompt_seconds": 0.2, "output_seconds": 0.6}
    return model.continue_audio(SAMPLES, 32_000, **length, seed=1, **options)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (f"{LAYER}fc1.weight", np.nan, "its logits are no numbers; choose another type or quant"),
        (f"{LAYER}self_attn_layer_norm.bias", np.inf, "its logits are no numbers"),
        (f"{LAYER}fc2.weight", 3e38, "its logits are no numbers"),
        ("decoder.lm_heads.3.weight", np.nan, "its logits are no numbers"),
        (f"{LAYER}encoder_attn.v_proj.weight", np.nan, "its values of the text are no numbers"),
        # A ReLU would take it for 0.
        ("text_encoder.encoder.block.0.layer.1.DenseReluDense.wi.weight", np.nan, "its weights of"),
        ("audio_encoder.encoder.layers.0.conv.bias", np.nan, "choose another checkpoint"),
        # A gate would take it for 1.
        ("audio_encoder.decoder.layers.1.lstm.bias_hh_l0", np.inf, "choose another checkpoint"),
        ("audio_encoder.decoder.layers.0.conv.bias", 3e38, "its samples are no numbers"),
        ("audio_encoder.encoder.layers.0.conv.weight", 3e38, "its encoder's values are no numbers"),
    ],
)
def test_one_weight_that_overflows_anywhere_ends_it(toy, tmp_path, engine, name, value, said):
    require(engine)
    folder = broken(toy, tmp_path / "broken", name, value, at=... if value == 3e38 else None)
    with pytest.raises(ModelOverflowError, match=r"^the model overflows, its .* no num") as error:
        play(segue.load(folder, engine=engine), text="drums")
    assert said in str(error.value)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("together", [False, True])
def test_columns_before_the_overflow_are_handed_out_and_none_after(
    toy, tmp_path, engine, together, monkeypatch
):
    """A token that overflows as an input spoils the column after it, and all that follow."""
    require(engine)
    if together:
        monkeypatch.setattr(kernels, "on_cuda", lambda: True)  # eight columns are read at a time
    healthy = segue.load(str(toy), engine=engine).engine
    lm = healthy.config.lm
    codes = np.full((lm.num_codebooks, 60), UNKNOWN, np.int32)
    codes[:, :5] = np.arange(5)
    sequence = delay(codes, lm.delays, lm.special_token)[None]
    sampling = Sampling(top_k=20)
    expected = list(healthy.prefill(sequence, (1, 2), sampling))
    drawn = [column[0, 0] for column in expected[:40]]
    token = max(set(drawn), key=drawn.index)  # the one that is drawn latest for the first time
    known = set(codes[0, :5]) | {column[1, 0] for column in expected[: drawn.index(token)]}
    assert token not in known

    name = "decoder.model.decoder.embed_tokens.0.weight"
    folder = broken(toy, tmp_path / "broken", name, at=token)
    found: list[np.ndarray] = []
    columns = segue.load(folder, engine=engine).engine.prefill(sequence, (1, 2), sampling)
    with pytest.raises(ModelOverflowError, match="logits"):
        found.extend(columns)
    np.testing.assert_array_equal(found, expected[: drawn.index(token) + 1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sampling", [Sampling(1), Sampling(0), Sampling(5), Sampling(5, 1.0, 3.0)])
def test_of_logits_that_are_no_numbers_no_code_is_sampled(value, sampling):
    streams, V = 2 if sampling.guidance_coef else 1, 16
    logits = np.random.default_rng(1).normal(size=(2 * streams, 3, V)).astype(np.float32)
    sampler, gumbel = Sampler.of(sampling), mx.zeros((2, 3, V))

    def drawn():
        return np.array(sampler(mx.array(logits), gumbel, controls(sampling)))

    expected = drawn()
    assert (expected < V).all()
    logits[-1, 1, 4] = value
    expected[1, 1] = V
    np.testing.assert_array_equal(drawn(), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("guided", [False, True])
def test_openvino_s_sampler_raises_where_mlx_reports(value, guided):
    openvino = pytest.importorskip("segue.engine.cpu.sampling")
    sampling = Sampling(1, 1.0, 3.0 if guided else None)
    shape = (4 if guided else 2, 3, 64)
    logits = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    ours = Sampler.of(sampling)(mx.array(logits), None, controls(sampling))
    np.testing.assert_array_equal(openvino.sample(logits, 0, (1, 2), sampling), ours)
    logits[-1, 1, 4] = value
    with pytest.raises(ModelOverflowError):
        openvino.sample(logits, 0, (1, 2), sampling)


@pytest.mark.skipif(not kernels.available(), reason="needs CUDA")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_kernel_samples_what_the_portable_way_does_of_no_numbers(value):
    logits, V = np.random.default_rng(1).normal(size=(4, 3, 64)).astype(np.float32), 64
    logits[3, 1, 4] = value
    known = mx.array([[-1, -1, -1], [-1, -1, 7]])
    sampling = Sampling(5, 1.0, 3.0)
    found = kernels.sample(
        mx.array(logits), mx.zeros((2, 3, V)), known, *controls(sampling), 5, True
    )
    expected = Sampler.of(sampling)(mx.array(logits), mx.zeros((2, 3, V)), controls(sampling))
    expected = mx.where(known == UNKNOWN, expected, known)
    assert expected[1, 1].item() == V
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_preview_ends_with_its_line_and_not_in_noise(toy, tmp_path, engine):
    require(engine)
    name = "audio_encoder.decoder.layers.0.conv.bias"
    model = segue.load(broken(toy, tmp_path / "broken", name, 3e38, at=...), engine=engine)
    preview = Preview(model.engine, 5, 32_000, 1)
    with pytest.raises(ModelOverflowError, match="samples"):
        preview.more(np.zeros((1, 4, 80), np.int32))


# --- Quantizing, which makes some number of any NaN ---------------------------------------------

NAN_IN = f"{LAYER}fc1.weight"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("recipe", [Recipe(bits=4), Recipe(bits=4, group_size=32, mode="mxfp4")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_weights_that_are_no_numbers_are_quantized_in_memory(
    toy, tmp_path, engine, recipe, value
):
    require(engine)
    folder = broken(toy, tmp_path / "broken", NAN_IN, value)
    with pytest.raises(ModelOverflowError, match=r"its weights of .*layers\.1\.fc1 are no numbers"):
        segue.load(folder, engine=engine, recipe=recipe)


@pytest.mark.parametrize(
    ("name", "value", "cast"),
    [
        (NAN_IN, np.nan, None),
        (NAN_IN, 1e6, "float16"),
        (f"{LAYER}fc1.weight", np.inf, None),
        (f"{LAYER}final_layer_norm.weight", np.nan, None),
        ("audio_encoder.decoder.layers.0.conv.bias", np.nan, None),
        ("text_encoder.shared.weight", np.nan, None),
    ],
)
def test_no_weights_that_are_no_numbers_are_saved(toy, tmp_path, name, value, cast):
    checkpoint = open_checkpoint(broken(toy, tmp_path / "broken", name, value))
    with pytest.raises(ModelOverflowError, match=r"its weights of \S+ are no numbers"):
        save_quantized(checkpoint, Recipe(), tmp_path / "out", cast)
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]
