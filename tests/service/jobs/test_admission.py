"""What is accepted can be generated: all that numbers decide is decided before a job is queued."""

import json
from contextlib import ExitStack

import pytest

from segue.admission import MAX_SEED
from segue.service.exceptions import BusyError
from segue.service.http.views import join_seconds
from segue.service.jobs.admission import Admission, Load
from segue.service.jobs.rows import Input, Job
from segue.service.jobs.spec import RANDOM_SEEDS, JobSpec
from segue.service.settings import Limits, Settings
from tests.service.server import encoded, song

RATE = 44_100
SONG = encoded(song(8.0))

# --- Seeds ----------------------------------------------------------------------------------------


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
def test_any_seed_of_the_plugin_s_box_starts_a_run_and_is_in_the_response(server, sent, used):
    answer = server.post("/api/juce/process_audio", audio_data=SONG, seed=sent)
    assert answer.status_code == 200, answer.text
    begun = answer.json()
    again = server.post("/api/juce/retry_music", session_id=begun["session_id"], seed=sent).json()
    for said in (begun, again):
        assert said["seed"] == used or (used is None and 0 <= said["seed"] < RANDOM_SEEDS)
        assert server.poll(said["session_id"])["generation_seed"] == str(said["seed"])
        server.delete(f"/api/jobs/{said['session_id']}")


def test_every_route_that_starts_a_job_returns_its_seed(server):
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


# --- Room -----------------------------------------------------------------------------------------


def admission(tmp_path, queued=0, audio_bytes=0):
    settings = Settings(tmp_path, max_disk_bytes=1000, limits=Limits(waiting=3))
    return Admission(settings, lambda: Load(queued, audio_bytes, 5.0))


def test_requests_that_arrive_together_do_not_overfill_the_queue(tmp_path):
    admission_ = admission(tmp_path, queued=1)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(admission_.reserve())
        with pytest.raises(BusyError, match="3 requests are waiting already") as busy:
            stack.enter_context(admission_.reserve())
        assert busy.value.seconds == 5.0
    with admission_.reserve():  # those that were refused or queued meanwhile hold nothing
        pass


def test_audio_that_arrives_together_does_not_fill_the_disk(tmp_path):
    admission_ = admission(tmp_path, audio_bytes=400)
    with admission_.reserve() as first, admission_.reserve() as second:
        first.hold(500)
        with pytest.raises(BusyError, match="no room for more audio"):
            second.hold(101)
        second.hold(100)


def test_a_job_that_is_queued_does_not_count_twice(tmp_path):
    admission_ = admission(tmp_path)
    with admission_.reserve() as room:
        room.hold(1000)
        admission_.release(room)
        with admission_.reserve() as other:
            other.hold(1000)


# --- The join -------------------------------------------------------------------------------------


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


def test_join_seconds_is_null_where_it_is_unknown():
    spec = JobSpec("native", "built-in", start=9.0)
    job = Job(1, "a", "failed", "b", spec, 1, 0, 0, 0, None, "no")
    assert join_seconds(job, None) is None
    assert join_seconds(job, Input("b", RATE, 1, RATE, 0)) is None


def _format(lines):
    at = lines.index("event: format")
    return json.loads(lines[at + 1].removeprefix("data: "))
