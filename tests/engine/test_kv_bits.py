"""Keys and values in fewer bits: OpenVINO's, the same every time, and seen where they are read."""

import numpy as np
import pytest

import segue
from segue.cli import main
from segue.engine.base import Sampling
from segue.errors import RequestError
from segue.pattern import UNKNOWN, delay

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def engines(toy, tmp_path_factory):
    """By the bits of a key or value, None for all 32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield {
            bits: segue.load(str(toy), engine="openvino", kv_bits=bits).engine
            for bits in (None, 16, 8)
        }


def sequence_of(engine, frames=80):
    lm = engine.config.lm
    codes = np.random.default_rng(0).integers(0, lm.cardinality, (lm.num_codebooks, frames))
    return delay(codes.astype(np.int32), lm.delays, lm.special_token)


def test_fewer_bits_are_farther_from_all_of_them_and_never_far(engines):
    sequence = sequence_of(engines[None])
    exact, half, byte = (engine.logits(sequence) for engine in engines.values())
    spread = exact.std()
    apart = [np.abs(found - exact).max() / spread for found in (half, byte)]
    assert 0 < apart[0] < apart[1] < 0.2


@pytest.mark.parametrize("bits", [8, 16])
def test_one_seed_is_one_result(engines, bits):
    engine = engines[bits]
    sequence = sequence_of(engine)
    sequence[:, 30:] = UNKNOWN

    def generated():
        return np.stack(list(engine.prefill(sequence[None], (7,), Sampling())), axis=2)

    np.testing.assert_array_equal(generated(), generated())


def test_text_is_attended_to_as_ever(engines):
    sequence = sequence_of(engines[None], 60)
    exact, byte = (
        engine.logits(sequence, engine.condition("drums piano"))
        for engine in (engines[None], engines[8])
    )
    assert 0 < np.abs(byte - exact).max() < 0.2 * exact.std()
    assert byte.shape == exact.shape


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "openvino", "kv_bits": 4}, "kv-bits are 8 or 16, not 4"),
        ({"engine": "mlx", "kv_bits": 8}, "leave out kv-bits"),
    ],
)
def test_what_no_engine_has_is_one_line(toy, options, words):
    with pytest.raises(RequestError, match=words):
        segue.load(str(toy), **options)


def test_the_command_says_so_too(toy, tmp_path, capsys):
    song = tmp_path / "song.wav"
    segue.audio.write(song, segue.audio.Audio(np.zeros((16_000, 1), np.float32), 16_000))
    line = ["continue", str(song), "--model", str(toy), "--engine", "mlx", "--kv-bits", "8"]
    assert main(line) == 2
    assert "MLX keeps keys and values" in capsys.readouterr().err
