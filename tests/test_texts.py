"""Takes with texts of their own in one batch: each is what its text and its seed give alone."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import segue
from segue import Request, RequestError, Take
from segue.audio import from_array
from segue.checkpoints.opening import open_checkpoint
from segue.cli import main
from segue.continuation import Continuation, RequestOptions, continue_audio
from segue.demo.toy import MELODY_CONFIG, write_checkpoint
from segue.engine.base import Engine, Sampling, TakeGroup
from segue.engine.mlx import MLXEngine
from segue.engine.shared import SharedEngine
from segue.errors import ModelOverflowError, OutputError
from segue.outputs import paths_for
from segue.stream import stream

from .broken import broken

ENGINES = ("mlx", "openvino")
RATE = 32_000
LONG = "drums fast slow minor bass strings piano drums drums drums drums"
TEXTS = ("drums", "", LONG, "slow piano", "drums", " ")
"""Short, none, long, twice the same, and blanks."""


@pytest.fixture(scope="module", params=ENGINES)
def each_model(request, toy):
    pytest.importorskip(request.param)
    return segue.load(str(toy), engine=request.param)


def request(seconds=0.4, **options):
    samples = np.random.default_rng(0).normal(0, 0.1, (RATE, 1)).astype(np.float32)
    return Request(from_array(samples, RATE), seconds, **({"output_seconds": 1.2} | options))


ALONE: dict[tuple[Engine, bytes], Take] = {}
"""Takes that several tests compare with."""


def take_alone(engine, one):
    key = (engine, pickle.dumps(one))
    if key not in ALONE:
        (ALONE[key],) = continue_audio(engine, one).takes
    return ALONE[key]


def assert_each_alone(engine, together, alone_on=None, seeds=None):
    """Each take of a request has the codes that its text and seed have in a request of its own."""
    result = continue_audio(engine, together)
    texts = together.texts
    assert [take.text for take in result.takes] == list(texts)
    assert [take.seed for take in result.takes] == [*range(5, 5 + len(texts))]
    for take in result.takes:
        one = replace(together, text=take.text, texts=(), variations=1, seed=take.seed)
        alone = take_alone(alone_on or engine, one)
        np.testing.assert_array_equal(take.codes, alone.codes, err_msg=f"{take.text!r}")
        np.testing.assert_allclose(take.audio.samples, alone.audio.samples, atol=1e-4)
    assert len({take.codes.tobytes() for take in result.takes}) == len(texts)
    return result


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 0, "temperature": 0.7, "guidance_coef": 5.0},
        {"top_p": 0.8},
        {"allow_empty_text_cfg": True},
    ],
)
def test_a_take_is_what_its_text_and_its_seed_give_alone(each_model, options):
    together = request(texts=TEXTS, seed=5, **options)
    assert together.variations == 6
    assert assert_each_alone(each_model.engine, together).guided


def test_it_is_so_without_a_prompt_and_in_stereo(each_model, toy_stereo):
    options: RequestOptions = {"texts": TEXTS[:3], "seed": 5, "output_seconds": 0.8}
    assert_each_alone(each_model.engine, Request.without_prompt(**options))
    stereo = segue.load(str(toy_stereo), engine=each_model.engine.name)
    assert_each_alone(stereo.engine, request(**options))
    takes = stereo.generate(**options).takes
    assert [take.audio.channels for take in takes] == [2, 2, 2]


def test_it_is_so_beyond_the_window(toy, each_model):
    engine = segue.load(str(toy), engine=each_model.engine.name).engine
    engine.config = replace(engine.config, lm=replace(engine.config.lm, window_frames=60))
    assert_each_alone(engine, request(texts=TEXTS, seed=5, output_seconds=2.5))


@pytest.mark.parametrize("max_rows", [1, 4, 64])
def test_it_is_so_where_requests_share_their_steps(each_model, max_rows):
    """Whatever room there is: takes of one request never wait for each other."""
    shared = SharedEngine(each_model.engine, max_rows)
    beside = shared.prefill(*group(each_model.engine, 40, (99,)))
    next(beside)
    if max_rows < 64:
        assert len(list(beside)) > 0  # nothing else runs it here, and there is no room beside it
    assert_each_alone(shared, request(texts=TEXTS, seed=5), alone_on=each_model.engine)
    del beside
    assert shared.rows == 0


def test_a_melody_model_takes_texts_of_any_length_too(each_model, tmp_path):
    folder = write_checkpoint(tmp_path / "melody", config=MELODY_CONFIG)
    engine = segue.load(str(folder), engine=each_model.engine.name).engine
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    for melody in (None, from_array(tone, RATE)):
        assert_each_alone(engine, request(texts=TEXTS[:4], seed=5, melody=melody))


def group(engine, frames, seeds, text=None):
    """The arguments of `Engine.prefill` for music from nothing."""
    lm = engine.config.lm
    sequence = np.full((1, lm.num_codebooks, frames), -1, np.int32)
    sequence[:, :, 0] = lm.special_token
    coef = None if text is None else 3.0
    conditioning = None if text is None else engine.condition(text)
    return sequence, seeds, Sampling(guidance_coef=coef), conditioning, 0


@pytest.mark.parametrize("fitting", [1, 2])
def test_texts_that_do_not_fit_into_memory_take_turns(toy, monkeypatch, fitting):
    engine = MLXEngine(open_checkpoint(str(toy)))
    groups = [
        TakeGroup(*group(engine, 30, seeds, text))
        for seeds, text in [((1,), "drums"), ((2, 3), None), ((4,), LONG)]
    ]
    at_once = np.stack(list(engine.prefill_groups(groups)))
    assert at_once.shape[1] == 4
    takes, tokens = fitting + 1, max(g.conditioning[0][0].shape[2] for g in groups[::2])
    sampling = groups[0].sampling
    room = engine.footprint(takes, sampling, known=1, length=30, tokens=tokens).total
    limit = mx.get_active_memory() + room + 1000
    monkeypatch.setattr(mx, "get_memory_limit", lambda: limit)
    batches, batch = [], engine.batch
    monkeypatch.setattr(engine, "batch", lambda rows: batches.append(rows) or batch(rows))
    np.testing.assert_array_equal(np.stack(list(engine.prefill_groups(groups))), at_once)
    assert batches == ([4] if fitting == 2 else [])  # the others are alone


def test_an_overflow_of_one_text_ends_the_request(toy, tmp_path, each_model):
    name = "decoder.model.decoder.layers.0.encoder_attn.q_proj.weight"
    folder = broken(toy, tmp_path / "broken", name)
    engine = segue.load(folder, engine=each_model.engine.name).engine
    assert len(continue_audio(engine, request(seed=1)).takes) == 1  # no text, no cross-attention
    shared = SharedEngine(engine, 64)
    for either in (engine, shared):
        with pytest.raises(ModelOverflowError):
            continue_audio(either, request(texts=["", "drums"], seed=1))
    assert shared.rows == 0


def test_who_drops_it_leaves_begun_or_not(each_model):
    shared = SharedEngine(each_model.engine, 64)
    for begun in (False, True):
        continuation = Continuation(shared, request(texts=TEXTS, seed=1))
        frames = continuation.frames()
        if begun:
            next(frames)
            assert shared.rows == 10
        del frames
        assert shared.rows == 0


def test_a_note_names_each_text_that_is_too_long(model):
    texts = ["drums " * 600 + "first", "piano", "bass " * 600 + "last"]
    result = continue_audio(model.engine, request(texts=texts, seed=1, output_seconds=0.5))
    notes = [note for note in result.notes if "longer than" in note]
    assert len(notes) == 2
    assert "drums" in notes[0]
    assert "bass" in notes[1]


# --- How many -------------------------------------------------------------------------------------


def test_as_many_texts_as_takes_or_one_for_all():
    assert request(texts=["a", "b", "c"]).variations == 3
    assert request(texts=["a", "b"], variations=2).text_of_takes == ("a", "b")
    one = request(texts=["a"], variations=3)
    assert (one.text, one.texts, one.text_of_takes) == ("a", (), ("a", "a", "a"))
    assert request().text_of_takes == ("",)
    assert not request(texts=["", " "]).guided


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"texts": ["a", "b"], "variations": 3}, "one text for all, or one for each"),
        ({"texts": ["a", "b", "c"], "variations": 2}, "one text for all, or one for each"),
        ({"texts": ["a"] * 65}, "variations must lie between 1 and 64"),
        ({"texts": ["a", "b"], "text": "c"}, "text or texts, not both"),
        ({"texts": ["a"], "text": "c"}, "text or texts, not both"),
        ({"texts": "drums"}, "texts are several"),
        ({"texts": ["a", "b\0"]}, "characters that are none"),
        ({"texts": ["a", "b"], "seed": 2**32 - 1}, "seeds lie between"),
    ],
)
def test_texts_that_cannot_be_are_one_line(options, line):
    with pytest.raises(RequestError, match=line) as error:
        request(**options)
    assert "\n" not in str(error.value)


def test_a_stream_has_one_text(model):
    with pytest.raises(RequestError, match="one variation"):
        stream(model.engine, request(texts=["a", "b"]))
    chunks = list(stream(model.engine, request(texts=["drums"], seed=1)))
    assert sum(map(len, chunks)) == round(0.8 * RATE)


# --- On the command line --------------------------------------------------------------------------


@pytest.fixture
def run(toy, tmp_path, monkeypatch, capsys):
    """Runs a command; gives the code, the report and the errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(command, *options):
        few = ["--output-seconds", "1", "--seed", "1", "--json", "--no-progress"]
        code = main([command, "--model", str(toy), *few, *options])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return run


def test_files_and_report_tell_which_text(run):
    prompt = Path(segue.__file__).parent / "demo" / "prompts" / "jazz.ogg"
    texts = ["--text", "Slow piano, strings!", "--text", "", "--text", "piano"]
    code, report, err = run("continue", str(prompt), "--prompt-seconds", "0.4", *texts)
    assert (code, err) == (0, "")
    assert [(o["path"], o["text"], o["seed"]) for o in report["outputs"]] == [
        ("jazz-continued-1-slow-piano-strings.wav", "Slow piano, strings!", 1),
        ("jazz-continued-2-no-text.wav", "", 2),
        ("jazz-continued-3-piano.wav", "piano", 3),
    ]
    assert report["text"] is None
    assert report["guided"]
    code, report, _ = run("generate", "--text", "a", "--text", "b", "-o", "take.flac")
    assert [o["path"] for o in report["outputs"]] == ["take-1-a.flac", "take-2-b.flac"]
    assert all(Path(o["path"]).is_file() for o in report["outputs"])
    code, report, _ = run("generate", "--text", "a", "--variations", "2")
    assert [o["path"] for o in report["outputs"]] == ["generated-1.wav", "generated-2.wav"]
    assert (report["text"], report["outputs"][1]["text"]) == ("a", "a")


@pytest.mark.parametrize("variations", ["1", "3", "0"])
def test_other_numbers_of_texts_are_one_line(run, variations):
    texts = ["--text", "a", "--text", "b"]
    code, _, err = run("generate", *texts, "--variations", variations)
    assert code == 2
    assert err.count("\n") == 1
    assert "name one text for all, or one for each" in err
    assert not list(Path().iterdir())


def test_names_are_as_long_as_the_disk_allows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sound = segue.Audio(np.zeros((1, 1), np.float32), RATE)
    words = ["many " * 20, "音楽 🎵 " * 20]
    one, other = paths_for(Path("take.wav"), sound, 2, texts=words)
    assert one.name == "take-1-many-many-many-many-many-many-many-many.wav"
    assert other.name.startswith("take-2-音楽-音楽")
    for stem in ("x" * 240, "x" * 245, "x" * 248):
        for path in paths_for(Path(f"{stem}.wav"), sound, 2, texts=words):
            path.touch()
    with pytest.raises(OutputError, match="too long"):
        paths_for(Path("x" * 250 + ".wav"), sound, 2, texts=words)
