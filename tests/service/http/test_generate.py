"""Music without a prompt, with a melody, with adapters, and with a text for each take."""

import base64
import io
import json

import numpy as np
import pytest
import soundfile
from safetensors.numpy import save_file

from segue.demo.toy import MELODY_CONFIG, write_checkpoint
from segue.service.jobs.rows import Input
from segue.service.jobs.spec import JobSpec
from segue.service.jobs.store import Store
from tests.service.server import Server, encoded, song

from .test_native import done, samples_of

QUERY = "base_model.model.decoder.model.decoder.layers.0.self_attn.q_proj."
FEW = {"output_seconds": 1, "seed": 3}
WORDS = FEW | {"description": "slow piano"}


def write_adapter(folder, seed=0):
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 60}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    parts = {
        f"{QUERY}lora_{part}.weight": random.normal(0, 0.3, shape).astype(np.float32)
        for part, shape in (("A", (2, 64)), ("B", (64, 2)))
    }
    save_file(parts, folder / "adapter_model.safetensors")


def tone(*midi, seconds=1.0):
    """Notes one after the other, as a WAV in base64."""
    time = np.arange(round(16_000 * seconds)) / 16_000
    notes = [0.3 * np.sin(2 * np.pi * 440 * 2 ** ((n - 69) / 12) * time) for n in midi]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(notes), 16_000, format="WAV")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def served(tmp_path_factory, toy, toy_stereo):
    """A service with models of each kind and two adapters."""
    folder = tmp_path_factory.mktemp("generate")
    melody = write_checkpoint(folder / "toy-melody", config=MELODY_CONFIG)
    for n, name in enumerate(("warm", "cold")):
        write_adapter(folder / "adapters" / name, n)
    write_adapter(folder / "outside")
    (folder / "adapters" / "empty").mkdir()
    models = [word for path in (toy, toy_stereo, melody) for word in ("--models", str(path))]
    options = (*models, "--default-model", f"local/{toy.name}", "--threads", "1")
    options += ("--adapters", str(folder / "adapters"))
    with Server(folder / "state", *options, environment={"HF_HUB_OFFLINE": "1"}) as server:
        yield server


def made(server, path="/api/generate", **fields):
    """The state of a job when it is over."""
    answer = server.post(path, **fields)
    assert answer.status_code == 202, answer.text
    state = done(server, answer.json()["job_id"])
    assert state["status"] == "completed", state
    return state


def sounds(server, state):
    return [server.get(take["url"]).content for take in state["takes"]]


def refused(server, path="/api/generate", **fields):
    answer = server.post(path, **fields)
    assert 400 <= answer.status_code < 500, answer.text
    line = answer.json()["error"]
    assert "\n" not in line
    return line


# --- Without a prompt -----------------------------------------------------------------------------


def test_words_become_music_at_the_model_s_own_rate(served, toy_stereo):
    state = made(served, **WORDS)
    assert (state["join_seconds"], state["melody"], state["adapters"]) == (0, False, [])
    (take,) = state["takes"]
    assert (take["seconds"], take["description"], take["seed"]) == (1, "slow piano", 3)
    (sound,) = sounds(served, state)
    assert samples_of(sound).shape == (32_000, 1)
    assert samples_of(sound).any()
    assert sounds(served, made(served, **WORDS)) == [sound]
    assert sounds(served, made(served, **WORDS | {"description": "drums"})) != [sound]
    stereo = made(served, **WORDS, model_name=f"local/{toy_stereo.name}")
    assert samples_of(sounds(served, stereo)[0]).shape == (32_000, 2)


def test_it_is_streamed_and_runs_again(served):
    answer = served.post("/api/generate", **WORDS | {"output_seconds": 4})
    name, events, kind = answer.json()["job_id"], [], None
    with served.stream(f"/api/jobs/{name}/stream") as lines:
        for line in lines.iter_lines():
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                events.append((kind, json.loads(line[6:])))
    assert events[0][1] == {"sample_rate": 32_000, "channels": 1, "takes": 1, "join_seconds": 0}
    mono = [(kind, data) for kind, data in events if kind == "audio"]
    assert sum(len(base64.b64decode(data["pcm"])) for _, data in mono) == 2 * 4 * 32_000
    before = sounds(served, done(served, name))
    again = made(served, f"/api/jobs/{name}/retry", seed=3, prompt_seconds=5, prompt_start=2)
    assert sounds(served, again) == before
    plugin = served.post("/api/juce/retry_music", session_id=name, seed=3, prompt_duration=5)
    assert sounds(served, done(served, plugin.json()["session_id"])) == before


def test_it_survives_a_restart(tmp_path, toy_options):
    options = (*toy_options, "--batch-rows", "1")
    with Server(tmp_path / "state", *options, environment={"HF_HUB_OFFLINE": "1"}) as server:
        names = [
            server.post("/api/generate", **WORDS | {"output_seconds": s}).json()["job_id"]
            for s in (40, 1)
        ]
        server.kill()
        server.start()
        assert [len(done(server, name)["takes"]) for name in names] == [1, 1]


def test_without_words_there_is_nothing_to_begin_with(served):
    line = "there is nothing to begin with: send a description of the music"
    assert refused(served, **FEW) == line
    assert refused(served, **FEW, descriptions=["", " "]) == line
    assert refused(served, **FEW, melody_data="") == line
    # Nor does a job without its audio become one.
    assert "audio_data is missing" in refused(served, "/api/jobs", **WORDS)


# --- A text for each take -------------------------------------------------------------------------


def test_each_take_has_its_own_words_and_is_what_they_give_alone(served):
    audio = {"audio_data": encoded(song(2.0)), "prompt_seconds": 0.5}
    texts = ["drums", "", "a slow piano and strings"]
    for path, prompt in (("/api/generate", {}), ("/api/jobs", audio)):
        state = made(served, path, **FEW, **prompt, descriptions=texts)
        assert [take["description"] for take in state["takes"]] == texts
        together = [samples_of(sound).astype(int) for sound in sounds(served, state)]
        for n in [0, 1, 2] if prompt else [0, 2]:  # nothing is made of nothing
            fields = FEW | prompt | {"description": texts[n], "seed": 3 + n}
            (alone,) = sounds(served, made(served, path, **fields))
            np.testing.assert_allclose(samples_of(alone).astype(int), together[n], atol=2)


def test_a_retry_may_have_one_text_again_and_one_text_is_that_of_all(served):
    state = made(served, **FEW, descriptions=["drums", "piano"])
    again = made(served, f"/api/jobs/{state['job_id']}/retry", seed=3)
    assert sounds(served, again) == sounds(served, state)
    one = made(served, f"/api/jobs/{state['job_id']}/retry", seed=3, description="bass")
    assert [take["description"] for take in one["takes"]] == ["bass", "bass"]
    all_ = made(served, **FEW, descriptions=["bass"], variations=2)
    assert sounds(served, all_) == sounds(served, one)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"descriptions": ["a", "b"], "variations": 3}, "name one text for all, or one for each"),
        ({"descriptions": ["a"] * 5}, "descriptions must not hold more than 4"),
        ({"descriptions": "a"}, "descriptions must be a list"),
        ({"descriptions": [1]}, "descriptions.0 must be text"),
        ({"descriptions": ["a\0"]}, "characters that are none"),
        ({"descriptions": ["a" * 2001]}, "must not be longer than 2000 characters"),
        ({"descriptions": ["a", "b"], "description": "c"}, "description is the text of all takes"),
    ],
)
def test_texts_that_cannot_be_are_refused(served, fields, line):
    assert line in refused(served, **FEW, **fields)


# --- A melody -------------------------------------------------------------------------------------


def test_a_melody_is_followed_with_a_prompt_and_without(served):
    model = {"model_name": "local/toy-melody"}
    audio = {"audio_data": encoded(song(2.0)), "prompt_seconds": 0.5}
    for path, prompt in (("/api/generate", {}), ("/api/jobs", audio)):
        fields = FEW | model | prompt | {"description": "drums"}
        found = [
            sounds(served, made(served, path, **fields, melody_data=melody))[0]
            for melody in (None, tone(62), tone(67), tone(62))
        ]
        assert len(set(found[:3])) == 3
        assert found[1] == found[3]
    alone = made(served, **FEW, **model, melody_data=tone(60))
    assert alone["melody"] is True
    assert len(list((served.state / "inputs").glob("*.wav"))) > 0
    again = made(served, f"/api/jobs/{alone['job_id']}/retry", seed=3)
    assert (sounds(served, again), again["melody"]) == (sounds(served, alone), True)


def test_what_is_no_melody_is_refused(served):
    model = {"model_name": "local/toy-melody"}
    before = set((served.state / "inputs").iterdir())
    noise = base64.b64encode(b"no sound at all").decode()
    assert "the melody" in refused(served, **FEW, **model, melody_data=noise)
    assert refused(served, **FEW, **model, melody_data="%%%") == (
        "melody_data is no base64; send the file again"
    )
    assert refused(served, **FEW, **model, melody_data=5) == (
        "melody_data must be an audio file in base64"
    )
    audio = {"audio_data": encoded(song(2.0)), "prompt_seconds": 0.5}
    assert "the melody" in refused(served, "/api/jobs", **FEW, **model, **audio, melody_data=noise)
    line = "this model follows no melody; choose one that does, such as facebook/musicgen-melody"
    assert refused(served, **WORDS, melody_data=tone(60)) == line
    assert set((served.state / "inputs").iterdir()) == before


def test_a_melody_is_kept_as_long_as_a_job_names_it(tmp_path):
    now = [1000.0]
    store = Store(tmp_path, clock=lambda: now[0])
    inputs = []
    for _ in range(2):
        name, path = store.new_input()
        path.touch()
        inputs.append(Input(name, 8000, 1, 100, 44))
    prompt, melody = inputs
    spec = JobSpec("native", "m", melody=melody.id)
    first, second = store.add(spec, prompt, melody), store.add(spec, prompt)
    assert store.job(second.id).spec.melody == melody.id
    for job in (first, second):
        assert store.input_path(melody.id).exists()
        assert store.end(job.id, "failed", "")
        now[0] += 100
        store.sweep(50, 1 << 30)
    assert not store.input_path(melody.id).exists()
    assert store.input(melody.id) is None
    assert not store.input_path(prompt.id).exists()
    store.close()


# --- Adapters -------------------------------------------------------------------------------------


def test_adapters_change_the_music_by_name_and_scale(served):
    plain, warm, half, nothing, both = (
        sounds(served, made(served, **WORDS, adapters=adapters))[0]
        for adapters in ([], ["warm"], ["warm:0.5"], ["warm:0"], ["warm", "cold:-2"])
    )
    assert nothing == plain
    assert len({plain, warm, half, both}) == 4
    state = made(served, **WORDS, adapters=["warm:0.5"], quantization_mode="q8")
    assert state["adapters"] == ["warm:0.5"]
    assert state["quantization"] == "q8_decoder_linears"
    quantized = sounds(served, state)[0]
    assert quantized not in {plain, warm, half}
    assert sounds(served, made(served, **WORDS, quantization_mode="q8"))[0] != quantized
    again = made(served, f"/api/jobs/{state['job_id']}/retry", seed=3)
    assert sounds(served, again) == [quantized]
    without = made(served, f"/api/jobs/{state['job_id']}/retry", seed=3, adapters=[])
    assert sounds(served, without)[0] != quantized


@pytest.mark.parametrize(
    "typed", ["../outside", "../outside:1", "empty", "warm/", "Warm", "/tmp", "", ".", "a/b:2"]
)
def test_only_the_owner_s_adapters_can_be_named(served, typed):
    line = refused(served, **WORDS, adapters=[typed])
    assert line.startswith("there is no adapter")
    assert line.endswith("; there are cold, warm")
    outside = str(served.state.parent / "outside")
    assert refused(served, **WORDS, adapters=[outside]).startswith("there is no adapter of that")


@pytest.mark.parametrize("scale", ["x", "nan", "101", "-1e9", "", "inf"])
def test_a_scale_out_of_range_is_refused(served, scale):
    line = refused(served, **WORDS, adapters=[f"warm:{scale}"])
    assert line == "the scale of adapter warm must lie between -100 and 100"


def test_other_values_are_refused(served):
    assert "must be a list" in refused(served, **WORDS, adapters="warm")
    assert "must not hold more than 4" in refused(served, **WORDS, adapters=["warm"] * 5)


def test_an_adapter_that_does_not_fit_or_is_gone_fails_in_one_line(served, toy_stereo):
    folder = served.state.parent / "adapters"
    write_adapter(folder / "odd")
    (folder / "odd" / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    answer = served.post("/api/generate", **WORDS, adapters=["odd"])
    state = done(served, answer.json()["job_id"])
    assert state["status"] == "failed"
    assert "IA3" in state["error"]
    for file in (folder / "odd").iterdir():
        file.unlink()
    (folder / "odd").rmdir()
    state = done(served, served.post(f"/api/jobs/{state['job_id']}/retry").json()["job_id"])
    assert (state["status"], state["error"]) == ("failed", "the adapter odd is not there any more")


# --- What there is --------------------------------------------------------------------------------


def test_the_service_says_what_models_take_and_which_adapters_there_are(served, toy):
    service = served.get("/api/service").json()
    assert service["adapters"] == ["cold", "warm"]
    takes = {model["path"]: model["takes"] for model in service["models"]}
    assert takes["built-in"] == takes[f"local/{toy.name}"] == ["prompt", "text"]
    melody = ["prompt", "text", "melody"]
    assert takes["local/toy-melody"] == takes["facebook/musicgen-stereo-melody-large"] == melody
    assert takes["facebook/audiogen-medium"] == ["prompt", "text"]


def test_a_service_without_adapters_says_so(server):
    assert server.get("/api/service").json()["adapters"] == []
    answer = server.post("/api/generate", **WORDS, adapters=["warm"])
    line = "there is no adapter warm: this service has none"
    assert (answer.status_code, answer.json()["error"]) == (422, line)


def test_music_from_words_may_play_beside_other_music(served):
    """Jobs of one model share its steps, also those with an adapter; others wait."""
    names = [
        served.post("/api/generate", **FEW, description=text, adapters=adapters).json()["job_id"]
        for text, adapters in (("a", ["warm"]), ("b", ["warm"]), ("a", []), ("a", ["warm:0.5"]))
    ]
    states = [done(served, name) for name in names]
    assert {state["status"] for state in states} == {"completed"}
    alone = sounds(served, made(served, **FEW, description="b", adapters=["warm"]))
    assert sounds(served, states[1]) == alone
