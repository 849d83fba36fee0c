"""Beats, bars and parts over HTTP; the arithmetic of them is `tests/test_bars.py`'s."""

import pytest

from segue import beats
from segue.request import Part, part_seed
from segue.service.http.schemas.native import NativeAudio
from segue.service.jobs.spec import JobSpec
from segue.service.quantization import NONE
from tests.service.http.test_native import done, samples_of
from tests.service.server import encoded, song

SONG = song(4.0)
AUDIO = encoded(SONG)
RATE, BPM = 44_100, 150.0
BEAT = 60 / BPM
BAR = 4 * BEAT
FEW = {"audio_data": AUDIO, "bpm": BPM, "prompt_bars": 1, "bars": 0.5, "seed": 3}

without_tracker = pytest.mark.skipif(beats.available(), reason="the tracker is installed")


def begun(server, **fields):
    answer = server.post("/api/jobs", **fields)
    assert answer.status_code == 202, answer.text
    return done(server, answer.json()["job_id"])


@pytest.fixture(scope="module")
def half_a_bar(server):
    return begun(server, **FEW, prompt_start=0.4, downbeat=0.4)


def test_a_take_in_bars_is_whole_bars_to_the_sample(server, half_a_bar):
    samples = samples_of(server.get(half_a_bar["takes"][0]["url"]).content)
    start = round(0.4 * RATE)
    assert len(samples) == start + round(1.5 * BAR * RATE)
    assert half_a_bar["loop_seconds"] == pytest.approx(0.4)
    assert half_a_bar["join_seconds"] == pytest.approx(0.4 + BAR, abs=1 / RATE)
    assert half_a_bar["bars"] == {
        "bpm": BPM,
        "beats_per_bar": 4.0,
        "downbeat_seconds": 0.4,
        "snap": "bar",
        "prompt_bars": 1.0,
        "new_bars": 0.5,
    }


def test_the_state_has_what_would_be_sent_to_get_the_same(server, half_a_bar):
    sent = {k: v for k, v in half_a_bar["parameters"].items() if k != "prompt_from"}
    lengths = {"prompt_seconds", "output_seconds"}  # which follow from the bars
    again = begun(server, audio_data=AUDIO, **{k: v for k, v in sent.items() if k not in lengths})
    for a, b in zip(again["takes"], half_a_bar["takes"], strict=True):
        assert server.get(a["url"]).content == server.get(b["url"]).content
    assert again["parameters"] == half_a_bar["parameters"]


def test_a_take_that_is_played_on_from_keeps_its_bars(server, half_a_bar):
    second = begun(
        server, input={"job": half_a_bar["job_id"]}, prompt_bars=1, bars=0.5, snap="beat", seed=1
    )
    assert second["bars"]["bpm"] == BPM
    assert second["bars"]["downbeat_seconds"] == pytest.approx(0.4, abs=1e-4)
    samples = samples_of(server.get(second["takes"][0]["url"]).content)
    assert abs(len(samples) - (0.4 + 2 * BAR) * RATE) <= 2
    free = begun(
        server,
        input={"job": half_a_bar["job_id"]},
        bpm=0,
        prompt_seconds=1,
        seconds=0.5,
        seed=1,
    )
    assert free["bars"] is None
    assert free["takes"][0]["seconds"] == pytest.approx(0.4 + 1.5 * BAR + 0.5, abs=0.021)


def test_parts_come_behind_the_continuation_each_with_its_text(server):
    parts = [{"description": "drums", "bars": 0.5}, {"seconds": 0.4, "seed": 9}]
    state = begun(server, **FEW, parts=parts, snap="beat")
    assert [part["description"] for part in state["parts"]] == ["", "drums", ""]
    assert [part["bars"] for part in state["parts"]] == [0.5, 0.5, 0.25]
    assert [part["seeds"] for part in state["parts"]] == [[3], [part_seed(3, 1)], [9]]
    assert state["takes"][0]["seconds"] == pytest.approx(2.25 * BAR, abs=1 / RATE)
    sent = state["parameters"]["parts"]
    assert [(part["description"], part["bars"]) for part in sent] == [("drums", 0.5), ("", None)]
    onward = begun(server, input={"job": state["job_id"]}, prompt_bars=0.5, bars=0.25, snap="off")
    assert (onward["parameters"]["description"], onward["parameters"]["parts"]) == ("", [])
    drums = begun(server, **FEW, parts=parts[:1])
    onward = begun(server, input={"job": drums["job_id"]}, prompt_bars=0.5, bars=0.25, snap="off")
    assert onward["parameters"]["description"] == "drums"
    again = server.post(f"/api/jobs/{state['job_id']}/retry", seed=3)
    again = done(server, again.json()["job_id"])
    url, other = again["takes"][0]["url"], state["takes"][0]["url"]
    assert server.get(url).content == server.get(other).content


def test_music_from_words_has_bars_too(server):
    answer = server.post("/api/generate", description="drums", bpm=BPM, bars=0.5, seed=1)
    state = done(server, answer.json()["job_id"])
    assert state["takes"][0]["seconds"] == pytest.approx(BAR / 2, abs=1 / 32_000)
    assert (state["bars"]["prompt_bars"], state["bars"]["new_bars"]) == (0, 0.5)


def test_a_length_takes_the_place_of_another_when_a_job_is_tried_again():
    bars = {"bpm": 93, "bars": 4, "prompt_bars": 2, "seed": 1}
    spec = JobSpec.build("native", "a", NONE, bars)
    again = JobSpec.build("native", "a", NONE, {"seconds": 3.0, "prompt_seconds": 5}, earlier=spec)
    assert (again.bars, again.prompt_bars, again.seconds) == (None, None, 3.0)
    free = JobSpec.build("native", "a", NONE, {"bpm": None, "output_seconds": 20}, earlier=spec)
    assert (free.bpm, free.bars, free.prompt_bars, free.output_seconds) == (None, None, None, 20)


def test_parts_count_for_what_a_job_takes():
    parts = (Part("drums", bars=2), Part(seconds=3.0))
    given = {"bpm": 120, "bars": 1, "prompt_bars": 1, "parts": parts}
    spec = JobSpec.build("native", "a", NONE, given)
    assert spec.new_seconds == pytest.approx(2 + 4 + 3)
    assert spec.described
    assert spec.rows == 2
    assert JobSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"bpm": None}, "bars needs a tempo"),
        ({"bpm": 5}, "bpm must lie between 20 and 999"),
        ({"bpm": 1000}, "bpm must lie between 0 and 999"),
        ({"bpm": "fast"}, "bpm must be a number"),
        ({"seconds": 2}, "seconds and bars are two lengths of one thing"),
        ({"output_seconds": 2}, "output_seconds and bars are two lengths"),
        ({"prompt_seconds": 2}, "prompt_seconds and prompt_bars are two lengths"),
        ({"snap": "half"}, "snap must be 'off', 'beat' or 'bar'"),
        ({"bars": 200}, "prompt, continuation and parts would be 321.6 s long together"),
        ({"parts": [{"description": "x"}]}, "part 1 needs one length: its seconds or its bars"),
        ({"parts": [{"seconds": 1, "bars": 1}]}, "part 1 needs one length"),
        ({"parts": [{"seconds": 301}]}, "parts.0.seconds must lie between 0.02 and 300"),
        ({"parts": [{"seconds": "x"}]}, "parts.0.seconds must be a number"),
        ({"parts": [{"seconds": 1}] * 9}, "parts must not hold more than 8"),
        ({"parts": [{"seconds": 299}]}, "parts would be"),
        ({"parts": ["text"]}, "parts.0 must be an object"),
        ({"loop_crossfade": "perhaps"}, "loop_crossfade must be true or false"),
        ({"downbeat": "auto", "bpm": None, "bars": None, "prompt_bars": None}, "needs a tempo"),
        ({"prompt_from": "middle"}, "prompt_from must be 'start' or 'end'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(server, fields, said):
    if fields.get("downbeat") == "auto" and not beats.available():
        said = "finding beats needs another package"
    answer = server.post("/api/jobs", **(FEW | fields))
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["error"]


# --- Finding them ---------------------------------------------------------------------------------


@without_tracker
def test_without_a_tracker_a_line_says_that_a_typed_tempo_works(server):
    assert server.get("/api/service").json()["beats"] is False
    answer = server.post("/api/jobs", **FEW | {"bpm": "auto"})
    input_ = server.post("/api/inputs", audio_data=AUDIO).json()["input_id"]
    for refused in (answer, server.get(f"/api/inputs/{input_}/beats")):
        assert refused.status_code == 422
        assert refused.json()["error"] == (
            "finding beats needs another package: pip install 'segue[beats]'; or type the tempo"
        )


def test_words_alone_have_no_tempo_to_be_found(server):
    answer = server.post("/api/generate", description="drums", bpm="auto", bars=1)
    assert answer.status_code == 422
    assert "there is no audio to find a tempo in; type the bpm" in answer.json()["error"]
    assert server.get("/api/inputs/no/beats").status_code == 404


def test_what_is_to_be_found_is_read_without_a_warning(recwarn):
    fields = NativeAudio.model_validate({"bpm": " Auto", "downbeat": "auto", "bars": "2"})
    assert fields.parameters() == {"bpm": "auto", "downbeat": "auto", "bars": 2.0}
    assert not recwarn.list
