"""What a worker writes where the disk is full."""

from dataclasses import asdict

import numpy as np
import pytest
import soundfile

from segue.audio import Audio
from segue.checkpoints.recipe import Recipe
from segue.progress import SILENT
from segue.service.settings import Limits
from segue.service.workers.decode_audio import AudioDecoder
from segue.service.workers.generate import write_take
from segue.service.workers.quantized_cache import QuantizedCache
from segue.service.workers.task_loop import NO_DISK, outcome_of
from tests.disks import fill, small_disk

from .channels import recorded


@pytest.fixture
def upload(tmp_path):
    path = tmp_path / "upload"
    samples = np.random.default_rng(0).normal(0, 0.1, (44_100, 2))
    soundfile.write(path, samples, 44_100, "PCM_16", format="WAV")
    return path


@pytest.mark.parametrize("room", [0, 50_000, 172_032])
def test_a_full_disk_is_no_fault_of_the_upload(upload, tmp_path, room, monkeypatch):
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)  # it is of the whole process
    decoder = AudioDecoder(asdict(Limits()))
    with small_disk(tmp_path / "disk") as disk:
        fill(disk, leave=room)
        task = {"path": str(upload), "to": str(disk / "a.wav")}
        assert outcome_of(decoder.decode, task, recorded()) == {"error": NO_DISK, "fault": True}
        assert [path.name for path in disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("room", [0, 50_000, 172_032])
def test_a_take_is_written_whole_or_not_at_all(tmp_path, room):
    take = Audio(np.random.default_rng(0).normal(0, 0.1, (44_100, 2)), 44_100)
    with small_disk(tmp_path / "disk") as disk:
        fill(disk, leave=room)
        path = disk / "take-1.wav"
        ended = outcome_of(lambda *_: {"bytes": write_take(path, take)}, {}, recorded())
        assert ended == {"error": NO_DISK, "fault": True}
        assert [path.name for path in disk.iterdir()] == ["filler"]
        (disk / "filler").unlink()
        write_take(path, take)
        assert soundfile.info(path).frames == 44_100
        assert [path.name for path in disk.iterdir()] == ["take-1.wav"]


def test_a_quantized_model_that_cannot_be_saved_is_made_in_memory(toy, tmp_path, capsys):
    with small_disk(tmp_path / "disk") as disk:
        fill(disk)
        cache = QuantizedCache(disk / "variants", 1 << 30)
        assert cache.find_or_make(str(toy), None, Recipe(), SILENT) is None
        assert "is not kept" in capsys.readouterr().err
        assert list((disk / "variants").iterdir()) == []
