"""The models that may be asked for."""

import pytest

from segue.demo.toy import write_checkpoint
from segue.service.exceptions import UnknownModelError
from segue.service.jobs.models import ListedModel, ModelList, grouped


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def entry(path, size="small"):
    return ListedModel(path, path.rpartition("/")[2], size, path, None, ())


def test_checkpoints_of_a_family_are_grouped_by_owner_and_size():
    models = [entry("a/x-10"), entry("a/x-2"), entry("b/x-3"), entry("a/x-4", "large")]
    listed = grouped(models)
    assert listed["small"] == [
        {
            "name": "x",
            "type": "group",
            "checkpoints": [
                {"name": "x-2", "path": "a/x-2", "epoch": 2},
                {"name": "x-10", "path": "a/x-10", "epoch": 10},
            ],
        },
        {
            "name": "x",
            "type": "group",
            "checkpoints": [{"name": "x-3", "path": "b/x-3", "epoch": 3}],
        },
    ]
    # A lone one, too: the plugin shows epochs of groups alone.
    assert listed["large"] == [
        {
            "name": "x",
            "type": "group",
            "checkpoints": [{"name": "x-4", "path": "a/x-4", "epoch": 4}],
        }
    ]
    assert listed["medium"] == []


def test_a_family_without_epochs_is_a_single():
    names = ("a/x", "a/x_0.1", "a/x-v2", "thepatch/bleeps-medium")
    assert [model["type"] for model in grouped(map(entry, names))["small"]] == ["single"] * 4


def test_the_owner_s_folders_are_offered_by_name_and_never_by_path(tmp_path):
    write_checkpoint(tmp_path / "mine" / "my-model")
    (tmp_path / "mine" / "no-model").mkdir()
    models = ModelList([tmp_path / "mine", tmp_path / "not-plugged-in"])
    model = models.find("local/my-model")
    assert model.source == str(tmp_path / "mine" / "my-model")
    assert model.size == "small"
    assert models.find("my-model") == model
    assert str(tmp_path) not in str(grouped(models.all()))
    for name in (model.source, "local/no-model", "local/../mine/my-model", "mine/my-model"):
        with pytest.raises(UnknownModelError):
            models.find(name)


def test_a_default_description_goes_with_its_model():
    models = ModelList()
    assert models.find("thepatch/gary_orchestra_2").description.startswith("violin")
    assert models.find("built-in").description == ""


def test_what_is_in_the_cache_is_offered_though_no_catalogue_knows_it(tmp_path):
    snapshot = tmp_path / "hf" / "hub" / "models--someone--her-model" / "snapshots" / ("0" * 40)
    write_checkpoint(snapshot)
    model = ModelList().find("someone/her-model")
    assert (model.size, model.missing) == ("small", ())
