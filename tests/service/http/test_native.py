"""The service's own routes: slices, variations, takes, streams, cancelling."""

import base64
import io
import json

import numpy as np
import pytest
import soundfile

from tests.encoded import by_ffmpeg, mp3, tones
from tests.service.server import encoded, song

SONG = song(3.0)
FEW = {"audio_data": encoded(SONG), "prompt_seconds": 1, "output_seconds": 2, "seed": 3}


def job(server, **fields):
    answer = server.post("/api/jobs", **(FEW | fields))
    assert answer.status_code == 202, answer.text
    assert answer.json()["job_id"] == answer.json()["session_id"]
    return answer.json()["job_id"]


def done(server, job_id):
    """The job's state when it is over."""
    return server.until(
        lambda: (
            (s := server.get(f"/api/jobs/{job_id}").json())["status"]
            in ("completed", "failed", "cancelled")
            and s
        ),
        "it does not end",
    )


def samples_of(content):
    return soundfile.read(io.BytesIO(content), dtype="int16", always_2d=True)[0]


@pytest.fixture(scope="module")
def takes(server):
    """A job of two takes whose prompt lies in the middle, done."""
    return done(server, job(server, prompt_start=1, variations=2))


def test_a_finished_job_has_every_field(server, takes):
    assert takes["success"] is True
    assert (takes["status"], takes["progress"], takes["seed"]) == ("completed", 100, 3)
    assert (takes["model_name"], takes["quantization"]) == (server.options[3], "none")
    assert takes["engine"] in ("mlx", "native", "openvino")
    assert takes["join_seconds"] == pytest.approx(2)
    assert [(t["number"], t["seed"], t["seconds"]) for t in takes["takes"]] == [
        (1, 3, 3),
        (2, 4, 3),
    ]
    assert takes["timings_s"]["token_generate_s"] > 0


def test_what_lies_before_the_slice_is_kept_and_what_lies_behind_is_cut(server, takes):
    first, second = (samples_of(server.get(t["url"]).content) for t in takes["takes"])
    for samples in (first, second):
        assert samples.shape == (3 * 44_100, 2)
        assert (samples[: 2 * 44_100] == SONG[: 2 * 44_100]).all()
        assert not (samples[2 * 44_100 :] == SONG[2 * 44_100 :]).all()
    assert not (first == second).all()


def test_a_take_can_be_fetched_in_ranges(server, takes):
    url = takes["takes"][0]["url"]
    whole = server.get(url)
    assert whole.headers["content-type"] == "audio/wav"
    part = server.get(url, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])


def test_there_are_only_the_takes_that_there_are(server, takes):
    base = f"/api/jobs/{takes['job_id']}/takes"
    assert server.get(f"{base}/3.wav").status_code == 404
    assert server.get(f"{base}/0.wav").status_code == 404
    assert server.get(f"{base}/x.wav").status_code == 422
    assert server.get("/api/jobs/no/takes/1.wav").status_code == 404


def test_a_retry_keeps_absent_parameters(server, takes):
    answer = server.post(f"/api/jobs/{takes['job_id']}/retry", seed=3)
    again = done(server, answer.json()["job_id"])
    assert len(again["takes"]) == 2
    for a, b in zip(again["takes"], takes["takes"], strict=True):
        assert server.get(a["url"]).content == server.get(b["url"]).content


def test_a_retry_without_a_body_draws_a_new_seed(server, takes):
    answer = server.client.post(f"/api/jobs/{takes['job_id']}/retry")
    assert answer.status_code == 202
    assert server.get(f"/api/jobs/{answer.json()['job_id']}").json()["seed"] != 3
    server.delete(f"/api/jobs/{answer.json()['job_id']}")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt_start": 3.5}, "the prompt cannot start at 3.5 s: the audio is 3 s long"),
        ({"prompt_start": -1}, "prompt_start must lie between"),
        ({"variations": 5}, "variations must lie between 1 and 4"),
        ({"output_seconds": 1}, "leaves nothing to play"),
        ({"output_seconds": 10_000}, "output_seconds must lie between"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(server, fields, said):
    answer = server.post("/api/jobs", **(FEW | fields))
    assert answer.status_code == 422
    assert said in answer.json()["error"]


def test_an_unknown_job_is_404_everywhere(server):
    for path in ("/api/jobs/no", "/api/jobs/no/stream"):
        assert server.get(path).status_code == 404
    assert server.delete("/api/jobs/no").status_code == 404
    assert server.post("/api/jobs/no/retry").status_code == 404


# --- Streams --------------------------------------------------------------------------------------

CANCELLED = {"status": "cancelled", "error": "the music was cancelled"}


def events_of(server, job_id):
    """The events of a stream."""
    name = None
    with server.stream(f"/api/jobs/{job_id}/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                yield name, json.loads(line[6:])


def heard(events, take=1):
    """The samples of a take; every event goes on where the last one ended."""
    pieces, at = [], 0
    for name, data in events:
        if name == "audio" and data["take"] == take:
            assert data["start"] == at
            pieces.append(np.frombuffer(base64.b64decode(data["pcm"]), "<i2").reshape(-1, 2))
            at += len(pieces[-1])
    return np.concatenate(pieces)


@pytest.fixture(scope="module")
def streamed(server):
    """A long job, listened to from its start: its id and its events."""
    name = job(server, output_seconds=30, variations=2)
    return name, list(events_of(server, name))


def test_the_first_second_is_streamed_while_the_rest_is_generated(server):
    name = job(server, output_seconds=300)
    events = events_of(server, name)
    first = next(data for event, data in events if event == "audio")
    assert first["start"] == 0
    assert server.delete(f"/api/jobs/{name}").status_code == 200
    *_, last = events
    assert last == ("done", CANCELLED)


def test_a_stream_begins_with_its_format_and_ends_with_done(streamed):
    _, events = streamed
    assert events[0][0] == "format"
    assert events[0][1] == {"sample_rate": 44_100, "channels": 2, "takes": 2, "join_seconds": 1.0}
    assert events[-1] == ("done", {"status": "completed"})
    progress = [data["progress"] for name, data in events if name == "progress"]
    assert progress == sorted(progress)


def test_every_take_is_streamed_whole_and_equals_the_result(server, streamed):
    name, events = streamed
    for take in (1, 2):
        exact = samples_of(server.get(f"/api/jobs/{name}/takes/{take}.wav").content)[44_100:]
        streamed_ = heard(events, take)
        assert streamed_.shape == exact.shape
        error = (streamed_.astype(float) - exact)[4410:]  # behind the splice
        assert np.sqrt((error**2).mean()) < 0.1 * np.sqrt((exact.astype(float) ** 2).mean())


def test_who_comes_late_hears_everything_from_the_start(server, streamed):
    name, _ = streamed
    exact = samples_of(server.get(f"/api/jobs/{name}/takes/2.wav").content)[44_100:]
    assert (heard(events_of(server, name), 2) == exact).all()


def test_a_stream_can_be_a_wav(server, streamed):
    name, _ = streamed
    exact = samples_of(server.get(f"/api/jobs/{name}/takes/1.wav").content)[44_100:]
    for answer in (
        server.get(f"/api/jobs/{name}/stream?format=wav"),
        server.get(f"/api/jobs/{name}/stream", headers={"Accept": "audio/wav"}),
    ):
        assert answer.headers["content-type"] == "audio/wav"
        assert answer.content[:4] == b"RIFF"
        assert (np.frombuffer(answer.content[44:], "<i2").reshape(-1, 2) == exact).all()


def test_a_job_without_a_stream_writes_no_preview(server):
    name = job(server, output_seconds=10)
    folder = server.state / "jobs" / name
    while server.get(f"/api/jobs/{name}").json()["status"] != "completed":
        assert not list(folder.rglob("preview-*"))


def test_a_stream_of_a_cancelled_job_reports_it(server):
    name = job(server, output_seconds=60)
    events = events_of(server, name)
    assert next(events)[0] == "format"
    assert server.delete(f"/api/jobs/{name}").status_code == 200
    *_, last = events
    assert last == ("done", CANCELLED)


# --- For those who have no music at hand ----------------------------------------------------------


def test_the_prompts_of_segue_can_be_continued(server):
    prompts = server.get("/api/service").json()["prompts"]
    assert {"name": "band", "title": "Band", "url": "/api/prompts/band.ogg"} in prompts
    for prompt in prompts:
        answer = server.get(prompt["url"])
        assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/ogg")
    with_audio = {"audio_data": base64.b64encode(answer.content).decode(), "prompt_start": 1}
    assert done(server, job(server, **with_audio))["status"] == "completed"


def test_there_are_only_the_prompts_that_there_are(server):
    for path in ("none.ogg", "band.wav", "__init__.py", "..%2f__init__.py", "band"):
        assert server.get(f"/api/prompts/{path}").status_code == 404


def test_models_say_how_much_there_is_to_download(server):
    models = {m["path"]: m["bytes"] for m in server.get("/api/service").json()["models"]}
    assert models["built-in"] is None
    assert 2.3e9 < models["facebook/musicgen-small"] < 2.5e9
    assert models["thepatch/vanya_ai_dnb_0.1"] < models["facebook/musicgen-small"]


# --- Audio as people bring it ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "encoder", "container"),
    [("a.m4a", "aac", "mp4"), ("a.webm", "libopus", "webm"), ("a.oga", "flac", "ogg")],
)
def test_what_libsndfile_does_not_decode_is_taken(server, tmp_path, name, encoder, container):
    path = by_ffmpeg(tmp_path / name, encoder, tones(48_000, seconds=2), 48_000, container)
    data = base64.b64encode(path.read_bytes()).decode()
    answer = server.post("/api/jobs", audio_data=data, prompt_start=0)
    assert answer.status_code == 202, answer.text
    server.delete(f"/api/jobs/{answer.json()['job_id']}")


def test_what_was_wrong_with_the_audio_is_noted_in_the_result(server):
    square = np.sign(tones(44_100, seconds=4)) * np.float32(0.99)
    cut = mp3(square)[:-20_000]
    fields = {"prompt_seconds": 1, "output_seconds": 2, "seed": 1}
    data = base64.b64encode(cut).decode()
    answer = server.post("/api/jobs", audio_data=data, **fields).json()
    state = done(server, answer["job_id"])
    header, louder = state["notes"]
    assert "the audio: its header says 4" in header
    assert "take 1: " in louder
    assert "louder than full scale" in louder
    poll = server.get(f"/api/juce/poll_status/{answer['session_id']}").json()
    assert louder in poll["queue_status"]["message"]
    again = server.post(f"/api/jobs/{answer['job_id']}/retry", seed=2).json()
    assert done(server, again["job_id"])["notes"][0] == header
