"""A day with the plugin: list, pre-download, process, continue, retry; and its rule for polls."""

import itertools

import pytest

from tests.fake_hub import FakeHub

from .gary import STALL_POLLS, WARMING_WORDS, Gary, GaveUpError, HangsError
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
    shown = gary.models()
    assert shown[MODEL] == "vanya_ai_dnb_0.1"
    assert shown["thepatch/bleeps-large-20"] == "bleeps-large-20 (epoch 20)"
    # The only one of its family here.
    assert shown["thepatch/keygen-gary-medium-12"] == "keygen-gary-medium-12 (epoch 12)"


def test_a_model_is_fetched_ahead_of_time(gary, hub):
    assert not gary.is_downloaded("thepatch/hoenn_lofi")
    hub.pace_s = 0.01
    seen = gary.predownload("thepatch/hoenn_lofi")
    hub.pace_s = 0.0
    assert seen == sorted(seen)
    assert seen[-1] == 100
    assert any(0 < percent < 100 for percent in seen)
    assert gary.is_downloaded("thepatch/hoenn_lofi")


@pytest.mark.slow
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
    drawn = int(gary.seed)
    assert 0 <= drawn < 100_000

    longer, _, _ = decoded(gary.resume(encoded(first)))
    assert longer.shape == (54 * RATE, 2)
    assert (longer[: 30 * RATE] == first).all()

    again, _, _ = decoded(gary.retry())
    assert int(gary.seed) != drawn
    assert again.shape == longer.shape
    assert (again[: 30 * RATE] == first).all()
    assert not (again[30 * RATE :] == longer[30 * RATE :]).all()


def test_what_goes_wrong_is_reported_and_not_waited_for(gary):
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


def test_a_failed_download_ahead_of_time_is_reported_with_its_reason(gary):
    with pytest.raises(GaveUpError, match="has no repository facebook/musicgen-medium"):
        gary.predownload("facebook/musicgen-medium")


# --- The plugin's rule, on what a service may answer ----------------------------------------------


class Scripted(Gary):
    """The plugin, with a service that answers what it is told to; the last answer for ever."""

    def __init__(self, *polls, most=1_000):
        super().__init__(pace=0, polls=most)
        self.answers = itertools.chain(polls, itertools.repeat(polls[-1]))

    def _get(self, path):
        return next(self.answers)


GOES_ON = {"success": True, "status": "processing", "generation_in_progress": True, "progress": 0}
DONE = {"success": True, "status": "completed", "generation_in_progress": False, "audio_data": "A"}


@pytest.mark.parametrize("word", WARMING_WORDS)
def test_a_poll_that_fails_with_one_of_its_words_is_polled_again_for_ever(word):
    said = {"success": False, "error": f"Something about {word.upper()}s"}
    with pytest.raises(HangsError):
        Scripted(said).poll()
    # Nor does the stall timer run meanwhile.
    silent = [GOES_ON] * (STALL_POLLS - 1)
    assert Scripted(*silent, said, *silent, said, *silent, DONE).poll() == "A"


def test_a_poll_that_fails_with_any_other_error_ends_the_run():
    with pytest.raises(GaveUpError, match=r"^processing failed: no such thing$"):
        Scripted({"success": False, "error": " no such thing "}).poll()
    with pytest.raises(GaveUpError, match=r"^processing failed$"):
        Scripted({"success": False, "error": None}).poll()


def test_a_run_that_neither_moves_nor_reports_why_is_given_up():
    with pytest.raises(GaveUpError, match="timed out"):
        Scripted(GOES_ON).poll()
    moves = [GOES_ON | {"progress": str(n)} for n in range(1, 100) for _ in range(STALL_POLLS)]
    assert Scripted(*moves, DONE, most=10_000).poll() == "A"
    for queue in ({"status": "warming"}, {"status": "queued", "position": 1}):
        waits = GOES_ON | {"queue_status": queue | {"estimated_seconds": 9}}
        with pytest.raises(HangsError):
            Scripted(waits).poll()


@pytest.mark.parametrize(
    ("poll", "shown"),
    [
        (
            {"status": "failed", "error": "the disk is full"},
            "^generation failed: the disk is full$",
        ),
        ({"status": "failed", "error": "download it again"}, "^generation failed: download it"),
        ({"status": "failed"}, "^generation failed$"),
        ({"status": "unknown", "error": "send it again"}, "^processing failed: unknown$"),
        ({"status": "completed"}, "^generation completed but no audio received$"),
        ({}, "^processing failed: missing terminal status$"),
    ],
)
def test_what_ends_without_audio_is_reported(poll, shown):
    with pytest.raises(GaveUpError, match=shown):
        Scripted({"success": True, "generation_in_progress": False} | poll).poll()
