"""The worker that plays: how its tasks end."""

from threading import Event

import pytest
import soundfile

from segue.engine.mlx import MLXEngine
from segue.service.workers import __main__
from segue.service.workers.generate import Player
from tests.broken import broken
from tests.service.server import song


class EndOfTasks(Exception):  # noqa: N818 - no error
    """There is no other task."""


class Line:
    """What stands for the line to the server: gives one task, keeps what is told."""

    def __init__(self, task):
        self.tasks, self.told, self.listening = [task], [], Event()
        self.listening.set()

    def next_task(self):
        if not self.tasks:
            raise EndOfTasks
        return self.tasks.pop()

    def tell(self, **news):
        self.told.append(news)

    def check(self):
        pass


@pytest.fixture
def outcome(tmp_path, capsys):
    """What the worker tells of a task at its end, and what it logs."""

    def run(model, recipe=None, **request):
        soundfile.write(tmp_path / "input.wav", song(2.0), 32_000, "PCM_16")
        task = {
            "kind": "play",
            "source": model,
            "base": None,
            "quantization": "none" if recipe is None else "q8",
            "recipe": recipe,
            "demanded": False,
            "input": str(tmp_path / "input.wav"),
            "folder": str(tmp_path / "takes"),
            "request": {
                "start": None,
                "prompt_seconds": 1.0,
                "output_seconds": 4.0,
                "text": "",
                "top_k": 250,
                "temperature": 1.0,
                "guidance_coef": 3.0,
                "seed": 1,
                "variations": 1,
            }
            | request,
        }
        settings = {"engine": "mlx", "threads": None, "variants": str(tmp_path / "variants")}
        player = Player(settings | {"max_variants_bytes": 1 << 30, "max_loaded_bytes": 1 << 30})
        line = Line(task)
        with pytest.raises(EndOfTasks):
            __main__.serve({"play": player.play}, line)
        return line.told[-1], capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("decoder.lm_heads.0.weight", None),
        ("audio_encoder.decoder.layers.0.conv.bias", None),
        (
            "decoder.model.decoder.layers.0.fc1.weight",
            {"scope": "decoder-linears", "bits": 8, "group_size": 64, "mode": "affine"},
        ),
    ],
)
def test_a_model_that_overflows_ends_with_its_line_and_leaves_nothing(
    outcome, toy, tmp_path, name, recipe
):
    told, logged = outcome(broken(toy, tmp_path / "broken", name), recipe)
    assert told["error"].startswith("the model overflows, its ")
    assert told["fault"] is False
    assert logged == ""
    assert not list(tmp_path.glob("takes/*"))
    assert not list(tmp_path.glob("variants/*"))


def test_a_preview_that_overflows_ends_with_its_line(outcome, toy, monkeypatch):
    original, windows = MLXEngine.decode, []

    def decode(self, codes):
        windows.append(codes.shape)
        if len(windows) == 2:
            monkeypatch.setattr(self._codec, "decode", lambda codes: codes * float("nan"))
        return original(self, codes)

    monkeypatch.setattr(MLXEngine, "decode", decode)
    told, logged = outcome(str(toy))
    assert told["error"].startswith("the model overflows, its samples are no numbers")
    assert logged == ""
    assert len(windows) == 2
