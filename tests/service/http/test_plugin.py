"""The plugin's contract, field by field."""

import numpy as np
import pytest

from tests.service.server import decoded, encoded, song

SONG = song(2.0)


@pytest.fixture(scope="module")
def begun(server):
    """A session of `process_audio` that is over, and its poll."""
    answer = server.post(
        "/api/juce/process_audio",
        model_name=server.options[3],
        prompt_duration=1,
        audio_data=encoded(SONG),
        top_k=250,
        temperature=1.0,
        cfg_coef=3.0,
        description="",
        seed=7,
    )
    assert answer.status_code == 200
    session = answer.json()["session_id"]
    return session, answer.json(), server.finished(session)


def test_health_is_live_and_names_the_service(server):
    answer = server.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "live"
    assert answer.json()["service"] == "segue"


def test_a_session_begins_with_an_id_and_a_message(begun):
    _, answer, _ = begun
    assert answer["success"] is True
    assert isinstance(answer["session_id"], str)
    assert isinstance(answer["message"], str)
    assert answer["seed"] == 7


def test_a_completed_poll_has_the_fields_of_the_contract(begun):
    _, _, poll = begun
    assert poll["success"] is True
    assert poll["status"] == "completed"
    assert poll["progress"] == 100
    assert poll["generation_in_progress"] is False
    assert poll["transform_in_progress"] is False
    assert poll["generation_seed"] == "7"


def test_process_audio_continues_the_first_seconds_to_30_s(begun):
    _, _, poll = begun
    samples, rate, subtype = decoded(poll["audio_data"])
    assert (samples.shape, rate, subtype) == ((30 * 44_100, 2), 44_100, "PCM_16")
    assert (samples[:44_100] == SONG[:44_100]).all()
    assert not (samples[44_100 : 2 * 44_100] == SONG[44_100:]).all()
    assert samples[44_100:].any()


def test_a_result_can_be_polled_again_and_again(server, begun):
    session, _, poll = begun
    assert server.poll(session) == poll


def test_continue_music_keeps_everything_before_the_prompt(server):
    answer = server.post(
        "/api/juce/continue_music", prompt_duration=1, audio_data=encoded(SONG), seed=7
    ).json()
    samples, _, _ = decoded(server.finished(answer["session_id"])["audio_data"])
    assert samples.shape == (31 * 44_100, 2)
    assert (samples[: 2 * 44_100] == SONG).all()


def test_the_result_has_the_rate_and_the_channels_of_the_input(server):
    mono = song(1.5, 22_050, 1)
    answer = server.post(
        "/api/juce/process_audio", prompt_duration=1, audio_data=encoded(mono, 22_050), seed=1
    ).json()
    samples, rate, subtype = decoded(server.finished(answer["session_id"])["audio_data"])
    assert (samples.shape, rate, subtype) == ((30 * 22_050, 1), 22_050, "PCM_16")
    assert (samples[:22_050] == mono[:22_050]).all()


def test_a_retry_continues_the_same_input_with_new_parameters(server, begun):
    session, _, poll = begun
    again = server.post("/api/juce/retry_music", session_id=session, prompt_duration=1, seed="7")
    other = server.post("/api/juce/retry_music", session_id=session, prompt_duration=2, seed=8)
    assert again.json()["session_id"] not in (session, other.json()["session_id"])
    same = server.finished(again.json()["session_id"])
    assert same["audio_data"] == poll["audio_data"]
    samples, _, _ = decoded(server.finished(other.json()["session_id"])["audio_data"])
    assert (samples[: 2 * 44_100] == SONG).all()


def test_a_retry_of_an_unknown_session_is_404(server):
    answer = server.post("/api/juce/retry_music", session_id="no such", seed=-1)
    assert answer.status_code == 404
    assert answer.json()["success"] is False
    assert "send the audio again" in answer.json()["error"]


def test_an_unknown_session_is_200_and_unknown(server):
    answer = server.get("/api/juce/poll_status/no-such-session")
    assert answer.status_code == 200
    assert (answer.json()["success"], answer.json()["status"]) == (True, "unknown")
    assert answer.json()["generation_in_progress"] is False


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt_duration": "1", "top_k": "40", "temperature": "0.9", "cfg_coef": "3", "seed": "5"},
        {"prompt_duration": None, "top_k": None, "temperature": None, "cfg_coef": None},
        {"seed": None, "description": None, "model_name": None, "quantization_mode": None},
        {"seed": -1, "prompt_duration": 1.0, "top_k": 40.0, "description": "", "model_name": ""},
        {"seed": "", "temperature": " 1 ", "quantization_mode": "", "something_new": {"a": 1}},
        {},
    ],
)
def test_what_real_clients_send_is_taken(server, fields):
    answer = server.post("/api/juce/process_audio", audio_data=encoded(SONG), **fields)
    assert answer.status_code == 200, answer.text
    session = answer.json()["session_id"]
    seed = server.poll(session)["generation_seed"]
    assert seed == str(answer.json()["seed"])
    assert seed == "5" if fields.get("seed") == "5" else 0 <= int(seed) < 100_000
    assert server.delete(f"/api/jobs/{session}").json()["success"] is True


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt_duration": "long"}, "prompt_duration must be a number"),
        ({"prompt_duration": 0}, "prompt_duration must lie between"),
        ({"prompt_duration": 30}, "prompt_duration must lie between"),
        ({"temperature": "nan"}, "temperature must be a number"),
        ({"temperature": -1}, "temperature must lie between 0 and 100"),
        ({"temperature": [1]}, "temperature must be a number"),
        ({"temperature": "1" * 5000}, "temperature must be a number"),
        ({"top_k": 2.5}, "top_k must be a whole number"),
        ({"top_k": True}, "top_k must be a number"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": "1.5"}, "seed must be a whole number"),
        ({"description": 5}, "description must be text"),
        ({"description": "a" * 3000}, "description must not be longer than 2000"),
        ({"quantization_mode": "q3"}, "no quantization 'q3'; there are none, q8_decoder_linears"),
        ({"model_name": "someone/else"}, "there is no model someone/else here"),
        ({"model_name": "/etc"}, "there is no model /etc here"),
        ({"model_name": "https://example.org/x"}, "there is no model"),
        ({"audio_data": None}, "there is no audio"),
        ({"audio_data": ""}, "there is no audio"),
        ({"audio_data": "&&&&"}, "audio_data is no base64"),
        ({"audio_data": 5}, "audio_data must be an audio file in base64"),
        ({"audio_data": "AAAA"}, "the audio cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(server, fields, said):
    answer = server.post("/api/juce/process_audio", **{"audio_data": encoded(SONG), **fields})
    assert 400 <= answer.status_code < 500
    assert answer.json()["success"] is False
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b'"a"', b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_json_object_is_refused(server, body):
    headers = {"Content-Type": "application/json"}
    for path in ("/api/juce/process_audio", "/api/juce/retry_music", "/api/models/predownload"):
        answer = server.client.post(path, content=body, headers=headers)
        assert answer.status_code == 422, answer.text
        assert answer.json()["success"] is False


def test_quantization_is_what_people_type_and_the_response_names_what_ran(server):
    answer = server.post(
        "/api/jobs",
        audio_data=encoded(SONG),
        prompt_seconds=1,
        output_seconds=2,
        quantization_mode=" Q8-Decoder+Linears",
        seed=1,
    ).json()
    poll = server.finished(answer["session_id"])
    assert poll["quantization_mode"] == "q8_decoder_linears"


def test_the_models_are_listed_by_size_and_family(server):
    answer = server.get("/api/models").json()
    assert answer["success"] is True
    assert set(answer["models"]) == {"small", "medium", "large"}
    assert answer["updated_at"]
    small, large = answer["models"]["small"], answer["models"]["large"]
    assert {"name": "built-in", "path": "built-in", "type": "single"} in small
    assert {"name": server.options[3][6:], "path": server.options[3], "type": "single"} in small
    family = next(entry for entry in small if entry["name"] == "keygen-gary-v2-small")
    assert family["type"] == "group"
    assert family["checkpoints"] == [
        {
            "name": f"keygen-gary-v2-small-{epoch}",
            "path": f"thepatch/keygen-gary-v2-small-{epoch}",
            "epoch": epoch,
        }
        for epoch in (8, 12)
    ]
    alone = {
        "name": "gary-grunge-large-stereo-12",
        "path": "thepatch/gary-grunge-large-stereo-12",
        "epoch": 12,
    }
    assert {"name": "gary-grunge-large-stereo", "type": "group", "checkpoints": [alone]} in large


def test_download_status_lists_missing_files(server):
    answer = server.get("/api/models/download_status").json()
    assert answer["models"]["built-in"] == {"downloaded": True, "missing": []}
    absent = answer["models"]["facebook/musicgen-small"]
    assert absent["downloaded"] is False
    assert absent["missing"]
    one = server.get("/api/models/download_status?model_name=built-in").json()
    assert list(one["models"]) == ["built-in"]
    unknown = server.get("/api/models/download_status?model_name=someone/else")
    assert unknown.status_code == 404
    assert unknown.json()["success"] is False


def test_errors_of_the_audio_come_before_anything_is_queued(server):
    silence = encoded(np.zeros((0, 1), np.int16))
    answer = server.post("/api/juce/process_audio", audio_data=silence)
    assert answer.status_code == 422
    assert "the audio is empty" in answer.json()["error"]
