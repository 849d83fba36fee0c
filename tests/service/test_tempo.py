"""Tempo and beats found by the service, where the tracker is."""

import base64

import pytest

from segue import beats
from segue.checkpoints.hub import built_in_folder
from tests.service.http.test_native import done

pytestmark = pytest.mark.skipif(
    not beats.available(), reason="no madmom-infer here: pip install 'segue[beats]'"
)


def prompt(name):
    return built_in_folder().parent / "prompts" / f"{name}.ogg"


@pytest.fixture(scope="module")
def rock(server):
    """An input whose tempo is known, of the score that it was rendered from."""
    data = base64.b64encode(prompt("rock").read_bytes()).decode()
    answer = server.post("/api/inputs", audio_data=data, file_name="rock.ogg")
    return answer.json()["input_id"]


@pytest.fixture(scope="module")
def found(server, rock):
    answer = server.get(f"/api/inputs/{rock}/beats")
    if answer.status_code == 422 and "networks" in answer.json()["error"]:
        pytest.skip(f"no networks of madmom-infer here: {answer.json()['error']}")
    return answer.json()


def test_the_tempo_of_an_input_is_found(server, rock, found):
    assert (found["bpm"], found["beats_per_bar"]) == (131, 4)
    assert found["downbeat_seconds"] == pytest.approx(1.2914, abs=0.01)
    first = found["beats"][found["counts"].index(1)]
    bar = 240 / 131
    assert (first - found["downbeat_seconds"] + bar / 2) % bar == pytest.approx(bar / 2, abs=0.05)
    assert len(found["beats"]) == len(found["counts"]) > 12


def test_a_job_finds_its_tempo_and_says_so(server, rock, found):
    answer = server.post(
        "/api/jobs", input={"input_id": rock}, bpm="auto", prompt_bars=1, bars=1, seed=1
    )
    assert answer.status_code == 202, answer.text
    state = done(server, answer.json()["job_id"])
    assert state["bars"]["bpm"] == 131
    assert state["parameters"]["downbeat"] == found["downbeat_seconds"]
    assert "found 131 BPM, 4 beats a bar, a bar at 1.29" in "".join(state["notes"])


def test_how_far_the_beats_of_a_take_lie_from_the_grid_is_kept_in_the_state(server, rock, found):
    fields = {"bpm": 131, "downbeat": found["downbeat_seconds"], "prompt_bars": 2, "bars": 2}
    answer = server.post("/api/jobs", input={"input_id": rock}, seed=1, **fields)
    state = done(server, answer.json()["job_id"])
    assert state["takes"][0]["beat_offsets"] is None
    answer = server.get(f"/api/jobs/{state['job_id']}/takes/1/beats")
    assert answer.status_code == 200, answer.text
    measured = answer.json()["beat_offsets"]
    state = server.get(f"/api/jobs/{state['job_id']}").json()
    assert state["takes"][0]["beat_offsets"] == measured
    if measured is not None:  # the toy plays noise
        assert 0 <= measured["median_ms"] <= measured["worst_ms"] <= 60_000 / 131 / 2 + 1


def test_a_downbeat_is_found_where_the_tempo_is_typed(server, rock, found):
    fields = {"bpm": 131, "downbeat": "auto", "prompt_bars": 1, "bars": 1}
    answer = server.post("/api/jobs", input={"input_id": rock}, **fields)
    state = done(server, answer.json()["job_id"])
    assert state["parameters"]["downbeat"] == pytest.approx(found["downbeat_seconds"], abs=0.02)


def test_a_metre_that_cannot_be_found_is_refused(server, rock, found):
    answer = server.post(
        "/api/jobs", input={"input_id": rock}, bpm="auto", beats_per_bar=3.5, bars=1
    )
    assert answer.status_code == 422
    assert "bars of 3.5 beats cannot be found" in answer.json()["error"]
