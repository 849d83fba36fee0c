"""Where `segue continue` writes when nobody says, and what it refuses before it works."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from segue import outputs, takes
from segue.audio import Audio
from segue.cli import main
from segue.continuation import continue_audio
from segue.errors import OutputError, RequestError

from .disks import fill, small_disk

SOUND = Audio(np.zeros((10, 1), np.float32), 44_100)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def play(toy, capsys):
    """Runs `segue continue` on a second of noise of any name; gives code, JSON and errors."""

    def play(prompt, *options):
        if not Path(prompt).exists():
            soundfile.write(prompt, np.random.default_rng(0).normal(0, 0.1, 44_100), 44_100)
        few = ["--prompt-seconds", "0.2", "--output-seconds", "0.4", "--seed", "1", "--json"]
        few += ["--engine", "mlx"]
        code = main(["continue", prompt, "--model", str(toy), *few, *options])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return play


def name_of(prompt, variations=1):
    return outputs.default(Path(prompt), variations)[0].name


# --- The default ----------------------------------------------------------------------------------


def test_an_existing_file_is_not_overwritten_and_there_is_a_note(play, here):
    first, second, third = (play("song.wav")[1] for _ in range(3))
    names = [report["outputs"][0]["path"] for report in (first, second, third)]
    assert names == ["song-continued.wav", "song-continued-2.wav", "song-continued-3.wav"]
    assert first["notes"] == []
    for report in (second, third):
        assert report["notes"] == ["song-continued.wav is there already, and stays as it is"]
    assert len({path.read_bytes() for path in here.glob("song-continued*")}) == 1


def test_an_output_that_was_named_is_overwritten(play, here):
    (here / "out.wav").write_bytes(b"what was there before")
    code, report, _ = play("song.wav", "-o", "out.wav")
    assert (code, report["notes"]) == (0, [])
    assert soundfile.info("out.wav").frames > 0


def test_no_variation_is_overwritten(here):
    assert name_of("song.wav", 2) == "song-continued.wav"
    (here / "song-continued-2.wav").touch()
    assert name_of("song.wav", 2) == "song-continued-2.wav"
    assert outputs.default(Path("song.wav"), 2)[1].startswith("song-continued-2.wav is there")
    assert name_of("song.wav") == "song-continued.wav"


def test_standard_input_has_no_name_to_go_on_with(here):
    assert name_of("-") == "continued.wav"
    (here / "continued.wav").touch()
    assert name_of("-") == "continued-2.wav"


def test_a_link_that_leads_nowhere_is_there(here):
    (here / "song-continued.wav").symlink_to("nowhere")
    assert name_of("song.wav") == "song-continued-2.wav"


@pytest.mark.parametrize("letter", ["x", "あ", "🎵"])
def test_a_prompt_of_the_longest_name_gets_an_output(play, here, letter):
    prompt = letter * (250 // len(letter.encode())) + ".wav"
    code, report, err = play(prompt)
    assert (code, err) == (0, "")
    (path,) = here.glob("*-continued.wav")
    assert report["outputs"][0]["path"] == path.name
    assert set(path.stem.removesuffix("-continued")) == {letter}
    assert 200 < len(os.fsencode(path.name)) <= 255
    again, _ = outputs.default(Path(prompt), 4)
    assert again.name == path.name  # of four, which have numbers of their own
    outputs.paths_for(again, SOUND, 4, Path(prompt))


# --- What is found before anything is loaded ------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variations", "words"),
    [
        ("x" * 252 + ".wav", 1, "File name too long; shorten it"),
        ("x" * 250 + ".wav", 2, "File name too long; shorten it"),
        ("あ" * 84 + ".wav", 1, "File name too long; shorten it"),
        ("nowhere/a.wav", 1, "there is no folder nowhere"),
        ("a.wav/b.wav", 1, "there is no folder a.wav"),
        ("folder.wav", 1, "a folder; name a file"),
    ],
)
def test_what_cannot_be_written_is_refused(here, name, variations, words):
    (here / "a.wav").touch()
    (here / "folder.wav").mkdir()
    before = sorted(here.iterdir())
    with pytest.raises(OutputError, match=words):
        outputs.paths_for(Path(name), SOUND, variations, here / "song.wav")
    assert sorted(here.iterdir()) == before


def test_the_longest_name_is_written_whole(play, here):
    name = "あ" * 83 + ".wav"
    code, report, err = play("song.wav", "-o", name)
    assert (code, err, report["outputs"][0]["path"]) == (0, "", name)


def test_the_prompt_itself_is_no_output(here):
    (here / "song.wav").touch()
    with pytest.raises(RequestError, match="the prompt itself"):
        outputs.paths_for(Path("song.wav"), SOUND, 1, here / "song.wav")


def test_a_full_disk_ends_with_2_and_leaves_the_old_file(play, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        (disk / "a.wav").write_bytes(b"what was there before")
        fill(disk)
        code, report, err = play("song.wav", "-o", str(disk / "a.wav"))
        assert (code, report) == (2, None)
        assert err.startswith(f"segue: {disk / 'a.wav'}: cannot be written (No space left")
        assert err.count("\n") == 1
        assert (disk / "a.wav").read_bytes() == b"what was there before"
        assert {path.name for path in disk.iterdir()} == {"a.wav", "filler"}


def test_a_folder_that_vanishes_meanwhile_is_one_line(play, here, monkeypatch):
    folder = here / "out"
    folder.mkdir()

    def vanish(*arguments):
        folder.rmdir()
        return continue_audio(*arguments)

    monkeypatch.setattr(takes, "continue_audio", vanish)
    code, _, err = play("song.wav", "-o", "out/a.wav")
    assert code == 2
    assert err == "segue: out/a.wav: cannot be written (the folder out is not there any more)\n"
