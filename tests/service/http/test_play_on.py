"""Playing on from a take: chains, what they inherit, and what stays untouched."""

import io

import numpy as np
import pytest
import soundfile

from tests.service.http.test_native import done, samples_of
from tests.service.server import encoded, song

SONG = song(3.0)
FEW = {"prompt_seconds": 1, "output_seconds": 2, "seed": 3}


def begun(server, **fields):
    answer = server.post("/api/jobs", **(FEW | fields))
    assert answer.status_code == 202, answer.text
    return done(server, answer.json()["job_id"])


def sound_of(server, state, number=1):
    return samples_of(server.get(state["takes"][number - 1]["url"]).content)


@pytest.fixture(scope="module")
def first(server):
    """Two takes of 3 s, joined at 2 s."""
    return begun(
        server,
        audio_data=encoded(SONG),
        file_name="my loop.wav",
        prompt_start=1,
        variations=2,
        top_k=7,
        descriptions=["drums", "bass"],
    )


@pytest.fixture(scope="module")
def second(server, first):
    return begun(server, input={"job": first["job_id"], "take": 2})


def test_a_take_is_played_on_from_without_being_sent_again(server, first, second):
    before, after = sound_of(server, first, 2), sound_of(server, second)
    assert len(after) == 4 * 44_100
    assert (after[: 3 * 44_100] == before).all()
    assert (after[: 2 * 44_100] == SONG[: 2 * 44_100]).all()
    assert second["join_seconds"] == pytest.approx(3)


def test_a_chain_is_a_tree(server, first, second):
    assert (first["parent"], first["root"]) == (None, first["job_id"])
    parent = {"job": first["job_id"], "take": 2, "until_seconds": 3.0, "known": True}
    assert (second["parent"], second["root"]) == (parent, first["job_id"])
    third = begun(server, input={"job": second["job_id"], "until_seconds": 3.5})
    assert third["parent"]["job"] == second["job_id"]
    assert third["root"] == first["job_id"]


def test_what_is_left_open_is_as_it_was_in_that_take(server, first, second):
    assert second["model_name"] == first["model_name"]
    assert [take["description"] for take in second["takes"]] == ["bass"]
    typed = begun(server, input={"job": first["job_id"], "take": 2}, description="harp")
    assert [take["description"] for take in typed["takes"]] == ["harp"]


def test_it_plays_on_from_a_place_in_the_middle(server, first):
    until = {"job": first["job_id"], "take": 1, "until_seconds": 2.5}
    state = begun(server, input=until)
    samples = sound_of(server, state)
    kept = round(2.5 * 44_100)
    assert (samples[:kept] == sound_of(server, first)[:kept]).all()
    assert state["join_seconds"] == pytest.approx(2.5)
    assert state["parent"]["until_seconds"] == 2.5
    beyond = begun(server, input=until | {"until_seconds": 900})
    assert beyond["parent"]["until_seconds"] == 3.0


def test_a_chain_does_not_need_its_parent(server, first):
    """It is a piece of its own, in the precision of the model, and not in the take's 16 bits."""
    state = begun(server, input={"job": first["job_id"]})
    content = server.get(state["input"]["url"]).content
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        assert (file.subtype, file.frames) == ("FLOAT", 3 * 44_100)
        samples = file.read(dtype="float32")
    assert (samples[: 2 * 44_100] * 32_768 == SONG[: 2 * 44_100]).all()
    new = samples[2 * 44_100 :] * 32_768
    assert not (new == np.rint(new)).all()
    assert state["input"]["name"] == "my loop.wav"


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"input": {}}, 422, "no input is named"),
        ({"input": None}, 422, "audio_data is missing"),
        ({"input": {"job": "{job}"}, "audio_data": encoded(SONG)}, 422, "send one"),
        ({"input": {"job": "{job}", "input_id": "x"}}, 422, "send one"),
        ({"input": {"job": "{job}", "take": 3}}, 404, "there is no take 3"),
        ({"input": {"job": "{job}", "take": 9}}, 422, "input.take must lie between 1 and 4"),
        ({"input": {"job": "{job}", "until_seconds": 0}}, 422, "must lie between 0.02 and 36000"),
        ({"input": {"job": "no"}}, 404, "not known any more"),
        ({"input": {"input_id": "no"}}, 404, "this audio is not known any more"),
        ({"input": "text"}, 422, "input must be an object"),
    ],
)
def test_what_cannot_be_played_on_from_is_refused_in_one_line(server, first, fields, status, said):
    if isinstance(fields["input"], dict) and fields["input"].get("job") == "{job}":
        fields = fields | {"input": fields["input"] | {"job": first["job_id"]}}
    answer = server.post("/api/jobs", **(FEW | fields))
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]


def test_nothing_plays_on_from_what_is_not_done(server):
    answer = server.post("/api/jobs", audio_data=encoded(SONG), **FEW | {"output_seconds": 290})
    waits = answer.json()["job_id"]
    refused = server.post("/api/jobs", **FEW, input={"job": waits})
    server.delete(f"/api/jobs/{waits}")
    assert refused.status_code == 409
    assert "is not done" in refused.json()["error"]


def test_an_input_is_sent_once_and_used_often(server):
    answer = server.post("/api/inputs", audio_data=encoded(SONG), file_name="a.wav")
    assert answer.status_code == 201, answer.text
    input_ = answer.json()
    assert (input_["seconds"], input_["channels"], input_["name"]) == (3.0, 2, "a.wav")
    assert server.get(f"/api/inputs/{input_['input_id']}").json()["sample_rate"] == 44_100
    assert (samples_of(server.get(input_["url"]).content) == SONG).all()
    whole, end = (
        begun(server, input={"input_id": input_["input_id"]}, prompt_from=side)
        for side in ("start", "end")
    )
    assert [whole["join_seconds"], end["join_seconds"]] == [1.0, 3.0]
    assert whole["input"]["input_id"] == end["input"]["input_id"] == input_["input_id"]
    assert server.get("/api/inputs/no").status_code == 404
    assert server.get("/api/inputs/no/audio").status_code == 404


def test_a_piece_that_has_become_too_long_is_refused(toy, tmp_path):
    from segue.service.exceptions import RefusalError
    from segue.service.jobs.play_on import place
    from segue.service.jobs.rows import Job
    from segue.service.jobs.spec import JobSpec

    result = {"sample_rate": 100, "takes": [{"frames": 70_000}]}
    job = Job(1, "a", "completed", "b", JobSpec("native", "a"), 1, 0, 0.0, 1.0, result, None)
    with pytest.raises(RefusalError, match="the piece is 700 s long by now, and 600 s are taken"):
        place(job, 1, None, 600.0)
    assert place(job, 1, 600.0, 600.0).seconds == 600.0
