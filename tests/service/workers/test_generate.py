"""How generating ends where the model overflows."""

import pytest
import soundfile

from segue.checkpoints.recipe import Recipe
from segue.engine.mlx import MLXEngine
from segue.errors import ModelOverflowError
from segue.service.jobs.spec import JobSpec
from segue.service.quantization import NONE, Quantization
from segue.service.workers.generate import Generator
from segue.service.workers.task_loop import outcome_of
from tests.broken import broken
from tests.service.server import song

from .channels import recorded


@pytest.fixture
def outcome(tmp_path, capsys):
    """The message that ends a task, and what the worker logs."""

    def run(model, recipe=None, **request):
        soundfile.write(tmp_path / "input.wav", song(2.0), 32_000, "PCM_16")
        quantization = NONE if recipe is None else Quantization("q8", recipe)
        options = {"start": None, "prompt_seconds": 1.0, "output_seconds": 4.0, "seed": 1}
        spec = JobSpec("native", model, quantization, **(options | request))
        task = {
            "source": model,
            "base": None,
            "spec": spec.to_json(),
            "input": str(tmp_path / "input.wav"),
            "folder": str(tmp_path / "takes"),
        }
        settings = {
            "engine": "mlx",
            "threads": None,
            "quantized_folder": str(tmp_path / "variants"),
            "max_quantized_bytes": 1 << 30,
            "max_loaded_bytes": 1 << 30,
        }
        channel = recorded()
        channel.listening.set()
        ended = outcome_of(Generator(settings).generate, task, channel)
        return ended, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("decoder.lm_heads.0.weight", None),
        ("audio_encoder.decoder.layers.0.conv.bias", None),
        (
            "decoder.model.decoder.layers.0.fc1.weight",
            Recipe("decoder-linears", 8),
        ),
    ],
)
def test_a_model_that_overflows_ends_with_its_line_and_leaves_nothing(
    outcome, toy, tmp_path, name, recipe
):
    ended, logged = outcome(broken(toy, tmp_path / "broken", name), recipe)
    assert ended["error"].startswith("the model overflows, its ")
    assert ended["fault"] is False
    assert logged == ""
    assert not list(tmp_path.glob("takes/*"))
    assert not list(tmp_path.glob("variants/*"))


def test_a_preview_that_overflows_ends_with_its_line(outcome, toy, monkeypatch):
    decode, windows = MLXEngine.decode, []

    def overflowing(self, codes):
        windows.append(codes.shape)
        if len(windows) == 2:
            raise ModelOverflowError("samples", fixed=True)
        return decode(self, codes)

    monkeypatch.setattr(MLXEngine, "decode", overflowing)
    ended, logged = outcome(str(toy))
    assert ended["error"].startswith("the model overflows, its samples are no numbers")
    assert logged == ""
    assert len(windows) == 2


def test_the_memory_that_mlx_has_taken_is_said(outcome, toy):
    ended, _ = outcome(str(toy))
    assert ended["finished"]["memory"] > toy.joinpath("model.safetensors").stat().st_size // 4
