"""A chain of parts, each with a text, a length and a seed of its own: one piece."""

import numpy as np
import pytest

import segue
from segue import Part, Request, RequestError, audio
from segue.request import part_seed

from .test_continuation import music

USUAL = {"prompt_seconds": 0.5, "seconds": 0.6, "seed": 7}
CHAIN = (Part("drums drop out", seconds=0.8), Part("piano slow", seconds=0.4))


@pytest.fixture(scope="module")
def model(toy):
    return segue.load(str(toy), engine="mlx")


def play(model, parts=CHAIN, rate=32_000, **options):
    return model.continue_audio(music(1.0, rate), rate, **(USUAL | {"parts": parts} | options))


def test_the_parts_are_one_piece_and_said(model):
    result = play(model, rate=44_100, text="bass")
    samples = music(1.0, 44_100)
    take = result.takes[0]
    assert np.array_equal(take.audio.samples[: result.join, 0], samples[: result.join].reshape(-1))
    assert result.new_frames == 30 + 40 + 20
    assert len(take.audio.samples) == ((25 + 90) * 882)
    assert [part.text for part in result.parts] == ["bass", "drums drop out", "piano slow"]
    bounds = [(part.start / 882, part.stop / 882) for part in result.parts]
    assert bounds == [(25, 55), (55, 95), (95, 115)]


def test_what_comes_first_is_played_as_it_is_alone(model):
    chain, alone = play(model).takes[0].codes, play(model, parts=()).takes[0].codes
    assert np.array_equal(chain[:, : alone.shape[1]], alone)
    longer = play(model, parts=(*CHAIN, Part("bass", seconds=0.3))).takes[0].codes
    assert np.array_equal(longer[:, : chain.shape[1]], chain)


def test_the_same_chain_is_the_same_music_and_each_text_counts(model):
    first = play(model).takes[0].codes
    assert np.array_equal(first, play(model).takes[0].codes)
    other = play(model, parts=(CHAIN[0], Part("violin", seconds=0.4))).takes[0].codes
    assert np.array_equal(first[:, :95], other[:, :95])
    assert not np.array_equal(first, other)
    none = play(model, parts=(Part(seconds=0.8), Part(seconds=0.4)))
    assert not none.guided
    assert not np.array_equal(first, none.takes[0].codes)


def test_a_part_has_a_seed_of_its_own(model):
    result = play(model)
    assert [part.seeds for part in result.parts] == [(7,), (part_seed(7, 1),), (part_seed(7, 2),)]
    anew = play(model, parts=(CHAIN[0], Part("piano slow", seconds=0.4, seed=3)))
    assert anew.parts[2].seeds == (3,)
    first, second = result.takes[0].codes, anew.takes[0].codes
    assert np.array_equal(first[:, :95], second[:, :95])
    assert not np.array_equal(first[:, 95:], second[:, 95:])
    named = play(model, parts=(CHAIN[0], Part("piano slow", seconds=0.4, seed=part_seed(7, 2))))
    assert np.array_equal(named.takes[0].codes, first)


def test_seeds_of_parts_stay_in_range_and_differ():
    seeds = {part_seed(seed, n) for seed in (0, 1, 2**32 - 1) for n in range(50)}
    assert len(seeds) == 150
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_takes_of_a_batch_are_what_they_are_alone(model):
    both = play(model, variations=2)
    for take in both.takes:
        alone = play(model, seed=take.seed).takes[0]
        assert np.array_equal(alone.codes, take.codes)


def test_a_chain_beyond_the_window_slides_it(model):
    parts = tuple(Part(text, seconds=14) for text in ("piano", "drums", ""))
    result = play(model, parts=parts, seconds=4)
    assert result.new_frames == 200 + 3 * 700
    assert result.takes[0].codes.min() >= 0
    assert result.takes[0].codes.max() < model.config.lm.cardinality


def test_parts_in_bars_end_on_the_grid_and_loop(model):
    samples, bar = music(3.0, 44_100), 240 / 187.3 * 44_100
    parts = [Part("drums", bars=0.5), Part("bass", bars=0.25), Part("piano", seconds=1.3)]
    result = model.continue_audio(
        samples, 44_100, bpm=187.3, prompt_bars=1, bars=0.5, seed=1, parts=parts
    )
    ends = [part.stop for part in result.parts]
    assert ends == [round(n * bar) for n in (1.5, 2, 2.25, 3.25)]
    assert len(result.takes[0].audio.samples) == ends[-1]


def test_a_chain_is_decoded_as_one_so_no_join_is_heard(model):
    """Its samples are those of its codes, decoded at once: there is nothing to splice."""
    result = play(model)
    take = result.takes[0]
    decoded = model.engine.decode(take.codes[None], lambda *_: None)[0]
    assert np.allclose(take.played.samples, decoded, atol=1e-6)
    fade = 320
    behind = result.join + fade
    assert np.array_equal(take.audio.samples[behind:], take.played.samples[behind:])


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Part("drums"), "part 1 needs one length"),
        (Part("drums", seconds=1, bars=1), "part 1 needs one length"),
        (Part("drums", bars=1), "part 1: bars needs a tempo"),
        (Part("drums", seconds=0), "part 1: seconds must be more than 0"),
        (Part("\0", seconds=1), "part 1: the text holds characters"),
        (Part(seconds=1, seed=-1), "part 1: seeds lie between"),
    ],
)
def test_a_part_that_cannot_be_is_one_line(part, words):
    with pytest.raises(RequestError, match=words):
        Request(audio.from_array(music(), 32_000), parts=[part])


def test_an_hour_is_the_most_of_all_parts_together(model):
    with pytest.raises(RequestError, match="all parts together would be"):
        play(model, parts=[Part(seconds=1800), Part(seconds=1801)])


def test_takes_with_texts_of_their_own_share_the_texts_of_parts(model):
    """Each take of such a chain is what its text and its seed give alone."""
    together = play(model, texts=["bass", "", "piano"])
    assert [take.text for take in together.takes] == ["bass", "", "piano"]
    assert [part.text for part in together.parts] == [None, "drums drop out", "piano slow"]
    for n, take in enumerate(together.takes):
        parts = tuple(
            Part(part.text, seconds=part.seconds, seed=part_seed(7 + n, at))
            for at, part in enumerate(CHAIN, 1)
        )
        (alone,) = play(model, parts=parts, text=take.text, seed=7 + n).takes
        assert np.array_equal(take.codes, alone.codes)
