"""A chain of parts on the command line, and playing on from what was made before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import segue
from segue import Part, again
from segue.cli import main, make_parser
from segue.errors import RequestError
from segue.options import request_options_of
from segue.part_options import parts_of

RATE = 44_100
FEW = ("--prompt-seconds", "0.4", "--seconds", "0.4")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def play(toy, capsys):
    """Runs `segue continue`; gives code, JSON and errors."""
    samples = np.random.default_rng(0).normal(0, 0.1, (RATE, 2))
    soundfile.write("song.wav", samples, RATE, "PCM_24")

    def play(*words):
        code = main(["continue", *map(str, words), "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return play


@pytest.fixture
def first(toy):
    """The words of a first continuation, of which the last four are its lengths."""
    return ("song.wav", "--model", toy, "--engine", "mlx", "--seed", "1", *FEW)


def samples_of(path):
    return soundfile.read(path, dtype="int32", always_2d=True)[0]


# --- Chains ---------------------------------------------------------------------------------------


def parsed(line):
    return make_parser().parse_args(["continue", "song.wav", *line])


def test_each_then_has_what_is_typed_behind_it():
    line = ["--text", "bass", "--bars", "4", "--seed", "1", "--bpm", "93"]
    line += ["--then", "drums drop out", "--seconds", "1:05.5", "--top-k", "7"]
    line += ["--then", "", "--bars", "2.5", "--seed", "9"]
    options = parsed(line)
    assert parts_of(options) == (
        Part("drums drop out", seconds=65.5),
        Part("", bars=2.5, seed=9),
    )
    given = request_options_of(options)
    assert (given["text"], given["bars"], given["seed"], given["top_k"]) == ("bass", 4, 1, 7)


def test_a_chain_is_what_the_library_plays(play, first, toy):
    then = ["--then", "drums", "--seconds", "0.3", "--then", "piano", "--seconds", "0.2"]
    code, report, err = play(*first, *then, "--text", "bass")
    assert code == 2
    assert "--text: type it before the first --then" in err
    code, report, err = play(*first, "--text", "bass", *then)
    assert (code, err) == (0, "")
    model = segue.load(str(toy), engine="mlx")
    samples = samples_of("song.wav") / 2**31
    parts = [Part("drums", seconds=0.3), Part("piano", seconds=0.2)]
    result = model.continue_audio(
        samples, RATE, prompt_seconds=0.4, seconds=0.4, text="bass", seed=1, parts=parts
    )
    written = samples_of("song-continued.wav") / 2**31
    assert np.abs(written - result.takes[0].audio.samples).max() < 2**-22
    assert np.array_equal(
        samples_of("song-continued.wav")[:17_640], samples_of("song.wav")[:17_640]
    )
    found = [(part["text"], part["seconds"], part["seeds"]) for part in report["parts"]]
    assert found == [
        (part.text, (part.stop - part.start) / RATE, [*part.seeds]) for part in result.parts
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--then drums", "--then 'drums' needs one length: --seconds 8 or --bars 4 behind it"),
        ("--then drums --bars 1 --seconds 2", "needs one length"),
        ("--then drums --bars 1", "part 1: bars needs a tempo"),
        ("--then drums --seconds 0", "part 1: seconds must be more than 0"),
    ],
)
def test_a_part_that_cannot_be_is_one_line_before_anything_is_loaded(play, words, line):
    code, report, err = play("song.wav", "--model", "nowhere", *words.split())
    assert (code, report) == (2, None)
    assert line in err
    assert err.count("\n") == 1


# --- Again ----------------------------------------------------------------------------------------


def test_what_was_made_last_is_played_on_with_what_it_was_made_with(play, first):
    options = ["--text", "bass", "--top-k", "9", "--temperature", "0.7"]
    _, before, _ = play(*first, *options)
    _, second, err = play("--again", "--seconds", "0.3", "--seed", "2")
    assert err == ""
    for name in ("model", "engine", "text", "top_k", "temperature", "sample_rate"):
        assert second[name] == before[name]
    one, after = samples_of("song-continued.wav"), samples_of("song-continued-2.wav")
    assert np.array_equal(after[: len(one)], one)
    assert len(after) == len(one) + round(0.3 * RATE)
    assert second["join_sample"] == len(one)
    _, third, _ = play("--again", "--seconds", "0.3", "--seed", "2", "--text", "", "--top-k", "5")
    assert (third["text"], third["top_k"], third["temperature"]) == ("", 5, 0.7)
    assert third["join_sample"] == len(after)


def test_the_same_words_are_the_same_music(play, first):
    play(*first, "--report-json", "first.json")
    names = ("a.wav", "b.wav")
    for name in names:
        code, _, err = play("--again", "first.json", "--seconds", "0.3", "--seed", "2", "-o", name)
        assert (code, err) == (0, "")
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_a_report_names_its_takes_and_may_be_moved_with_them(play, first, here):
    play(*first, "--variations", "2", "--report-json", "both.json", "-o", "take.wav")
    (here / "moved").mkdir()
    for name in ("both.json", "take-1.wav", "take-2.wav"):
        shutil.move(name, "moved")
    words = ["--again=moved/both.json", "--take", "2", "--seconds", "0.2", "-o", "on.wav"]
    assert play(*words)[0] == 0
    second = samples_of("moved/take-2.wav")
    assert np.array_equal(samples_of("on.wav")[: len(second)], second)
    code, _, err = play("--again", "moved/both.json", "--take", "3")
    assert (code, err) == (2, "segue: moved/both.json: it has 2 takes, and none 3\n")


def test_bars_go_on_where_they_were(play, first):
    bars = ["--bpm", "240.5", "--prompt-bars", "1", "--snap", "beat", "--beats-per-bar", "3"]
    play(*first[:7], *bars, "--bars", "1")
    code, report, err = play("--again", "--bars", "1", "--prompt-bars", "1", "--seed", "2")
    assert (code, err) == (0, "")
    assert (report["bpm"], report["beats_per_bar"], report["snap"]) == (240.5, 3, "beat")
    bar = 180 / 240.5 * RATE
    assert report["outputs"][0]["path"] == "song-3bars-240.5bpm-seed2.wav"
    assert soundfile.info("song-3bars-240.5bpm-seed2.wav").frames == pytest.approx(3 * bar, abs=1)


def test_a_recipe_and_a_chain_are_played_on_with_the_last_text(play, first):
    then = ["--then", "piano", "--seconds", "0.2"]
    play(*first, "--recipe", "q8", "--text", "bass", *then)
    _, report, _ = play("--again", "--seconds", "0.2")
    assert (report["text"], report["recipe"]["bits"]) == ("piano", 8)
    _, report, _ = play("--again", "--seconds", "0.2", "--recipe", "none")
    assert report["recipe"] is None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--again"], "nothing was made before on this computer; name a file"),
        (["--again", "none.json"], "none.json: there is no such report"),
        (["--again", "song.wav"], "song.wav: no report of segue continue; --report-json writes"),
        (["--again", "--take", "0"], "--take 0: takes are counted from 1"),
    ],
)
def test_nothing_to_play_on_from_is_one_line(play, words, line):
    code, report, err = play(*words)
    assert (code, report) == (2, None)
    assert line in err
    assert err.count("\n") == 1


def test_other_commands_and_words_are_left_alone():
    for words in (["models", "--again"], ["continue", "song.wav"], []):
        assert again.expanded(words) == words
    with pytest.raises(RequestError, match="nothing was made before"):
        again.expanded(["continue", "--again"])


def test_a_folder_that_cannot_be_written_to_loses_no_music(play, first, here):
    (here / "state").write_text("a file")
    assert play(*first)[0] == 0
    assert Path("song-continued.wav").exists()


# --- Texts of takes -------------------------------------------------------------------------------


def test_takes_with_texts_of_their_own_are_played_on_with_theirs(play, first):
    texts = ["--text", "bass", "--text", "piano slow"]
    code, report, err = play(*first, *texts)
    assert (code, err) == (0, "")
    assert [output["text"] for output in report["outputs"]] == ["bass", "piano slow"]
    assert [part["text"] for part in report["parts"]] == [None]
    for number, text in enumerate(["bass", "piano slow"], 1):
        words = again.expanded(["continue", "--again", "--take", str(number)])
        assert f"--text={text}" in words
        assert str(Path(report["outputs"][number - 1]["path"]).absolute()) == words[1]
    typed = again.expanded(["continue", "--again", "--text", "drums"])
    assert request_options_of(make_parser().parse_args(typed))["text"] == "drums"


def test_a_text_of_a_take_is_typed_before_the_first_then():
    line = ["--text", "a", "--text", "b", "--then", "c", "--bars", "1", "--bpm", "90"]
    given = request_options_of(parsed(line), None)
    assert (given["texts"], given["variations"]) == (["a", "b"], 2)
    assert given["parts"] == (Part("c", bars=1),)
    with pytest.raises(RequestError, match="before the first --then"):
        parsed([*line, "--text", "d"])
