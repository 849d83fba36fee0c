"""A day with the plugin: list, pre-download, process, continue, retry."""

import pytest

from tests.fake_hub import FakeHub

from .gary import Gary, GaveUpError
from .server import Server, decoded, encoded, song

MODEL = "thepatch/vanya_ai_dnb_0.1"
RATE = 44_100


@pytest.fixture(scope="module")
def hub(toy):
    """A hub on which the plugin's usual model is a toy."""
    with FakeHub() as hub:
        files = {path.name: path.read_bytes() for path in toy.iterdir()}
        hub.add(MODEL, files)
        hub.add("thepatch/hoenn_lofi", files)
        yield hub


@pytest.fixture(scope="module")
def gary(hub, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gary")
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    with Server(folder / "state", environment=environment) as server:
        yield Gary(server.url, pace=0.1)


def test_the_lamp_is_green(gary):
    assert gary.connected()


def test_the_menus_are_filled(gary):
    paths = gary.models()
    assert MODEL in paths
    assert "thepatch/bleeps-large-20" in paths
    assert len(paths) == len(set(paths))


def test_a_model_is_fetched_ahead_of_time(gary, hub):
    assert not gary.is_downloaded("thepatch/hoenn_lofi")
    hub.pace_s = 0.01
    seen = gary.predownload("thepatch/hoenn_lofi")
    hub.pace_s = 0.0
    assert seen == sorted(seen)
    assert seen[-1] == 100
    assert any(0 < percent < 100 for percent in seen)
    assert gary.is_downloaded("thepatch/hoenn_lofi")


def test_music_is_made_continued_and_made_again(gary, hub):
    recorded = song(8.0)
    gary.shown.clear()
    hub.pace_s = 0.02
    first, rate, subtype = decoded(gary.process(encoded(recorded)))
    hub.pace_s = 0.0
    assert (first.shape, rate, subtype) == ((30 * RATE, 2), RATE, "PCM_16")
    assert (first[: 6 * RATE] == recorded[: 6 * RATE]).all()
    # The model was not here: the download and the load were waited for.
    assert any(MODEL in line and "MB" in line for line in gary.shown)
    assert any(line.endswith(" %") for line in gary.shown)
    assert gary.shown[-1] == "done"

    longer, _, _ = decoded(gary.resume(encoded(first)))
    assert longer.shape == (54 * RATE, 2)
    assert (longer[: 30 * RATE] == first).all()

    again, _, _ = decoded(gary.retry())
    assert again.shape == longer.shape
    assert (again[: 30 * RATE] == first).all()
    assert not (again[30 * RATE :] == longer[30 * RATE :]).all()


def test_what_goes_wrong_is_said_and_is_not_waited_for(gary):
    with pytest.raises(GaveUpError, match="the audio cannot be read"):
        gary.process("AAAA")
    with pytest.raises(GaveUpError, match="there is no model"):
        gary.process(encoded(song(1)), model_name="nobody/nothing")
    # In the catalogue, but not on this hub.
    with pytest.raises(GaveUpError, match="has no repository facebook/musicgen-large"):
        gary.process(encoded(song(1)), model_name="facebook/musicgen-large")
    gary.session = "long-gone"
    with pytest.raises(GaveUpError, match="send the audio again"):
        gary.retry()
