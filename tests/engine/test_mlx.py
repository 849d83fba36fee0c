"""The engine on MLX: what it leaves out or does once changes no token."""

import shutil

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file

from segue.checkpoints.opening import open_checkpoint
from segue.engine.base import Sampling
from segue.engine.buckets import relative_buckets
from segue.engine.mlx import MLXEngine
from segue.engine.mlx.cache import BUCKET
from segue.engine.mlx.execution import Execution
from segue.engine.mlx.lm import position_table
from segue.errors import CheckpointError
from segue.pattern import UNKNOWN, delay, first_unknown

GREEDY = Sampling(top_k=1)


@pytest.fixture(scope="module")
def engine(toy):
    return MLXEngine(open_checkpoint(str(toy)))


def prompt_of(engine, known, total, seed=0):
    lm = engine.config.lm
    codes = np.full((lm.num_codebooks, total), UNKNOWN, np.int32)
    random = np.random.default_rng(seed)
    codes[:, :known] = random.integers(0, lm.cardinality, (lm.num_codebooks, known))
    return delay(codes, lm.delays, lm.special_token)


def generated(engine, sequence, sampling=GREEDY, seeds=(0,), conditioning=None):
    """The whole sequence `(N, K, S)` once the engine has filled it in."""
    columns = list(engine.prefill(sequence[None], seeds, sampling, conditioning))
    prompt = np.repeat(sequence[None, :, : first_unknown(sequence)], len(seeds), axis=0)
    return np.concatenate([prompt, np.stack(columns, axis=2)], axis=2)


def likeliest(logits, sequence):
    """What greedy decoding must have chosen: the argmax where the sequence was unknown."""
    best = np.argmax(logits, axis=-1).T[:, :-1]
    return np.where(sequence[:, 1:] == UNKNOWN, best, sequence[:, 1:])


@pytest.mark.parametrize("text", ["", "drums fast"])
def test_steps_over_several_buckets_choose_what_one_pass_would(engine, text):
    conditioning = engine.condition(text) if text else None
    sequence = prompt_of(engine, 20, 2 * BUCKET + 30)
    whole = generated(engine, sequence, conditioning=conditioning)[0]
    best = likeliest(engine.logits(whole, conditioning), sequence)
    np.testing.assert_array_equal(whole[:, 1:], best)


@pytest.mark.parametrize("known", [BUCKET - 2, BUCKET - 1, BUCKET, BUCKET + 1])
def test_a_prompt_may_end_anywhere_in_a_bucket(engine, known):
    sequence = prompt_of(engine, known, known + 10)
    whole = generated(engine, sequence)[0]
    np.testing.assert_array_equal(whole[:, 1:], likeliest(engine.logits(whole), sequence))


def test_guidance_combines_two_streams(engine):
    conditioning = engine.condition("piano slow")
    sampling = Sampling(top_k=1, guidance_coef=2.5)
    sequence = prompt_of(engine, 20, 60)
    whole = generated(engine, sequence, sampling, conditioning=conditioning)[0]
    cond, uncond = engine.logits(whole, conditioning), engine.logits(whole)
    combined = uncond + (cond - uncond) * 2.5
    np.testing.assert_array_equal(whole[:, 1:], likeliest(combined, sequence))


def test_cross_attention_over_zeros_is_the_same_as_none(engine):
    sequence = prompt_of(engine, 30, 30)
    zeros = [(mx.zeros_like(k), mx.zeros_like(v)) for k, v in engine.condition("drums")]
    np.testing.assert_array_equal(engine.logits(sequence, zeros), engine.logits(sequence))


@pytest.mark.parametrize("text", ["", "strings minor"])
def test_a_batch_has_the_logits_of_its_takes_alone(engine, text):
    conditioning = engine.condition(text) if text else None
    sequence = prompt_of(engine, 20, 80)
    sampling = Sampling(top_k=50, guidance_coef=3.0 if text else None)
    together = generated(engine, sequence, sampling, (5, 6, 7), conditioning)
    for n, seed in enumerate((5, 6, 7)):
        alone = generated(engine, sequence, sampling, (seed,), conditioning)[0]
        np.testing.assert_array_equal(together[n], alone)


def test_takes_may_start_differently(engine):
    one, other = (prompt_of(engine, 20, 60, seed) for seed in (1, 2))
    columns = list(engine.prefill(np.stack([one, other]), (3, 3), Sampling(top_k=50)))
    together = np.stack(columns, axis=2)
    for n, sequence in enumerate((one, other)):
        alone = generated(engine, sequence, Sampling(top_k=50), (3,))[0]
        np.testing.assert_array_equal(together[n], alone[:, first_unknown(sequence) :])


@pytest.mark.slow
def test_the_compiled_step_samples_what_the_plain_one_does(toy):
    """Metal and CUDA run the compiled one; on the CPU it is only tested."""
    plain, compiled = (
        MLXEngine(open_checkpoint(str(toy)), execution=Execution(compiled))
        for compiled in (False, True)
    )
    sequence = prompt_of(plain, 20, 70)
    for sampling, text in ((Sampling(top_k=30), ""), (Sampling(30, 0.9, 3.0), "drums")):
        found = [
            generated(e, sequence, sampling, (1, 2), e.condition(text) if text else None)
            for e in (plain, compiled)
        ]
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("total", [40, 41, 47, 12])
def test_columns_that_are_read_together_are_the_same(engine, toy, monkeypatch, total):
    together = MLXEngine(open_checkpoint(str(toy)), execution=Execution(columns_per_read=8))
    sequence = prompt_of(engine, 10, total)
    one_by_one = generated(engine, sequence, Sampling(top_k=20), (1, 2))
    stack, read = mx.stack, []

    def stacked(arrays, **options):
        if arrays[0].shape == (2, 4):  # columns of two takes
            read.append(len(arrays))
        return stack(arrays, **options)

    monkeypatch.setattr(mx, "stack", stacked)
    np.testing.assert_array_equal(
        generated(together, sequence, Sampling(top_k=20), (1, 2)), one_by_one
    )
    whole, rest = divmod(sequence.shape[1] - first_unknown(sequence), 8)
    assert read == [8] * whole + [rest] * (rest > 1)


def test_a_compiled_step_serves_other_temperatures_and_coefficients(toy):
    engine = MLXEngine(open_checkpoint(str(toy)))
    sequence = prompt_of(engine, 20, 40)
    for temperature in (0.5, 1.0, 2.0):
        generated(engine, sequence, Sampling(30, temperature))
    assert engine.compilations == 1


def test_without_text_no_text_encoder_is_needed(toy, tmp_path):
    folder = shutil.copytree(toy, tmp_path / "copy")
    (folder / "tokenizer.json").unlink()
    engine = MLXEngine(open_checkpoint(str(folder)))
    assert len(list(engine.prefill(prompt_of(engine, 5, 9)[None], (0,), GREEDY))) > 0
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        engine.condition("drums")


def test_a_text_is_encoded_once(engine):
    assert engine.condition("bass minor") is engine.condition("bass minor")


def test_a_cast_rounds_the_weights(toy):
    engine = MLXEngine(open_checkpoint(str(toy)), cast_dtype="float16")
    stored = load_file(toy / "model.safetensors")["decoder.model.decoder.layers.0.fc1.weight"]
    held = np.array(engine.lm.layers[0].fc1.weight.astype(mx.float32))
    np.testing.assert_array_equal(held, stored.astype(np.float16).astype(np.float32))


def test_known_entries_are_never_overwritten(engine):
    """Codebooks that run late still have prompt when the first ones are sampled."""
    sequence = prompt_of(engine, 20, 40)
    whole = generated(engine, sequence, Sampling(top_k=50))[0]
    known = sequence != UNKNOWN
    np.testing.assert_array_equal(whole[known], sequence[known])
    lm = engine.config.lm
    assert ((whole == lm.special_token) == (sequence == lm.special_token)).all()


def test_codes_survive_the_codec_only_as_well_as_it_can(engine):
    """Decoding gives whole frames, whatever their number."""
    for frames in (1, 2, 7):
        codes = np.zeros((engine.config.lm.num_codebooks, frames), np.int32)
        assert engine.decode(codes).shape == (640 * frames, 1)
    for length in (1, 639, 640, 641):
        assert engine.encode(np.ones((length, 1), np.float32)).shape == (4, -(-length // 640))


def test_positions_are_cosines_first_with_the_reference_s_denominator():
    table = np.array(position_table(3, 8))
    frequency = 10_000 ** -(np.arange(4) / 3)
    np.testing.assert_allclose(table[2, :4], np.cos(2 * frequency), atol=1e-6)
    np.testing.assert_allclose(table[2, 4:], np.sin(2 * frequency), atol=1e-6)


def test_relative_buckets_grow_with_distance():
    row = relative_buckets(200, 32, 128)[0]
    assert row[0] == 0
    assert row[1] == 17
    assert (np.diff(row[1:]) >= 0).all()
    assert row.max() == 31
