"""Commands whose standard streams are closed, full or unread, in a folder that is gone."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

SEGUE = f"{sys.executable} -m segue"
FULL = "segue: standard output cannot be written (No space left on device)\n"

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # it hides what is flushed at the end
    soundfile.write("song.wav", np.random.default_rng(0).normal(0, 0.1, 44_100), 44_100)
    return tmp_path


def shell(line):
    """Exit code, output and errors of a command line of bash's, each part of a pipe counting."""
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def play(toy):
    """The start of a command line that plays."""
    few = "--prompt-seconds 0.2 --output-seconds 0.4 --engine mlx --no-progress"
    return f"{SEGUE} continue song.wav --model {toy} {few}"


@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_obstacle(play, here, streams):
    assert shell(f"{play} -o out.wav {streams}")[0] == 0
    assert soundfile.info(here / "out.wav").frames > 0


@pytest.mark.parametrize("stream", ["2>&-", pytest.param("2>/dev/full", marks=needs_full)])
def test_bad_input_ends_with_2_where_it_cannot_be_printed(stream):
    assert shell(f"{SEGUE} continue nowhere.wav {stream}") == (2, "", "")


@needs_full
@pytest.mark.parametrize(
    "line", [f"{SEGUE} models", f"{SEGUE} --help", f"PYTHONUNBUFFERED=1 {SEGUE} models --json"]
)
def test_an_output_that_is_full_is_one_line(line):
    code, _, err = shell(f"{line} >/dev/full")
    assert (code, err) == (2, FULL)


@needs_full
def test_the_music_is_written_where_nothing_can_be_printed(play, here):
    code, _, err = shell(f"{play} -o out.wav >/dev/full")
    assert (code, err) == (2, FULL)
    assert soundfile.info(here / "out.wav").frames > 0


@pytest.mark.parametrize("command", ["models", "--help"])
def test_a_reader_who_has_seen_enough_ends_it_quietly(command):
    code, out, err = shell(f"(sleep 0.2; {SEGUE} {command}; echo $? >&2) | true")
    assert (code, out) == (0, "")
    assert err in ("0\n", "1\n")  # all was in the pipe already, or not


def test_a_matrix_is_complete_though_nothing_reads_its_output(toy, here):
    few = "--prompt-seconds 0.2 --output-seconds 0.4 --runs 0 --engine mlx --no-quality"
    rows = "--row name=baseline --out m"
    shell(f"({SEGUE} matrix song.wav --model {toy} {few} {rows} 2>m.log; echo $? >code) | true")
    assert (here / "code").read_text() in ("0\n", "1\n")
    assert (here / "m" / "report.html").is_file()
    assert "--resume" not in (here / "m.log").read_text()


@needs_full
def test_bars_and_messages_that_cannot_be_shown_stop_nothing(toy, here):
    few = "--prompt-seconds 0.2 --output-seconds 0.4 --runs 0 --engine mlx --no-quality"
    rows = "--row name=baseline --out m"
    line = f"{SEGUE} matrix song.wav --model {toy} {few} {rows} 2>/dev/full"
    code, out, _ = shell(line)
    assert code == 0
    assert "baseline" in out
    assert (here / "m" / "report.html").is_file()


def test_a_closed_stream_s_number_does_not_go_to_another_file(here):
    code = (
        "import os, sys\n"
        "from segue import standard_streams as streams\n"
        "with streams.prepared():\n"
        "    numbers = [os.open('song.wav', os.O_RDONLY) for _ in range(2)]\n"
        "    print('nobody hears'); print('neither this', file=sys.stderr)\n"
        "sys.exit(min(numbers) < 3)\n"
    )
    assert shell(f'{sys.executable} -c "{code}" <&- >&- 2>&-')[0] == 0


# --- A working folder that was removed ------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("continue {song} --model {toy}", "song-continued.wav: cannot be written ({gone})"),
        ("continue {song} --model {toy} -o a.wav", "a.wav: cannot be written ({gone})"),
        ("bench --prompt {song} --model {toy} --report-json r", "r: cannot be written ({gone})"),
        ("bench --prompt {song} --model {toy} --save-prefix p", "p_full.wav: cannot be written"),
        ("quality {toy} --report-json r", "r: cannot be written ({gone})"),
        ("quantize {toy} q", "q: cannot be written ({gone})"),
        ("matrix {song} --model {toy}", "cannot be written ({gone})"),
        ("serve --port 0 --state-dir state", "{gone}; go to another"),
    ],
)
def test_a_command_in_a_folder_that_is_gone_says_so(toy, here, command, said, monkeypatch, capsys):
    from segue.cli import main

    folder = here / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    words = [word.format(song=here / "song.wav", toy=toy) for word in command.split()]
    code = main(words)
    monkeypatch.chdir(here)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said.format(gone="the working folder is not there any more") in err


def test_a_folder_that_is_gone_does_not_matter_where_names_are_whole(toy, here):
    line = f"mkdir gone; cd gone; rmdir ../gone; {SEGUE} continue {here}/song.wav --model {toy}"
    few = "--prompt-seconds 0.2 --output-seconds 0.4 --engine mlx --no-progress"
    assert shell(f"{line} {few} -o {here}/out.wav")[0] == 0
    assert soundfile.info(here / "out.wav").frames > 0


# --- A system without /proc -----------------------------------------------------------------------


@pytest.fixture
def without_proc():
    """What to put before a command line of a shell, so that it has no /proc."""
    hide = "unshare -m bash -c 'mount -t tmpfs none /proc && exec \"$@\"' -"
    if shutil.which("unshare") is None or shell(f"{hide} true")[0] != 0:
        pytest.skip("only root on Linux can hide /proc")
    return hide


def test_it_plays_and_measures_without_proc(play, here, without_proc):
    pytest.importorskip("openvino")  # which files are mapped is looked up there
    bench = play.replace("continue song.wav", "bench --prompt song.wav --runs 0")
    code, out, err = shell(f"{without_proc} {bench.replace('mlx', 'openvino')}")
    assert (code, err) == (0, "")
    assert "peak memory: process" in out
