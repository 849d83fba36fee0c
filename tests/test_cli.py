import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import soundfile

import segue
from segue import audio
from segue.cli import COMMANDS, main

from .broken import broken

SEGUE = (sys.executable, "-m", "segue")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty folder to work in, an empty cache, and no hub."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def song(home):
    """Two seconds of 24-bit stereo."""
    path = home / "song.wav"
    samples = np.random.default_rng(0).normal(0, 0.1, (88_200, 2))
    soundfile.write(path, samples, 44_100, "PCM_24")
    return path


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def play(toy, song, capsys):
    """Runs `segue continue` on the song; gives the exit code and what was printed."""

    def play(*options, prompt="song.wav"):
        few = ("--prompt-seconds", "0.5", "--output-seconds", "1", "--seed", "1")
        code = main(["continue", prompt, "--model", str(toy), *few, *map(str, options)])
        out, err = capsys.readouterr()
        return code, out, err

    return play


def samples_of(path):
    return soundfile.read(path, dtype="int32", always_2d=True)[0]


# --- segue continue -------------------------------------------------------------------------------


def test_a_text_that_is_too_long_is_cut_with_a_note(play):
    code, out, _ = play("--text", "drums piano " * 10_000)
    assert code == 0
    assert "note: the text is longer than the 512 tokens" in out
    assert "its last 19489 words were left out" in " ".join(out.split())


@pytest.mark.parametrize("engine", ["mlx", "openvino"])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("decoder.lm_heads.0.weight", "logits"),
        ("audio_encoder.decoder.layers.0.conv.bias", "weights of"),
    ],
)
def test_a_model_that_overflows_is_one_line_and_no_music(
    play, toy, home, tmp_path, engine, name, what
):
    pytest.importorskip(engine)
    folder = broken(toy, tmp_path / "broken", name)
    code, out, err = play("--model", folder, "--engine", engine)
    assert (code, out) == (2, "")
    assert err.startswith(f"segue: the model overflows, its {what}")
    assert err.count("\n") == 1
    assert files(home) == ["song.wav"]


def test_a_song_is_continued_and_the_time_of_each_part_is_printed(play, song, home):
    code, out, err = play()
    assert (code, err) == (0, "")
    assert files(home) == ["song-continued.wav", "song.wav"]
    written = soundfile.info("song-continued.wav")
    assert (written.frames, written.samplerate, written.channels) == (44_100, 44_100, 2)
    assert written.subtype == "PCM_24"
    assert np.array_equal(samples_of("song-continued.wav")[:22_050], samples_of(song)[:22_050])
    for part in ("load the model", "encode the prompt", "generate", "decode", "write", "all"):
        assert re.search(rf"^{part}.*\d\.\d\d$", out, re.MULTILINE)
    assert "0.5 s of prompt and 0.5 s played on" in out
    assert "× real time" in " ".join(out.split())  # a line may end within it
    assert "song-continued.wav  1.00 s, seed 1" in out


def test_a_song_out_of_a_pipe_is_continued(toy, song, home):
    few = ("--prompt-seconds", "0.5", "--output-seconds", "1", "--seed", "1", "--model", str(toy))
    command = [*SEGUE, "continue", "-", *few, "--prompt-from-end"]
    run = subprocess.run(command, input=song.read_bytes(), capture_output=True, cwd=home)
    assert run.returncode == 0, run.stderr
    assert run.stderr == b""
    assert np.array_equal(samples_of("continued.wav")[:88_200], samples_of(song))


def test_a_header_that_lies_is_a_note_before_the_work_and_in_the_report(play, song):
    data = bytearray(song.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = bytes(4)
    song.write_bytes(data)
    code, out, err = play("--prompt-from-end")
    assert code == 0
    said = "song.wav: its header says 0 s, and 2 s of sound are there: these count"
    assert err == f"segue: note: {said}\n"
    assert said not in out
    assert samples_of("song-continued.wav").shape[0] == 88_200 + 22_050
    code, out, err = play("--json")
    assert said in json.loads(out)["notes"]
    song.write_bytes(data[: len(data) // 2])
    code, out, err = play("--json")
    assert "0.9999 s of sound are there" in err


@pytest.mark.parametrize("options", [{"format": "MP3"}, {"format": "OGG", "subtype": "VORBIS"}])
def test_loud_lossy_music_stays_as_it_was_or_a_note_says_how_much_did_not(play, options):
    square = 0.99 * np.sign(np.sin(np.arange(44_100)[:, None] / [20, 30]))
    soundfile.write("hot", square, 44_100, **options)
    heard = audio.read("hot").samples
    assert (np.abs(heard[:22_050]) > 1).sum() > 20
    code, out, err = play(prompt="hot")
    assert (code, err) == (0, "")
    written, _ = soundfile.read("hot-continued.wav", dtype="float32")
    assert soundfile.info("hot-continued.wav").subtype == "FLOAT"
    assert np.array_equal(written[:22_050], heard[:22_050])
    code, out, err = play("-o", "hot.flac", "--json", prompt="hot")
    (note,) = json.loads(out)["notes"]
    assert int(note.split()[1]) >= (np.abs(heard[:22_050]) > 1).sum()
    assert err == f"segue: note: {note}\n"


def test_a_link_for_an_output_stays_one(play, home):
    (home / "elsewhere").mkdir()
    (home / "out.wav").symlink_to("elsewhere/real.wav")
    code, _, err = play("-o", "out.wav")
    assert (code, err) == (0, "")
    assert (home / "out.wav").is_symlink()
    assert soundfile.info("elsewhere/real.wav").frames == 44_100
    (home / "lost.wav").symlink_to("nowhere/real.wav")
    code, _, err = play("-o", "lost.wav")
    assert code == 2
    assert "there is no folder" in err


def test_a_named_pipe_for_an_output_is_written_to(play):
    os.mkfifo("out.wav")
    with Path("read").open("wb") as read, subprocess.Popen(["cat", "out.wav"], stdout=read):
        code, _, err = play("-o", "out.wav")
    assert (code, err) == (0, "")
    assert soundfile.info("read").frames == 44_100


def test_a_matrix_does_not_read_a_pipe_for_every_row(toy, capsys):
    for prompt in ("-", "pipe"):
        if prompt == "pipe":
            os.mkfifo(prompt)
        code = main(["matrix", prompt, "--model", str(toy)])
        assert code == 2
        assert "name a file, not a pipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "format_", "subtype"),
    [
        ("out.wav", "WAV", "PCM_24"),
        ("out.flac", "FLAC", "PCM_24"),
        ("out.ogg", "OGG", "VORBIS"),
        ("out.mp3", "MP3", "MPEG_LAYER_III"),
        ("out.AIFF", "AIFF", "PCM_24"),
    ],
)
def test_the_ending_of_the_output_says_the_format(play, name, format_, subtype):
    code, _, err = play("-o", name)
    assert (code, err) == (0, "")
    written = soundfile.info(name)
    assert (written.format, written.subtype) == (format_, subtype)
    assert (written.frames, written.samplerate, written.channels) == (44_100, 44_100, 2)


@pytest.mark.parametrize("name", ["in.mp3", "in.ogg", "in.flac", "in.aiff", "in"])
def test_prompts_of_any_format_become_a_wav(play, home, name):
    noise = np.random.default_rng(0).normal(0, 0.1, (44_100, 1))
    format_ = {"": "WAV", "mp3": "MP3", "aiff": "AIFF"}.get(name[3:], name[3:].upper())
    soundfile.write(name, noise, 44_100, format=format_)
    code, _, err = play(prompt=name)
    assert (code, err) == (0, "")
    assert soundfile.info("in-continued.wav").frames == 44_100


def test_the_end_of_the_song_is_continued_and_the_song_stays(play, song):
    code, _, _ = play("--prompt-from-end", "-o", "out.flac")
    assert code == 0
    out = samples_of("out.flac")
    assert out.shape == (88_200 + 22_050, 2)
    assert np.array_equal(out[:88_200], samples_of(song))


def test_the_codecs_copy_of_the_prompt_is_written_for_those_who_ask(play, song):
    play("-o", "own.wav")
    code, _, _ = play("-o", "codec.wav", "--codec-prompt")
    assert code == 0
    own, codec = samples_of("own.wav"), samples_of("codec.wav")
    assert own.shape == codec.shape
    assert not np.array_equal(own[:22_050], codec[:22_050])
    assert np.array_equal(own[23_000:], codec[23_000:])


def test_variations_are_numbered_and_have_their_own_seeds(play, home):
    code, out, _ = play("--variations", 3, "-o", "out.wav")
    assert code == 0
    assert files(home) == ["out-1.wav", "out-2.wav", "out-3.wav", "song.wav"]
    for n in (1, 2, 3):
        assert f"out-{n}.wav  1.00 s, seed {n}" in out
    assert len({samples_of(f"out-{n}.wav").tobytes() for n in (1, 2, 3)}) == 3
    play("--seed", 3, "-o", "alone.wav")
    difference = np.abs(samples_of("alone.wav") - samples_of("out-3.wav").astype(np.int64))
    assert difference.max() < 2**18  # rounding, in units of 32 bits


def test_json_says_it_all_and_nothing_else_is_printed(play, home):
    options = ("--engine", "mlx", "--text", "drums fast", "--variations", 2, "-o", "out.wav")
    code, out, err = play("--json", *options)
    report = json.loads(out)
    assert (code, err) == (0, "")
    alike = {"cut": "whole", "seconds": 1.0, "beat_offsets": None, "text": "drums fast"}
    assert report["outputs"] == [
        {"path": "out-1.wav", "seed": 1, **alike},
        {"path": "out-2.wav", "seed": 2, **alike},
    ]
    assert report["sample_rate"] == 44_100
    assert report["channels"] == 2
    assert report["join_sample"] == 22_050
    assert (report["prompt_seconds"], report["new_seconds"]) == (0.5, 0.5)
    assert report["codes"] == [4, 50]
    assert report["guided"] is True
    assert (report["text"], report["top_k"], report["temperature"]) == ("drums fast", 250, 1.0)
    assert report["engine"] in ("mlx", "native", "openvino")
    assert report["version"] == version("segue")
    assert report["ms_per_step"] > 0
    assert report["notes"] == []
    timings = report["timings_s"]
    assert timings["total_s"] > timings["token_generate_s"] > 0
    assert {"model_load_s", "prompt_encode_s", "prefill_s", "decode_full_s"} < set(timings)


def test_a_random_seed_is_reported_and_gives_the_same_file_again(toy, song, capsys):
    line = ["continue", "song.wav", "--model", str(toy), "--output-seconds", "2.5", "--json"]
    assert main([*line, "-o", "one.wav"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["prompt_seconds"] == 2
    assert "shorter than the 6 s asked for" in report["notes"][0]
    assert main([*line, "-o", "two.wav", "--seed", str(report["outputs"][0]["seed"])]) == 0
    assert np.array_equal(samples_of("one.wav"), samples_of("two.wav"))


def test_every_option_of_a_request_reaches_it(play):
    played = set()
    for options in (
        (),
        ("--seed", 2),
        ("--top-k", 3),
        ("--temperature", 3),
        ("--text", "drums"),
        ("--text", "drums", "--guidance-coef", 9),
        ("--prompt-from-end",),
        ("--prompt-seconds", 0.4),
    ):
        assert play(*options, "-o", "out.wav")[0] == 0
        played.add(samples_of("out.wav").tobytes())
    assert len(played) == 8
    assert json.loads(play("--json", "--allow-empty-text-cfg")[1])["guided"] is True


def test_notes_are_shown(play):
    soundfile.write("silent.wav", np.zeros((44_100, 1)), 44_100)
    _, out, _ = play(prompt="silent.wav")
    assert "note: the prompt is silent" in out


def test_stereo_models_play_too(play, toy_stereo):
    code, out, _ = play("--model", toy_stereo, "--json")
    assert code == 0
    assert json.loads(out)["codes"] == [8, 50]


def test_an_output_that_is_there_is_replaced(play, home):
    (home / "out.wav").write_bytes(b"old")
    assert play("-o", "out.wav")[0] == 0
    assert soundfile.info("out.wav").frames == 44_100


def test_names_may_hold_anything(play, home, toy):
    folder = home / "[bold]ü ö[/x]"
    folder.mkdir(parents=True)  # the slash makes it two
    model = shutil.copytree(toy, folder / "[/toy]")
    shutil.copy("song.wav", folder / "a b.wav")
    name = str(folder / "c:d [red].wav")
    code, out, err = play("--model", model, "-o", name, prompt=str(folder / "a b.wav"))
    assert (code, err) == (0, "")
    assert name in out


def test_a_name_that_is_no_utf8_is_no_obstacle(song, toy, home):
    name = os.fsdecode(b"caf\xe9.wav")
    try:
        shutil.copy(song, home / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    line = (*SEGUE, "continue", name, "--model", toy, "--prompt-seconds", "0.5")
    done = subprocess.run(
        (*line, "--output-seconds", "0.6"),
        env=os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (home / os.fsdecode(b"caf\xe9-continued.wav")).is_file()


def test_a_terminal_that_knows_ascii_alone_is_no_obstacle(song, toy):
    line = (*SEGUE, "continue", "song.wav", "--model", toy, "--prompt-seconds", "0.5")
    done = subprocess.run(
        (*line, "--output-seconds", "0.6"),
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"real time" in done.stdout


# --- What cannot be done --------------------------------------------------------------------------

BAD = {
    "text named .wav": ["text.wav"],
    "no such prompt": ["missing.wav"],
    "a folder for a prompt": ["folder"],
    "an empty prompt": ["empty.wav"],
    "one sample": ["short.wav"],
    "not a number in it": ["nan.wav"],
    "a broken MP3": ["text.mp3"],
    "no prompt": [],
    "two prompts": ["song.wav", "song.wav"],
    "an ending that is no format": ["song.wav", "-o", "out.xyz"],
    "no ending": ["song.wav", "-o", "out"],
    "a missing folder": ["song.wav", "-o", "nowhere/out.wav"],
    "a file for a folder": ["song.wav", "-o", "song.wav/out.wav"],
    "a folder for an output": ["song.wav", "-o", "folder.wav"],
    "the prompt as output": ["song.wav", "-o", "song.wav"],
    "the prompt as output, otherwise spelled": ["song.wav", "-o", "folder/../song.wav"],
    "the prompt as one of the outputs": ["song-2.wav", "-o", "song.wav", "--variations", "3"],
    "7 channels in an MP3": ["seven.wav", "-o", "out.mp3"],
    "96 kHz in an Opus": ["seven.wav", "-o", "out.opus"],
    "0 seconds": ["song.wav", "--output-seconds", "0"],
    "a prompt of 0 seconds": ["song.wav", "--prompt-seconds", "0"],
    "a prompt of less than none": ["song.wav", "--prompt-seconds", "-1"],
    "a prompt of infinity": ["song.wav", "--prompt-seconds", "inf"],
    "a prompt of 1e400 seconds": ["song.wav", "--prompt-seconds", "1e400"],
    "a prompt of minus infinity": ["song.wav", "--prompt-seconds=-inf"],
    "a prompt of NaN": ["song.wav", "--prompt-seconds", "nan"],
    "a prompt as long as the output": ["song.wav", "--output-seconds", "0.5"],
    "an output of a year": ["song.wav", "--output-seconds", "3e7"],
    "an output of infinity": ["song.wav", "--output-seconds", "inf"],
    "an output of NaN": ["song.wav", "--output-seconds", "nan"],
    "an output of words": ["song.wav", "--output-seconds", "long"],
    "a seed below 0": ["song.wav", "--seed", "-1"],
    "a seed of words": ["song.wav", "--seed", "x"],
    "a seed of 1.5": ["song.wav", "--seed", "1.5"],
    "a huge seed": ["song.wav", "--seed", "9" * 30],
    "a seed too long to read": ["song.wav", "--seed", "9" * 5000],
    "k below 0": ["song.wav", "--top-k", "-3"],
    "k of words": ["song.wav", "--top-k", "many"],
    "a temperature of NaN": ["song.wav", "--temperature", "nan"],
    "a temperature below 0": ["song.wav", "--temperature", "-1"],
    "a huge temperature": ["song.wav", "--temperature", "1e300"],
    "a huge coefficient": ["song.wav", "--guidance-coef", "1e300"],
    "no variations": ["song.wav", "--variations", "0"],
    "less than no variations": ["song.wav", "--variations", "-5"],
    "a billion variations": ["song.wav", "--variations", "1000000000"],
    "a text that is no UTF-8": ["song.wav", "--text", os.fsdecode(b"caf\xe9")],
    "an unknown model": ["song.wav", "--model", "nobody/nothing"],
    "a model that is no name": ["song.wav", "--model", "../no/such/folder"],
    "a folder without a model": ["song.wav", "--model", "folder"],
    "an empty model": ["song.wav", "--model", ""],
    "an unknown engine": ["song.wav", "--engine", "steam"],
    "an unknown type": ["song.wav", "--cast-dtype", "int3"],
    "an unknown option": ["song.wav", "--louder"],
    "an abbreviated option": ["song.wav", "--temp", "1"],
    "an option without its value": ["song.wav", "--seed"],
}


@pytest.fixture
def shelf(home, song):
    """Prompts of which hardly one is any good."""
    shutil.copy(song, home / "song-2.wav")
    for name in ("folder", "folder.wav"):
        (home / name).mkdir()
    (home / "text.wav").write_text("no music here\n" * 99)
    (home / "text.mp3").write_text("no music here\n" * 99)
    (home / "empty.wav").touch()
    soundfile.write("short.wav", np.zeros(1), 44_100)
    soundfile.write("nan.wav", np.full(44_100, np.nan), 44_100, "FLOAT")
    soundfile.write("seven.wav", np.zeros((96_000, 7)), 96_000)
    return home


@pytest.mark.parametrize("what", BAD)
def test_bad_input_ends_with_2_and_one_line_and_writes_nothing(what, toy, shelf, capsys):
    before = files(shelf)
    few = ("--model", str(toy), "--prompt-seconds", "0.5", "--output-seconds", "1")
    code = main(["continue", *few, *BAD[what]])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("segue: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert files(shelf) == before


@pytest.mark.parametrize(
    ("name", "words"), [("short.wav", "too short"), ("nan.wav", "no sound (NaN, infinity")]
)
@pytest.mark.parametrize("command", ["continue", "bench --prompt"])
def test_what_is_wrong_with_the_sound_names_the_file(command, name, words, toy, shelf, capsys):
    few = ("--model", str(toy), "--prompt-seconds", "0.5", "--output-seconds", "1")
    assert main([*command.split(), name, *few, "--engine", "mlx"]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"segue: {name}: the audio ")
    assert words in line


@pytest.mark.parametrize("line", [[], ["play"], ["--louder"], ["models", "x"]])
def test_a_command_that_is_none_ends_with_2_and_one_line(line, capsys):
    assert main(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("segue: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("what", ["text named .wav", "a seed of words", "no such prompt"])
def test_the_shell_sees_the_same(what, toy, shelf):
    line = (*SEGUE, "continue", "--model", toy, *BAD[what])
    done = subprocess.run(line, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("segue: ")
    assert done.stderr.count("\n") == 1


def test_a_disk_that_fills_up_ends_with_2_and_no_file(toy, song, home):
    limit = f"ulimit -f 1; exec {sys.executable} -m segue"
    options = f"--model '{toy}' --prompt-seconds 0.5 --output-seconds 1 --no-progress"
    # What measures the tests writes at the end of every process, and would complain as well.
    unmeasured = {name: word for name, word in os.environ.items() if "COVERAGE" not in name}
    done = subprocess.run(
        f"{limit} continue song.wav {options}",
        shell=True,
        capture_output=True,
        text=True,
        env=unmeasured,
    )
    assert done.returncode == 2
    assert "song-continued.wav: cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1
    assert files(home) == ["song.wav"]


# --- Ctrl-C ---------------------------------------------------------------------------------------


def read_until(terminal, word, seconds):
    """What appears on a terminal until a word does, or until it is closed if there is none."""
    seen, end = b"", time.monotonic() + seconds
    while word is None or word not in seen:
        if not select.select([terminal], [], [], max(0, end - time.monotonic()))[0]:
            raise TimeoutError(seen)
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the other side was closed
            data = b""
        if not data:
            assert word is None, seen
            break
        seen += data
    return seen


def test_ctrl_c_while_it_generates_ends_with_130_and_one_line_and_leaves_no_file(toy, song, home):
    ours, theirs = pty.openpty()
    line = (*SEGUE, "continue", "song.wav", "--model", toy, "--output-seconds", "3600")
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    ) as process:
        os.close(theirs)
        for _ in range(2):
            read_until(ours, b"frames", 60)  # a bar counts them: it plays
        process.send_signal(signal.SIGINT)
        rest = read_until(ours, None, 60)
        assert process.stdout.read() == b""
    os.close(ours)
    assert process.returncode == 130
    assert b"Traceback" not in rest
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", rest)
    assert text.rstrip().splitlines()[-1].strip() == b"segue: stopped"
    assert files(home) == ["song.wav"]


# --- Bars -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--no-progress",)])
def test_bars_are_shown_on_a_terminal_unless_they_are_not_wanted(toy, song, options):
    ours, theirs = pty.openpty()
    line = (*SEGUE, "continue", "song.wav", "--model", toy, "--output-seconds", "8", *options)
    with subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    ) as process:
        os.close(theirs)
        seen = read_until(ours, None, 60)
    os.close(ours)
    assert process.returncode == 0
    assert (b"generate" in seen) == (not options)
    if options:
        assert seen == b""


# --- segue models, and the rest -------------------------------------------------------------------


def test_models_lists_what_can_be_had(capsys):
    assert main(["models"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for name in ("facebook/musicgen-small", "thepatch/hoenn_lofi", "thepatch/bleeps-medium"):
        assert re.search(rf"^{name} .*can be downloaded", out, re.MULTILINE)


def test_models_lists_what_is_here(toy, tmp_path, capsys):
    cached = tmp_path / "hf" / "hub" / "models--thepatch--hoenn_lofi" / "snapshots" / "abc"
    shutil.copytree(toy, cached)
    assert main(["models"]) == 0
    assert re.search(r"^thepatch/hoenn_lofi .*here", capsys.readouterr().out, re.MULTILINE)
    assert main(["models", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (here,) = [model for model in report["here"] if model["name"] == "thepatch/hoenn_lofi"]
    assert here["path"] == str(cached)
    assert here["complete"] is True
    assert here["bytes"] == sum(file.stat().st_size for file in cached.iterdir())
    absent = {model["name"] for model in report["to_be_had"]}
    assert "facebook/musicgen-small" in absent
    assert "thepatch/hoenn_lofi" not in absent


def test_a_checkpoint_in_the_cache_runs(toy, tmp_path, play):
    cached = tmp_path / "hf" / "hub" / "models--thepatch--hoenn_lofi" / "snapshots" / "abc"
    shutil.copytree(toy, cached)
    code, out, _ = play("--model", "thepatch/hoenn_lofi", "--json")
    assert code == 0
    assert json.loads(out)["model"] == "thepatch/hoenn_lofi"


def test_a_reader_who_has_seen_enough_is_no_error():
    with subprocess.Popen(
        (*SEGUE, "models", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_the_version_is_that_of_the_package():
    done = subprocess.run((*SEGUE, "--version"), capture_output=True, text=True, check=True)
    assert done.stdout == f"segue {version('segue')}\n"


@pytest.mark.parametrize("line", [["--help"], ["continue", "--help"], ["models", "--help"]])
def test_help_is_given(line, capsys):
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: segue")
    assert err == ""


def test_help_is_there_before_anything_large_is_imported():
    code = (
        "import sys; from segue.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('large:', *{'numpy', 'openvino', 'rich', 'soundfile'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(f"\n    {name} " in shown.stdout for name in COMMANDS)
    assert shown.stdout.splitlines()[-1] == "large:"


def test_the_library_has_the_names_that_it_lists_and_no_others():
    assert all(getattr(segue, name) is not None for name in segue.__all__)
    assert set(segue.__all__) < set(dir(segue))
    with pytest.raises(AttributeError, match="'segue' has no attribute 'nothing'"):
        getattr(segue, "nothing")  # noqa: B009 - a type checker would refuse the plain way
