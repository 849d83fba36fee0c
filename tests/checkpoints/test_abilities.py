"""What a model takes and makes, from the catalogue and from its files."""

import json
import shutil

import pytest

from segue.checkpoints.abilities import Abilities, abilities_of, known_abilities
from segue.checkpoints.catalogue import CATALOGUE
from segue.cli import main
from segue.demo.toy import MELODY_CONFIG, write_checkpoint
from segue.service.jobs.models import ModelList


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_the_catalogue_knows_what_its_families_take_and_make():
    assert known_abilities("facebook/musicgen-small") == Abilities()
    assert known_abilities("thepatch/gary-grunge-large-stereo-12") == Abilities(channels=2)
    assert known_abilities("facebook/audiogen-medium") == Abilities(sample_rate=16_000)
    melody = known_abilities("facebook/musicgen-stereo-melody")
    assert melody == Abilities(channels=2, melody=True)
    assert melody.takes == ("prompt", "text", "melody")
    assert known_abilities("someone/else") is None


def test_a_melody_model_is_smaller_by_its_cross_attention():
    """32 layers of 4 · dim² fewer weights than MusicGen's of the same shape."""
    melody, plain = CATALOGUE["melody medium"], CATALOGUE["medium"]
    less = plain.approximate_bytes(plain.base) - melody.approximate_bytes(melody.base)
    assert less == 4 * 4 * melody.dim**2 * melody.num_layers


def test_the_files_of_any_other_say_it(tmp_path, toy, toy_stereo):
    folder = write_checkpoint(tmp_path / "melody", config=MELODY_CONFIG)
    assert abilities_of(str(folder)) == Abilities(melody=True)
    assert abilities_of(str(toy)) == Abilities()
    assert abilities_of(str(toy_stereo)) == Abilities(channels=2)


def test_what_cannot_be_opened_is_taken_for_musicgen(tmp_path, toy):
    assert abilities_of("someone/not-here") == Abilities()
    folder = tmp_path / "odd"
    shutil.copytree(toy, folder)
    (folder / "config.json").write_text("{")
    assert abilities_of(str(folder)) == Abilities()


def test_a_model_that_is_replaced_is_looked_at_again(tmp_path, toy):
    folder = tmp_path / "mine"
    shutil.copytree(toy, folder)
    assert ModelList([folder]).find("local/mine").abilities == Abilities()
    shutil.rmtree(folder)
    write_checkpoint(folder, config=MELODY_CONFIG)
    assert ModelList([folder]).find("local/mine").abilities == Abilities(melody=True)


def test_segue_models_says_what_models_take(tmp_path, capsys):
    snapshot = tmp_path / "hf" / "hub" / "models--someone--tunes" / "snapshots" / ("0" * 40)
    write_checkpoint(snapshot, config=MELODY_CONFIG)
    assert main(["models", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    here = {model["name"]: model["takes"] for model in report["here"]}
    assert here == {"built-in": ["prompt", "text"], "someone/tunes": ["prompt", "text", "melody"]}
    absent = {model["name"]: model["takes"] for model in report["to_be_had"]}
    assert absent["facebook/musicgen-melody-large"] == ["prompt", "text", "melody"]
    assert absent["facebook/audiogen-medium"] == ["prompt", "text"]
    assert main(["models"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["someone/tunes", "melody"] in [line[:2] for line in lines]
    assert ["facebook/musicgen-melody", "melody", "medium"] in [line[:3] for line in lines]
    assert " ".join(lines[-1]).startswith("All take a prompt and a text; those of the kind melody")
