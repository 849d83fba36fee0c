"""Clients that share a service: each has its own jobs and audio, and nobody else's."""

import signal
from pathlib import Path

import pytest

from tests.service.clients import AUDIO, ask, clients_file, one_of, token
from tests.service.server import Server

LIMITED = {
    "carl": "jobs_per_minute = 1",
    "dora": "jobs_at_once = 1",
    "emil": "seconds_per_day = 5.5",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory, toy_options):
    folder = tmp_path_factory.mktemp("clients")
    path = clients_file(folder, anna="", bert="", operator="admin = true", **LIMITED)
    options = (*toy_options, "--batch-rows", "1", "--clients", str(path), "--verbose")
    with Server(folder / "state", *options, environment={"HF_HUB_OFFLINE": "1"}) as server:
        yield server


@pytest.fixture(scope="module")
def anna(shared):
    with one_of(shared, "anna") as client:
        yield client


@pytest.fixture(scope="module")
def bert(shared):
    with one_of(shared, "bert") as client:
        yield client


@pytest.fixture(scope="module")
def operator(shared):
    with one_of(shared, "operator") as client:
        yield client


@pytest.fixture(scope="module")
def done(shared, anna):
    """A job of Anna's that is done."""
    job = ask(anna).json()["job_id"]
    poll = f"/api/juce/poll_status/{job}"
    shared.until(lambda: anna.get(poll).json()["status"] == "completed", "it does not end")
    return job


def test_a_request_brings_the_token_of_a_client(shared, anna):
    assert anna.get("/api/models").status_code == 200
    assert shared.get("/health").status_code == 200
    for sent in (None, f"Basic {token('anna')}", "Bearer wrong"):
        headers = {} if sent is None else {"Authorization": sent}
        answer = shared.get("/api/models", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["success"] is False
    assert answer.json()["error"] == "the token is wrong; whoever runs the service gives you yours"


ROUTES = (
    *(("GET", path) for path in ("", "/stream", "/takes/1.wav", "/takes/1/audio")),
    *(("GET", "/takes/1/beats"), ("POST", "/retry"), ("PATCH", ""), ("PATCH", "/takes/1")),
    *(("DELETE", ""), ("DELETE", "?remove=true"), ("DELETE", "/takes/1")),
    *(("POST", "/undelete"), ("POST", "/takes/1/undelete")),
)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_another_client_s_job_is_not_known(bert, done, method, path):
    body = {} if method in ("POST", "PATCH") and not path.endswith("undelete") else None
    answer = bert.request(method, f"/api/jobs/{done}{path}", json=body)
    assert answer.status_code == 404
    unknown = bert.request(method, f"/api/jobs/{done[::-1]}{path}", json=body)
    assert answer.json() == unknown.json()


def test_another_client_s_session_is_unknown_to_the_plugin(bert, done):
    poll = bert.get(f"/api/juce/poll_status/{done}")
    assert (poll.status_code, poll.json()["success"], poll.json()["status"]) == (
        *(200, True),
        "unknown",
    )
    again = bert.post("/api/juce/retry_music", json={"session_id": done})
    assert (again.status_code, again.json()["success"]) == (404, False)


def test_another_client_s_audio_and_takes_are_no_source(anna, bert, operator, done):
    kept = anna.post("/api/inputs", json={"audio_data": AUDIO}).json()["input_id"]
    of_job = anna.get(f"/api/jobs/{done}").json()["input"]["input_id"]
    for input_ in (kept, of_job):
        for path in (f"/api/inputs/{input_}", f"/api/inputs/{input_}/audio"):
            assert anna.get(path).status_code == operator.get(path).status_code == 200
            assert bert.get(path).status_code == 404
    for source in ({"input_id": kept}, {"input_id": of_job}, {"job": done}):
        assert bert.post("/api/jobs", json={"input": source}).status_code == 404


def test_a_client_lists_its_own_and_an_admin_all(anna, bert, operator, done):
    def listed(client, query=""):
        page = client.get(f"/api/jobs{query}").json()
        assert page["total"] == len(page["jobs"])
        return {job["job_id"] for job in page["jobs"]}

    own = ask(bert).json()["job_id"]
    assert listed(bert) == {own}
    assert done in listed(anna)
    assert own not in listed(anna)
    assert {own, done} <= listed(operator)
    assert listed(bert, f"?root={done}") == set()
    assert anna.patch(f"/api/jobs/{done}", json={"starred": True}).status_code == 200
    assert listed(bert, "?starred=true") == set()
    assert operator.delete(f"/api/jobs/{own}?remove=true").status_code == 200
    assert listed(bert) == set()
    assert listed(bert, "?deleted=true") == {own}
    assert listed(anna, "?deleted=true") == set()


def test_a_client_is_told_what_it_has(anna, operator, done):
    told = anna.get("/api/service").json()["client"]
    assert told.pop("seconds_today") >= 1.0
    assert told == {
        "name": "anna",
        "admin": False,
        "jobs_per_minute": None,
        "jobs": 0,
        "jobs_at_once": None,
        "seconds_per_day": None,
        "weight": 1.0,
    }
    assert operator.get("/api/service").json()["client"]["admin"] is True


def test_metrics_are_an_admin_s_and_tell_clients_apart(shared, anna, operator, done):
    refused = anna.get("/metrics")
    assert refused.status_code == 403
    assert "admin" in refused.json()["error"]
    metrics = operator.get("/metrics").text
    assert 'segue_client_jobs_total{client="anna",state="completed"}' in metrics
    assert 'segue_client_music_seconds_total{client="anna"}' in metrics
    lines = {line["job"]: line for line in shared.lines() if line["message"] == "job queued"}
    assert lines[done]["client"] == "anna"
    asked = [line for line in shared.lines() if line["message"] == "request"]
    assert {"anna", "bert"} <= {line.get("client") for line in asked}
    assert token("anna") not in shared.log.read_text()


def test_the_file_is_read_again_on_a_signal(shared, done):
    path = Path(next(option for option in shared.options if option.endswith("clients.toml")))
    before = path.read_text()
    try:
        path.write_text(f'{before}\n[clients.frida]\ntoken = "{token("frida")}"\n')
        shared.process.send_signal(signal.SIGHUP)
        with one_of(shared, "frida") as frida:
            shared.until(lambda: frida.get("/api/models").status_code == 200, "she is not known")
            assert frida.get(f"/api/jobs/{done}").status_code == 404
    finally:
        path.write_text(before)
        shared.process.send_signal(signal.SIGHUP)


# --- Turns ----------------------------------------------------------------------------------------


def test_clients_take_turns(anna, bert, operator, shared):
    running = ask(anna, 300.0).json()["job_id"]
    shared.until(lambda: shared.get("/health").json()["playing"], "it does not play")
    own = [ask(anna).json()["job_id"] for _ in range(3)]
    other = ask(bert).json()["job_id"]

    def position(client, job):
        return client.get(f"/api/jobs/{job}").json()["queue_status"]["position"]

    assert position(bert, other) == 1
    assert [position(anna, job) for job in own] == [2, 3, 4]
    metrics = operator.get("/metrics").text
    assert 'segue_client_jobs_waiting{client="anna"} 3.0' in metrics
    assert 'segue_client_jobs_waiting{client="bert"} 1.0' in metrics
    assert anna.delete(f"/api/jobs/{running}").status_code == 200
    for job in own:
        poll = f"/api/juce/poll_status/{job}"
        shared.until(lambda poll=poll: anna.get(poll).json()["status"] == "completed", "no end")
    begun = [line["job"] for line in shared.lines() if line["message"] == "job begins"]
    assert begun[-5:] == [running, other, *own]


# --- Limits ---------------------------------------------------------------------------------------

ON_AND_ON = ("download", "loading model", "loading weights", "warmup", "warming", "huggingface")
"""What the plugin takes for a reason to wait for ever."""


@pytest.mark.parametrize(
    ("name", "limit", "said", "least", "most"),
    [
        ("carl", "jobs_per_minute", "1 requests a minute may begin music or bring audio", 1, 60),
        ("dora", "jobs_at_once", "1 of your requests wait or play, as many as may", 1, 600),
        ("emil", "seconds_per_day", "5 of your 6 s of new music for today are used", 1, 86_400),
    ],
)
def test_beyond_a_limit_nothing_is_kept(shared, operator, name, limit, said, least, most):
    with one_of(shared, name) as client:
        begun = ask(client, 6.0 if name == "emil" else 300.0)
        assert begun.status_code == 202, begun.text
        job = begun.json()["job_id"]
        before = sorted(path.name for path in shared.state.glob("[iuj]*/*"))
        for path, fields in (
            ("/api/jobs", {"audio_data": AUDIO, "prompt_seconds": 1, "output_seconds": 3}),
            ("/api/juce/process_audio", {"audio_data": AUDIO, "prompt_duration": 1}),
            ("/api/juce/continue_music", {"audio_data": AUDIO, "prompt_duration": 1}),
            ("/api/juce/retry_music", {"session_id": job, "prompt_duration": 1}),
            (f"/api/jobs/{job}/retry", {}),
            ("/api/generate", {"description": "drums", "output_seconds": 3}),
        ):
            if name == "emil" and "juce/" in path:
                continue  # which are always 30 s long, so no day has room for them
            answer = client.post(path, json=fields)
            assert answer.status_code == 429, (path, answer.text)
            assert set(answer.json()) == {"success", "error"}
            assert answer.json()["success"] is False
            line = answer.json()["error"]
            assert said in line
            assert "\n" not in line
            assert not any(word in line.lower() for word in ON_AND_ON)
            assert least <= int(answer.headers["Retry-After"]) <= most
        assert client.get("/api/jobs").json()["total"] == 1
        client.delete(f"/api/jobs/{job}")
    after = sorted(path.name for path in shared.state.glob("[iuj]*/*"))
    assert set(after) <= set(before)
    metrics = operator.get("/metrics").text
    assert f'segue_client_refusals_total{{client="{name}",limit="{limit}"}}' in metrics


def test_more_than_a_day_has_is_refused_for_good(shared):
    with one_of(shared, "emil") as emil:
        answer = emil.post("/api/juce/process_audio", json={"audio_data": AUDIO})
    assert answer.status_code == 422
    assert "6 s a day are yours; ask for less" in answer.json()["error"]


def test_audio_for_jobs_to_come_counts_as_a_request(shared):
    with one_of(shared, "carl") as carl:
        for _ in range(2):
            answer = carl.post("/api/inputs", json={"audio_data": AUDIO})
    assert answer.status_code == 429
    assert "Retry-After" in answer.headers
