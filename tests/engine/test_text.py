"""A text of any length is read as far as the text encoder goes, and what is cut is told."""

import json
import shutil
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

import segue
from segue.checkpoints.config import T5Config
from segue.checkpoints.opening import open_checkpoint
from segue.checkpoints.quantize import save_quantized
from segue.checkpoints.recipe import Recipe
from segue.demo.toy import CONFIG, write_tokenizer
from segue.engine.text import CHARACTERS_PER_TOKEN, TextTokenizer

from .engines import ENGINES, require

LONG = " ".join(["drums", "piano", "slow", "bass"] * 5_000)


@pytest.fixture
def tokenizer(tmp_path):
    write_tokenizer(tmp_path)
    return TextTokenizer(tmp_path / "tokenizer.json", 8)


@pytest.fixture(scope="module")
def short_sighted(toy, tmp_path_factory):
    """The toy with a text encoder that reads 16 tokens."""
    folder = shutil.copytree(toy, tmp_path_factory.mktemp("short") / "toy")
    config = CONFIG | {"text_encoder": CONFIG["text_encoder"] | {"n_positions": 16}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_text_that_fits_is_read_whole(tokenizer):
    text = "drums piano bass slow fast minor strings"
    assert tokenizer.encode(text).ids == [3, 4, 5, 8, 7, 9, 6, 1]
    assert tokenizer.note(text) is None
    assert tokenizer.note("") is None
    assert tokenizer.note(text + " \n ") is None


def test_of_a_longer_one_the_start_is_read_and_the_rest_is_named(tokenizer):
    text = "drums piano bass slow fast minor strings"
    assert tokenizer.encode(f"{text} fast drums").ids == tokenizer.encode(text).ids
    note = "the text is longer than the 8 tokens that the text encoder reads: its last "
    assert tokenizer.note(f"{text} fast") == f"{note}word was left out, from 'fast' on"
    assert (
        tokenizer.note(LONG) == f"{note}19993 words were left out, from 'bass drums piano slow' on"
    )


def test_what_no_token_could_reach_is_not_tokenized(tokenizer, monkeypatch):
    seen, inner = [], tokenizer.tokenizer

    class Spy:
        def encode(self, text):
            seen.append(len(text))
            return inner.encode(text)

    monkeypatch.setattr(tokenizer, "tokenizer", Spy())
    endless = "drums" * 1_000_000
    assert len(tokenizer.encode(endless).ids) == 2
    assert "its last word was left out" in tokenizer.note(endless)
    assert max(seen) == 8 * CHARACTERS_PER_TOKEN


def test_what_a_tokenizer_s_file_says_of_lengths_does_not_count(tmp_path):
    write_tokenizer(tmp_path)
    path = str(tmp_path / "tokenizer.json")
    stored = Tokenizer.from_file(path)
    stored.enable_truncation(3)
    stored.enable_padding(length=20)
    stored.save(path)
    found = TextTokenizer(tmp_path / "tokenizer.json", 8).encode("drums piano bass")
    assert found.ids == [3, 4, 5, 1]


@pytest.mark.parametrize("engine", ENGINES)
def test_both_engines_read_as_much(short_sighted, engine):
    require(engine)
    found = segue.load(str(short_sighted), engine=engine).engine
    long, cut = found.condition(LONG), found.condition(" ".join(LONG.split()[:15]))
    for ours, theirs in zip(long, cut, strict=True):
        assert ours[0].shape[2] == 16
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


@pytest.mark.parametrize("engine", ENGINES)
def test_twenty_thousand_words_give_music_with_a_note(toy, engine):
    """They took 21 GB; whoever asks twice is told twice."""
    require(engine)
    model, samples = segue.load(str(toy), engine=engine), np.full(16_000, 0.1, np.float32)
    length: dict[str, Any] = {"prompt_seconds": 0.2, "output_seconds": 0.3, "seed": 1}
    for _ in range(2):
        result = model.continue_audio(samples, 32_000, text=LONG, **length)
        (note,) = result.notes
        assert "than the 512 tokens that the text encoder reads: its last 19489 words" in note
    assert model.continue_audio(samples, 32_000, text="drums", **length).notes == ()


def test_the_length_is_the_checkpoint_s_and_is_kept_when_it_is_quantized(short_sighted, tmp_path):
    assert T5Config().max_tokens == 512
    assert open_checkpoint(str(short_sighted)).config.text.max_tokens == 16
    save_quantized(open_checkpoint(str(short_sighted)), Recipe(), tmp_path / "q8")
    assert open_checkpoint(str(tmp_path / "q8")).config.text.max_tokens == 16
