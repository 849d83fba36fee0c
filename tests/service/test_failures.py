"""Whatever fails, the plugin ends and shows the reason: one service, every way to fail."""

import os
import resource
import shutil
import signal
import sys
from contextlib import suppress

import pytest

from segue.service.jobs.rows import FAILED, Input
from segue.service.jobs.spec import JobSpec
from segue.service.jobs.store import Store
from tests.broken import broken
from tests.fake_hub import FakeHub

from .gary import WARMING_WORDS, Gary, GaveUpError
from .server import Server, encoded, song

AUDIO = encoded(song(1.5))
WEIGHTS = "model.safetensors"
LINES = [
    *(f"it failed; the line speaks of {word}" for word in WARMING_WORDS),
    "the model makes numbers that are none (NaN): this checkpoint is damaged",
    "the model makes numbers that are none (NaN); download this checkpoint again",
]
"""As workers may say: with a word that the plugin takes for a wait, and without."""

GATED, FORBIDDEN, ABSENT, BUSY, DOWN, CUT, LARGE = (
    "thepatch/keygen-gary-v2-small-8",
    "thepatch/keygen-gary-v2-small-12",
    "thepatch/keygen-gary-medium-12",
    "thepatch/bleeps-large-6",
    "thepatch/bleeps-large-8",
    "thepatch/bleeps-large-10",
    "thepatch/bleeps-large-14",
)
REASONS = {
    "gated, 401": (GATED, f"{GATED} is gated: accept its terms"),
    "forbidden, 403": (FORBIDDEN, r"does not show it \(403\)"),
    "no such repository, 404": (ABSENT, f"has no repository {ABSENT}"),
    "too many requests, 429": (BUSY, f"answered 429 Too Many Requests for {BUSY}; try later"),
    "hub is down, 503": (DOWN, f"answered 503 Service Unavailable for {DOWN}; try later"),
    "ends before its end": (CUT, f"{CUT}: what .* sent as {WEIGHTS} is not what it announced"),
    "does not fit on the disk": (LARGE, f"{LARGE} needs 1000000.0 GB more, .*; make room"),
}


@pytest.fixture(scope="module")
def hub(toy):
    with FakeHub() as hub:
        files = {path.name: path.read_bytes() for path in toy.iterdir()}
        for model in (FORBIDDEN, BUSY, DOWN):
            hub.add(model, files)
        hub.add(GATED, files, gated=True)
        hub.add(CUT, files, announced={WEIGHTS: len(files[WEIGHTS]) + 100})
        hub.add(LARGE, files, announced={WEIGHTS: 10**15})
        hub.answer(WEIGHTS, 403)
        hub.refuse(BUSY, 429)
        hub.refuse(DOWN, 503)
        yield hub


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A state folder in which jobs have ended: the sessions, by what they ended with."""
    folder = tmp_path_factory.mktemp("failures")
    store = Store(folder / "state")
    sessions = {}
    spec = JobSpec("process", "built-in", seed=1)
    for line in LINES:
        name, path = store.new_input()
        path.touch()
        sessions[line] = store.add(spec, Input(name, 44_100, 2, 44_100, 0)).id
        store.end(sessions[line], FAILED, line)
    store.close()
    return folder, sessions


@pytest.fixture(scope="module")
def failing(hub, toy, ended):
    folder, _ = ended
    cut_off = folder / "models" / "cut-off"
    shutil.copytree(toy, cut_off)
    with (cut_off / WEIGHTS).open("r+b") as file:
        file.truncate(10_000)
    broken(toy, folder / "models" / "not-numbers", "decoder.model.decoder.layer_norm.weight")
    options = ("--models", str(folder / "models"), "--models", str(toy), "--threads", "1")
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    with Server(folder / "state", *options, environment=environment) as server:
        yield server


@pytest.fixture
def gary(failing, toy):
    # Where a run would never end, a test fails after half a minute.
    return Gary(failing.url, pace=0.05, polls=600, model=f"local/{toy.name}")


@pytest.mark.parametrize("reason", REASONS)
def test_a_model_that_does_not_come_ends_the_run_and_says_why(gary, reason):
    gary.model, said = REASONS[reason]
    with pytest.raises(GaveUpError, match=f"^generation failed: .*{said}"):
        gary.process(AUDIO)


def test_a_hub_out_of_reach_ends_the_run_and_says_why(gary, hub):
    hub.unplugged = True
    with pytest.raises(GaveUpError, match=r"^generation failed: cannot reach .*not in the cache"):
        gary.process(AUDIO, model_name="thepatch/bleeps-large-20")
    with pytest.raises(GaveUpError, match=r"^cannot reach .* is not in the cache"):
        gary.predownload("thepatch/bleeps-large-20")
    hub.unplugged = False


def test_a_service_that_is_told_to_stay_offline_says_so(server):
    gary = Gary(server.url, pace=0.05, polls=600)
    with pytest.raises(GaveUpError, match=r"^generation failed: HF_HUB_OFFLINE is set"):
        gary.process(AUDIO)


def test_a_damaged_model_ends_the_run_though_its_line_speaks_of_a_download(gary):
    with pytest.raises(GaveUpError, match=r"^generation failed: .*download it again"):
        gary.process(AUDIO, model_name="local/cut-off")


def test_a_model_whose_numbers_are_none_ends_the_run_and_says_so(gary):
    with pytest.raises(GaveUpError, match=r"^generation failed: the model overflows, its logits"):
        gary.process(AUDIO, model_name="local/not-numbers")


@pytest.mark.parametrize("line", LINES)
def test_a_worker_s_own_line_is_shown_whatever_its_words(gary, ended, line):
    gary.session = ended[1][line]
    with pytest.raises(GaveUpError) as gave_up:
        gary.poll()
    assert str(gave_up.value) == f"generation failed: {line}"


def test_a_killed_worker_ends_the_run_and_says_why(gary, failing):
    def kill(poll):
        if int(poll["progress"]) > 2:
            for worker in failing.workers():
                with suppress(ProcessLookupError):  # the last poll's signal was enough
                    os.kill(worker, signal.SIGKILL)

    gary.watch = kill
    with pytest.raises(GaveUpError, match=r"^generation failed: .*ran out of memory"):
        gary.process(AUDIO)


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_a_full_disk_ends_the_run_and_says_why(gary, failing):
    def fill(poll):
        for worker in failing.workers():  # as where a quota is spent
            _, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (1024, hard))

    gary.watch = fill
    with pytest.raises(GaveUpError, match=r"^generation failed: the disk of this computer is full"):
        gary.process(AUDIO)
    for worker in failing.workers():
        os.kill(worker, signal.SIGKILL)


def test_a_cancelled_run_and_an_unknown_session_end_too(gary, failing):
    def cancel(poll):
        if poll["generation_in_progress"]:
            failing.delete(f"/api/jobs/{gary.session}")

    gary.watch = cancel
    with pytest.raises(GaveUpError, match=r"^generation failed: the music was cancelled"):
        gary.process(AUDIO)
    gary.session = "long-gone"
    with pytest.raises(GaveUpError, match=r"^processing failed: unknown"):
        gary.poll()


def test_a_poll_that_is_refused_does_not_sound_like_a_wait(failing):
    poll = "/api/juce/poll_status/any"
    refused = [
        failing.get(poll, headers={"Host": "example.org"}),
        failing.post(poll),
        failing.get(f"{poll}/more"),
    ]
    for answer in refused:
        assert (answer.status_code >= 400, answer.json()["success"]) == (True, False)
        assert not any(word in answer.json()["error"].lower() for word in WARMING_WORDS)
