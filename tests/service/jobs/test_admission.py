"""What is accepted plays: all that numbers decide is decided before a job is accepted."""

import json

import numpy as np
import pytest
import soundfile

from segue import RequestError
from segue.admission import MAX_SEED
from segue.service.http.views import join_seconds
from segue.service.jobs.admission import DRAWN_SEEDS, cut, planned, seed_for
from segue.service.jobs.store import Input, Job
from segue.service.workers.generate import read_request
from tests.service.server import encoded, song

RATE = 44_100
SONG = encoded(song(8.0))
REQUEST = {
    "prompt_seconds": 1.013,
    "output_seconds": 3.0,
    "start": 0.0,
    "text": "",
    "top_k": 250,
    "temperature": 1.0,
    "guidance_coef": 3.0,
    "seed": 1,
    "variations": 1,
}


# --- Seeds ----------------------------------------------------------------------------------------


def test_drawn_seeds_can_be_read_off_and_typed():
    drawn = {seed_for(seed, 4, True) for seed in (None, -1, -2, -(10**20)) for _ in range(500)}
    assert 0 <= min(drawn) <= max(drawn) < DRAWN_SEEDS == 100_000
    assert len(drawn) > 1_900


@pytest.mark.parametrize(
    ("seed", "variations", "used"),
    [
        (0, 1, 0),
        (MAX_SEED, 1, MAX_SEED),
        (2**32, 1, 0),
        (99_999_999_999_999_999_999, 1, 99_999_999_999_999_999_999 % 2**32),
        (MAX_SEED, 2, MAX_SEED - 1),  # a native job of two takes, tried again by the plugin
    ],
)
def test_the_plugin_s_seeds_are_reduced_to_what_every_take_can_use(seed, variations, used):
    assert seed_for(seed, variations, True) == used
    assert seed_for(seed, variations, False) == seed


@pytest.mark.parametrize(
    ("sent", "used"),
    [
        (12345, 12345),
        ("4294967295", MAX_SEED),
        (18_446_744_073_709_551_615, MAX_SEED),
        ("18446744073709551615", MAX_SEED),
        ("99999999999999999999", 99_999_999_999_999_999_999 % 2**32),
        (-2, None),
        ("-18446744073709551615", None),
        (-1.0, None),
    ],
)
def test_any_seed_of_the_plugin_s_box_starts_a_run_and_the_answer_says_which(server, sent, used):
    answer = server.post("/api/juce/process_audio", audio_data=SONG, seed=sent)
    assert answer.status_code == 200, answer.text
    begun = answer.json()
    again = server.post("/api/juce/retry_music", session_id=begun["session_id"], seed=sent).json()
    for said in (begun, again):
        assert said["seed"] == used or (used is None and 0 <= said["seed"] < DRAWN_SEEDS)
        assert server.poll(said["session_id"])["generation_seed"] == str(said["seed"])
        server.delete(f"/api/jobs/{said['session_id']}")


def test_every_way_to_begin_says_its_seed(server):
    few = {"audio_data": SONG, "seed": 77}
    native = server.post("/api/jobs", **few).json()
    resumed = server.post("/api/juce/continue_music", **few).json()
    again = server.post(f"/api/jobs/{native['job_id']}/retry", seed=78).json()
    assert (native["seed"], resumed["seed"], again["seed"]) == (77, 77, 78)
    for begun in (native, resumed, again):
        server.delete(f"/api/jobs/{begun['session_id']}")


# --- Refused before anything is queued ------------------------------------------------------------


@pytest.fixture
def nothing_new(server):
    """Nothing is queued and nothing is kept of what was refused."""

    def kept():
        return sorted(path.name for path in (server.state / "inputs").iterdir())

    before = kept()
    yield
    assert kept() == before
    assert server.get("/health").json()["waiting"] == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"seed": MAX_SEED, "variations": 2}, "seeds lie between 0 and 4294967295"),
        ({"seed": MAX_SEED - 2, "variations": 4}, "seeds lie between 0 and 4294967295"),
        ({"prompt_seconds": 6, "output_seconds": 6.005}, "nothing to play: the prompt has 6 s"),
        ({"prompt_seconds": 0.04, "output_seconds": 0.045}, "nothing to play"),
        ({"prompt_start": 7.995, "prompt_seconds": 1}, "less than one frame"),
        ({"prompt_start": 8.0}, "the prompt cannot start at 8 s: the audio is 8 s long"),
        ({"audio_data": encoded(song(0.005))}, "the audio is too short: 0.00499 s"),
    ],
)
def test_a_job_that_could_only_fail_is_not_accepted(server, nothing_new, fields, said):
    answer = server.post("/api/jobs", **({"audio_data": SONG} | fields))
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize("route", ["process_audio", "continue_music"])
def test_a_session_that_could_only_fail_is_not_begun(server, nothing_new, route):
    short = encoded(song(0.005, 8_000, 1), 8_000)
    answer = server.post(f"/api/juce/{route}", audio_data=short)
    assert (answer.status_code, answer.json()["success"]) == (422, False)
    assert "the audio is too short" in answer.json()["error"]


def test_a_retry_that_could_only_fail_is_not_accepted(server):
    job = server.post("/api/jobs", audio_data=SONG, variations=2, seed=1).json()["job_id"]
    server.delete(f"/api/jobs/{job}")
    for fields, said in (
        ({"seed": MAX_SEED}, "seeds lie between"),  # the two takes are the earlier job's
        ({"prompt_start": 7.995}, "less than one frame"),
        ({"output_seconds": 6.005}, "nothing to play"),
    ):
        answer = server.post(f"/api/jobs/{job}/retry", **fields)
        assert answer.status_code == 422, answer.text
        assert said in answer.json()["error"]


# --- One arithmetic for both ends -----------------------------------------------------------------


@pytest.mark.parametrize("start", [None, 0.0, 0.5, 1.9871, 2.4])
@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100])
def test_the_worker_cuts_what_was_planned(tmp_path, start, rate):
    frames = round(2.5 * rate)
    soundfile.write(tmp_path / "in.wav", np.zeros((frames, 1)), rate)
    request = REQUEST | {"start": start}
    made = read_request(tmp_path / "in.wav", request)
    kept = cut(frames, rate, start, request["prompt_seconds"])
    assert len(made.audio.samples) == kept.frames
    assert (made.prompt_seconds, made.prompt_from) == (kept.prompt_seconds, kept.prompt_from)
    assert planned(request, frames, rate).join <= kept.frames


def test_a_prompt_behind_the_audio_is_refused_by_both(tmp_path):
    soundfile.write(tmp_path / "in.wav", np.zeros((RATE, 1)), RATE)
    for refused in (
        lambda request: planned(request, RATE, RATE),
        lambda request: read_request(tmp_path / "in.wav", request),
    ):
        with pytest.raises(RequestError, match=r"cannot start at 1.5 s: the audio is 1 s long"):
            refused(REQUEST | {"start": 1.5})


def test_join_seconds_is_one_number_before_and_after(server):
    for fields, expected in (
        ({}, 1.0),  # whole frames from the start
        ({"prompt_start": 7.5}, 8.0),  # half a second is left
    ):
        asked = {"audio_data": SONG, "prompt_seconds": 1.013, "output_seconds": 1.1, "seed": 1}
        job = server.post("/api/jobs", **asked, **fields).json()["job_id"]
        said = [server.get(f"/api/jobs/{job}").json()["join_seconds"]]
        with server.stream(f"/api/jobs/{job}/stream") as stream:
            lines = list(stream.iter_lines())
        said.append(_format(lines)["join_seconds"])
        said.append(server.get(f"/api/jobs/{job}").json()["join_seconds"])
        with server.stream(f"/api/jobs/{job}/stream") as stream:
            said.append(_format(list(stream.iter_lines()))["join_seconds"])
        assert said == [pytest.approx(expected, abs=1 / RATE)] * 4
        assert len(set(said)) == 1


def test_join_seconds_is_null_where_nobody_knows():
    job = Job(1, "a", "failed", "b", {"request": REQUEST | {"start": 9.0}}, 1, 0, 0, 0, None, "no")
    assert join_seconds(job, None) is None
    assert join_seconds(job, Input("b", RATE, 1, RATE, 0)) is None


def _format(lines):
    at = lines.index("event: format")
    return json.loads(lines[at + 1].removeprefix("data: "))
