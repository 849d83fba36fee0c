"""What the service's workers write where the disk is full, or is not theirs."""

import errno
import threading
from dataclasses import asdict

import numpy as np
import pytest
import soundfile

from segue.audio import Audio
from segue.checkpoints.recipe import Recipe
from segue.progress import SILENT
from segue.service.settings import Limits
from segue.service.workers import __main__, generate
from segue.service.workers.__main__ import NO_DISK
from segue.service.workers.decode_audio import Reader
from segue.service.workers.quantized_cache import Variants

from ..disks import fill, small_disk


class Line:
    """A line to a server that does not mind."""

    listening = threading.Event()

    def tell(self, **news):
        pass

    def check(self):
        pass


@pytest.fixture
def upload(tmp_path):
    path = tmp_path / "upload"
    samples = np.random.default_rng(0).normal(0, 0.1, (44_100, 2))
    soundfile.write(path, samples, 44_100, "PCM_16", format="WAV")
    return path


def outcome(task):
    """What a worker answers to a task."""
    asked = [{"kind": "task"}]

    said = []

    class Once:
        def next_task(self):
            if not asked:
                raise EOFError
            return asked.pop()

        def tell(self, **news):
            said.append(news)

    with pytest.raises(EOFError):
        __main__.serve({"task": task}, Once())
    return said[-1]


@pytest.mark.parametrize("room", [0, 50_000, 172_032])
def test_a_full_disk_is_not_said_to_be_a_bad_upload(upload, tmp_path, room, monkeypatch):
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)  # the reader's own, of its process
    reader = Reader({"limits": asdict(Limits())})
    with small_disk(tmp_path / "disk") as disk:
        fill(disk, leave=room)
        task = {"path": str(upload), "to": str(disk / "a.wav")}
        said = outcome(lambda *_: reader(task, Line()))
        assert said == {"error": NO_DISK, "fault": True}
        assert [path.name for path in disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("room", [0, 50_000, 172_032])
def test_a_take_is_written_whole_or_not_at_all(tmp_path, room):
    take = Audio(np.random.default_rng(0).normal(0, 0.1, (44_100, 2)), 44_100)
    with small_disk(tmp_path / "disk") as disk:
        fill(disk, leave=room)
        said = outcome(lambda *_: generate._write(disk / "take-1.wav", take))
        assert said == {"error": NO_DISK, "fault": True}
        assert [path.name for path in disk.iterdir()] == ["filler"]
        (disk / "filler").unlink()
        generate._write(disk / "take-1.wav", take)
        assert soundfile.info(disk / "take-1.wav").frames == 44_100
        assert [path.name for path in disk.iterdir()] == ["take-1.wav"]


def test_a_quantized_model_that_cannot_be_kept_is_made_in_memory(toy, tmp_path, capsys):
    with small_disk(tmp_path / "disk") as disk:
        fill(disk)
        variants = Variants(disk / "variants", 1 << 30)
        assert variants.find_or_make(str(toy), None, Recipe(), SILENT) is None
        assert "is not kept" in capsys.readouterr().err
        assert list((disk / "variants").iterdir()) == []


def test_what_is_forbidden_is_not_said_to_be_a_full_disk():
    def forbidden(*_):
        raise PermissionError(errno.EACCES, "Permission denied", "/music/model/config.json")

    line = "segue may not use /music/model/config.json (Permission denied)"
    assert outcome(forbidden) == {"error": line, "fault": True}
