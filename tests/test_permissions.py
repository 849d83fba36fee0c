"""What belongs to somebody else is told as that, and not as missing or damaged."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from .disks import bound, closed

SEGUE = (sys.executable, "-m", "segue")
FEW = ("--prompt-seconds", "0.2", "--output-seconds", "0.4", "--engine", "mlx", "--no-progress")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home, of which every other folder is a part."""
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "SEGUE_STATE", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    soundfile.write("song.wav", np.random.default_rng(0).normal(0, 0.1, 44_100), 44_100)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def segue(*words):
    """Exit code, output and errors of a command that permissions bind."""
    done = subprocess.run(
        [*bound(), *SEGUE, *map(str, words)], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def refused(*words):
    """The one line in which a command is refused."""
    code, out, err = segue(*words)
    assert (code, out) == (2, "")
    assert err.startswith("segue: ")
    assert err.count("\n") == 1
    return err


def cached(home, name, toy):
    """A model in the cache, as huggingface_hub keeps it."""
    repository = home / ".cache/huggingface/hub" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("a" * 40)
    shutil.copytree(toy, repository / "blobs")
    snapshot.mkdir(parents=True)
    for path in (repository / "blobs").iterdir():
        (snapshot / path.name).symlink_to(path)
    return repository


def test_an_unreadable_home_lists_what_it_can_and_says_so(home):
    with closed(home):
        code, out, err = segue("models")
        assert (code, err) == (0, "")
        assert "facebook/musicgen-small" in out
        cache = f"{home}/.cache/huggingface/hub"
        assert f"note: {cache}: the cache of models cannot be read (Permission denied)" in out
        code, out, err = segue("models", "--json")
        assert (code, err) == (0, "")
        assert "cannot be read (Permission denied)" in json.loads(out)["notes"][0]


def test_an_unreadable_home_does_not_matter_to_what_is_elsewhere(home, toy):
    with closed(home):
        code, _, err = segue("continue", "song.wav", "--model", toy, *FEW)
    assert (code, err) == (0, "")


def test_a_model_in_an_unreadable_cache_is_not_reported_as_missing(home):
    with closed(home):
        line = refused("continue", "song.wav", "--model", "facebook/musicgen-small")
    assert "the cache of models cannot be read (Permission denied)" in line


def test_serve_says_what_it_needs_where_there_is_no_home_to_write_to(home):
    with closed(home):
        line = refused("serve", "--port", "0", "--default-model", "facebook/musicgen-small")
    assert f"{home}/.local/state/segue: cannot be used (Permission denied)" in line
    assert "--state-dir" in line


@pytest.mark.parametrize("part", ["", "snapshots", "blobs"])
def test_a_closed_folder_of_the_cache_is_reported_as_such(home, toy, part):
    repository = cached(home, "facebook/musicgen-small", toy)
    cached(home, "somebody/else", toy)
    with closed(repository / part):
        code, out, err = segue("models", "--json")
        assert (code, err) == (0, "")
        here = {model["name"]: model for model in json.loads(out)["here"]}
        assert here["somebody/else"]["complete"]
        (missing,) = here["facebook/musicgen-small"]["missing"]
        assert missing.startswith(f"permission to read {repository}")
        line = refused("continue", "song.wav", "--model", "facebook/musicgen-small")
        assert "permission to read" in line


@pytest.mark.parametrize("where", ["model", "."])
def test_a_closed_folder_is_no_folder_without_a_checkpoint(toy, tmp_path, where):
    shelf = tmp_path / "shelf"
    shutil.copytree(toy, shelf / "model")
    with closed(shelf / where):
        for command in (
            ("continue", "song.wav", "--model", shelf / "model"),
            ("quantize", shelf / "model", "q"),
            ("serve", "--models", shelf / "model", "--state-dir", tmp_path / "state"),
        ):
            line = refused(*command)
            assert str(shelf) in line
            assert "cannot be re" in line  # read, or reached
    assert not (tmp_path / "q").exists()


def test_the_doctor_names_what_is_closed(home):
    with closed(home):
        code, out, err = segue("doctor", "--no-self-test")
    assert (code, err) == (1, "")
    assert f"checkpoints: {home} cannot be written to; mend its permissions" in out
    assert "the cache of models cannot be read (Permission denied)" in out


def test_a_prompt_in_a_closed_folder_is_one_line(tmp_path, toy):
    folder = tmp_path / "music"
    folder.mkdir()
    shutil.move("song.wav", folder)
    with closed(folder):
        line = refused("continue", folder / "song.wav", "--model", toy)
    assert f"{folder}/song.wav: " in line
    assert "Permission denied" in line


def test_an_output_in_a_closed_folder_is_refused_before_the_work(tmp_path, toy):
    folder = tmp_path / "music"
    folder.mkdir()
    os.link("song.wav", folder / "old.wav")
    folder.chmod(0o555)
    for name in ("old.wav", "new.wav"):
        line = refused("continue", "song.wav", "--model", toy, "-o", folder / name)
        assert f"the folder {folder} cannot be written to (Permission denied)" in line
    assert [path.name for path in folder.iterdir()] == ["old.wav"]


def test_the_service_offers_what_it_can_read(home, toy, tmp_path):
    closed_one = cached(home, "facebook/musicgen-small", toy)
    shelf = tmp_path / "shelf"
    for name in ("mine", "theirs"):
        shutil.copytree(toy, shelf / name)
    code = (
        "import json, sys; from pathlib import Path\n"
        "from segue.service.jobs.models import ModelList\n"
        "print(json.dumps({m.path: m.missing for m in ModelList([Path(sys.argv[1])]).all()}))"
    )
    with closed(shelf / "theirs"), closed(closed_one):
        done = subprocess.run(
            [*bound(), sys.executable, "-c", code, str(shelf)], capture_output=True, text=True
        )
    offered = json.loads(done.stdout)
    assert offered["local/mine"] == []
    assert "local/theirs" not in offered
    assert offered["facebook/musicgen-small"][0].startswith("permission to read")
