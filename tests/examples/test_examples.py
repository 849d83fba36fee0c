"""The examples run, as a reader would run them."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def write_noise(path: Path, seconds: float = 1.0, rate: int = 32_000) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * rate))
    soundfile.write(path, samples, rate, "PCM_16")


def test_every_loop_of_a_folder_is_continued_and_a_bad_one_is_named(tmp_path, toy):
    loops = tmp_path / "loops"
    loops.mkdir()
    for name in ("a.wav", "b.flac"):
        write_noise(loops / name)
    (loops / "c.wav").write_text("this is no audio")
    done = run(
        *(EXAMPLES / "continue_folder.py", loops, tmp_path / "out"),
        *("--model", toy, "--seconds", "2"),
    )
    assert done.returncode == 1
    assert "c.wav" in done.stderr
    assert "Traceback" not in done.stderr
    for name in ("a.wav", "b.wav"):
        assert soundfile.info(tmp_path / "out" / name).duration == 2


def test_a_file_grows_while_the_music_is_generated(tmp_path, toy):
    write_noise(tmp_path / "prompt.wav", 2)
    output = tmp_path / "continuation.wav"
    done = run(
        *(EXAMPLES / "stream.py", tmp_path / "prompt.wav", "-o", output),
        *("--model", toy, "--seconds", "6"),
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 1
    assert soundfile.info(output).duration == 4


def test_a_folder_that_is_missing_or_empty_is_one_line(tmp_path):
    for loops, line in ((tmp_path / "nowhere", "no such folder"), (tmp_path, "no audio files")):
        done = run(EXAMPLES / "continue_folder.py", loops, tmp_path / "out")
        assert done.returncode == 2
        assert line in done.stderr.splitlines()[-1]
        assert not (tmp_path / "out").exists()


def test_ctrl_c_is_one_line_and_what_was_streamed_is_there(tmp_path, toy):
    write_noise(tmp_path / "prompt.wav", 2)
    output = tmp_path / "continuation.wav"
    command = [sys.executable, EXAMPLES / "stream.py", tmp_path / "prompt.wav", "-o", output]
    with subprocess.Popen(
        [*map(str, command), "--model", str(toy), "--seconds", "600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()  # some of it is written
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=200)
    assert said == "stopped\n"
    assert soundfile.info(output).duration > 0
