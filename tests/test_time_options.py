"""Time on the command line: seconds, minutes and seconds, beats and bars."""

import argparse
import json
import re

import numpy as np
import pytest
import soundfile

from segue import beats
from segue.cli import main, make_parser
from segue.time_options import number_or_auto, seconds, seconds_or_auto

RATE = 44_100


@pytest.fixture
def play(toy, tmp_path, monkeypatch, capsys):
    """Runs `segue continue` on three seconds of noise; gives code, JSON and errors."""
    monkeypatch.chdir(tmp_path)
    samples = np.random.default_rng(0).normal(0, 0.1, (3 * RATE, 2))
    soundfile.write("song.wav", samples, RATE, "PCM_24")

    def play(*options):
        few = ["--model", str(toy), "--engine", "mlx", "--seed", "1", "--json"]
        code = main(["continue", "song.wav", *few, *options])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return play


# --- Times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("65", 65),
        ("65.25", 65.25),
        (".5", 0.5),
        ("1:05", 65),
        ("1:05.250", 65.25),
        ("0:07.5", 7.5),
        ("12:00", 720),
        ("90:00", 5400),
        ("1:00:05.5", 3605.5),
        (" 1:05 ", 65),
        ("10.32", 10.32),
    ],
)
def test_a_time_is_seconds_or_minutes_and_seconds(text, value):
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["1:75", "1:", ":30", "1:2:3:4", "1:60:00", "-1:05", "a", "", "1m"]
)
def test_what_is_no_time_is_refused_with_how_to_write_one(text):
    with pytest.raises(argparse.ArgumentTypeError, match="write seconds"):
        seconds(text)


def test_a_tempo_is_a_number_or_auto():
    assert (number_or_auto("93.5"), number_or_auto("Auto")) == (93.5, "auto")
    assert (seconds_or_auto("1:05"), seconds_or_auto("auto")) == (65, "auto")
    for read, text in ((number_or_auto, "fast"), (seconds_or_auto, "1:75")):
        with pytest.raises(argparse.ArgumentTypeError, match="nor 'auto'"):
            read(text)


TIMES = (
    (
        "continue song.wav",
        ("prompt-seconds", "output-seconds", "seconds", "extend-stride", "downbeat"),
    ),
    ("generate", ("output-seconds", "seconds", "extend-stride")),
    ("bench song.wav", ("prompt-seconds", "output-seconds", "extend-stride")),
    ("matrix song.wav", ("prompt-seconds", "output-seconds", "extend-stride")),
    ("quality", ("prompt-seconds", "output-seconds", "continuation-seconds")),
)


@pytest.mark.parametrize(("command", "name"), [(c, n) for c, names in TIMES for n in names])
def test_every_time_of_every_command_takes_minutes_and_seconds(command, name):
    options = make_parser().parse_args([*command.split(), f"--{name}", "1:05.250"])
    assert getattr(options, name.replace("-", "_")) == 65.25


@pytest.mark.parametrize("command", ["continue", "generate", "bench", "matrix", "quality", "serve"])
def test_every_option_in_seconds_is_among_those(command, capsys):
    """One that is added later is missed here."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = set(re.findall(r"--([a-z-]*seconds)\b", capsys.readouterr().out))
    tested = {name for words, names in TIMES for name in names if words.startswith(command)}
    assert shown <= tested


# --- Bars -----------------------------------------------------------------------------------------


def test_bars_are_played_and_reported(play):
    code, report, err = play("--bpm", "240.5", "--prompt-bars", "1", "--bars", "0.5")
    assert (code, err) == (0, "")
    bar = 240 / 240.5 * RATE
    assert soundfile.info(report["outputs"][0]["path"]).frames == round(1.5 * bar)
    assert (report["bpm"], report["beats_per_bar"]) == (240.5, 4)
    assert (report["prompt_bars"], report["new_bars"]) == (1, 0.5)
    assert (report["loop_sample"], report["downbeat_seconds"], report["snap"]) == (0, 0, "bar")
    assert "beat_offsets" in report["outputs"][0]


def test_the_new_part_has_a_length_of_its_own(play):
    _, report, _ = play("--prompt-seconds", "0.5", "--seconds", "0:00.4")
    assert (report["prompt_seconds"], report["new_seconds"]) == (0.5, 0.4)
    assert report["bpm"] is None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--bars 4", "--bars needs a tempo: add --bpm 93, or --bpm auto"),
        ("--prompt-bars 4", "--prompt-bars needs a tempo"),
        ("--downbeat 1", "--downbeat needs a tempo"),
        ("--bpm 120 --bars 4 --seconds 3", "--seconds and --bars both say how long it gets"),
        ("--output-seconds 4 --seconds 3", "--output-seconds and --seconds both say"),
        ("--bpm 120 --prompt-bars 1 --prompt-seconds 3", "are two lengths; drop one"),
        ("--bpm 5", "bpm must lie between 20 and 999"),
        ("--bpm fast", "neither a number of beats a minute nor 'auto'"),
        ("--seconds 1:75", "write seconds (65.25), or minutes and seconds"),
    ],
)
def test_what_contradicts_itself_is_one_line_before_anything_is_loaded(play, words, line):
    code, report, err = play("--model", "nowhere", *words.split())
    assert (code, report) == (2, None)
    assert line in err
    assert err.count("\n") == 1


@pytest.mark.skipif(beats.available(), reason="madmom-infer is here")
def test_a_tempo_that_cannot_be_found_is_one_line_that_says_what_to_type(play):
    code, _, err = play("--bpm", "auto", "--bars", "1")
    assert code == 2
    assert err.startswith("segue: finding beats needs another package")
    assert err.count("\n") == 1
