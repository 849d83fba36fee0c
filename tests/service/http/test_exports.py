"""Takes as files for people: parts, formats, names and tags."""

import asyncio
import io
import os
import struct

import av
import numpy as np
import pytest
import soundfile

from segue.service.exports import MOST_BYTES, Exports
from segue.service.jobs.rows import Input
from segue.service.jobs.spec import JobSpec
from segue.service.jobs.store import Store
from segue.service.workers.client import Worker
from tests.service.http.test_native import done, samples_of
from tests.service.server import encoded, song

RATE, BPM = 44_100, 150.0
BAR = 240 / BPM
WIDE = np.random.default_rng(1).integers(-(2**22), 2**22, (4 * RATE, 2), np.int32) << 8
"""24 bits in the upper ones of 32, as libsndfile has them."""

FORMATS = {
    "wav16": ("WAV", "PCM_16", "audio/wav"),
    "wav24": ("WAV", "PCM_24", "audio/wav"),
    "wav32f": ("WAV", "FLOAT", "audio/wav"),
    "flac": ("FLAC", "PCM_24", "audio/flac"),
    "mp3": ("MP3", "MPEG_LAYER_III", "audio/mpeg"),
}


@pytest.fixture(scope="module")
def state(server):
    answer = server.post(
        "/api/jobs",
        audio_data=encoded(WIDE, subtype="PCM_24"),
        file_name='my: "loop".wav',
        bpm=BPM,
        prompt_start=0.4,
        downbeat=0.4,
        prompt_bars=1,
        bars=0.5,
        seed=7,
        description="drums",
    )
    assert answer.status_code == 202, answer.text
    return done(server, answer.json()["job_id"])


def get(server, state, number=1, **query):
    return server.get(f"/api/jobs/{state['job_id']}/takes/{number}/audio", params=query)


def read(answer, dtype="int32"):
    return soundfile.read(io.BytesIO(answer.content), dtype=dtype, always_2d=True)[0]


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_is_what_it_says(server, state, format_):
    answer = get(server, state, format=format_)
    container, subtype, media_type = FORMATS[format_]
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == media_type
    with soundfile.SoundFile(io.BytesIO(answer.content)) as file:
        assert (file.format, file.subtype) == (container, subtype)
        assert (file.samplerate, file.channels) == (RATE, 2)
        assert abs(file.frames / RATE - state["takes"][0]["seconds"]) < 0.06


@pytest.mark.parametrize("format_", ["wav24", "wav32f", "flac"])
def test_the_samples_before_the_join_are_the_input_s_own_in_all_their_bits(server, state, format_):
    join = round(state["join_seconds"] * RATE)
    if format_ == "wav32f":
        samples = read(get(server, state, format=format_), "float64") * 2.0**31
    else:
        samples = read(get(server, state, format=format_))
    assert (samples[:join] == WIDE[:join]).all()


def test_what_is_new_is_not_rounded_to_16_bits(server, state):
    samples = read(get(server, state, part="new", format="wav32f"), "float64") * 32_768
    assert not (samples == np.rint(samples)).all()
    fine = read(get(server, state, part="new", format="wav24")) >> 8
    assert (fine % 256 != 0).any()


def test_a_take_in_16_bits_is_the_one_that_plays_in_the_page(server, state):
    plain = samples_of(server.get(state["takes"][0]["url"]).content)
    assert (read(get(server, state, format="wav16"), "int16") == plain).all()


def test_a_chain_comes_as_one_piece_that_nothing_was_rounded_in(server, state):
    """Three links; each sample is from where it was played, or from the first one's input."""
    link = state
    for seed in (1, 2):
        answer = server.post(
            "/api/jobs",
            input={"job": link["job_id"]},
            prompt_bars=1,
            bars=0.5,
            snap="off",
            seed=seed,
        )
        before, link = link, done(server, answer.json()["job_id"])
        join = round(link["join_seconds"] * RATE)
        parts = (read(get(server, each, format="wav32f"), "float32") for each in (before, link))
        whole, longer = parts
        assert len(longer) > len(whole) >= join
        assert (longer[:join] == whole[:join]).all()
    first = round(state["join_seconds"] * RATE)
    assert (read(get(server, link, format="wav24"))[:first] == WIDE[:first]).all()
    assert link["root"] == state["job_id"]


def test_parts_are_cut_to_the_sample(server, state):
    whole = read(get(server, state))
    start, join = (round(state[f"{name}_seconds"] * RATE) for name in ("loop", "join"))
    assert (read(get(server, state, part="loop")) == whole[start:]).all()
    assert (read(get(server, state, part="new")) == whole[join:]).all()
    assert len(whole) - start == round(1.5 * BAR * RATE)


def test_names_tell_what_is_in_the_file(server, state):
    names = state["takes"][0]["file_names"]
    assert names == {
        "whole": "my- -loop-1.75bars-150bpm-seed7",
        "new": "my- -loop-0.5bars-150bpm-seed7-new",
        "loop": "my- -loop-1.5bars-150bpm-seed7-loop",
    }
    answer = get(server, state, part="new", format="flac")
    assert f"{names['new']}.flac" in answer.headers["content-disposition"].replace("%20", " ")
    assert answer.headers["content-disposition"].startswith("attachment")


def tags_of(content):
    with av.open(io.BytesIO(content)) as file:
        found = {**file.metadata, **file.streams.audio[0].metadata}
    return {name.lower(): value for name, value in found.items()}


def test_files_say_tempo_title_and_how_they_were_made(server, state):
    for format_, bpm in (("flac", "bpm"), ("mp3", "tbpm")):
        tags = tags_of(get(server, state, format=format_).content)
        assert tags["title"].startswith("my: ")
        assert tags["comment"].endswith("seed 7: drums")
        assert tags[bpm] == "150"
    content = get(server, state, part="loop", format="wav24").content
    at = content.index(b"acid") + 8
    flags, _, _, _, beats, _, metre, bpm = struct.unpack_from("<IHHfIHHf", content, at)
    assert (flags, beats, metre, bpm) == (4, 6, 4, 150.0)  # stretches, so it is a loop


def test_a_file_comes_in_ranges_and_is_made_once(server, state):
    folder = server.state / "exports"
    whole = get(server, state, part="loop", format="wav32f")
    before = sorted(folder.iterdir())
    url = f"/api/jobs/{state['job_id']}/takes/1/audio?part=loop&format=wav32f"
    part = server.get(url, headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, whole.content[1000:2000])
    assert sorted(folder.iterdir()) == before


def test_a_name_without_a_tempo_has_the_seed(server):
    answer = server.post("/api/generate", description="slow  piano", seed=5, output_seconds=1)
    state = done(server, answer.json()["job_id"])
    assert state["takes"][0]["file_names"]["whole"] == "slow piano-seed5"
    assert get(server, state, part="loop", format="mp3").status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("1/audio?format=ogg", 422, "format"),
        ("1/audio?part=half", 422, "part"),
        ("2/audio", 404, "there is no take 2"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(server, state, path, status, said):
    answer = server.get(f"/api/jobs/{state['job_id']}/takes/{path}")
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_a_format_that_cannot_hold_it_says_which_can(server):
    sound = song(1.0, 96_000, 1)
    answer = server.post(
        "/api/jobs", audio_data=encoded(sound, 96_000), prompt_seconds=0.5, output_seconds=1, seed=1
    )
    state = done(server, answer.json()["job_id"])
    refused = get(server, state, format="mp3")
    assert refused.status_code == 422
    assert "MP3" in refused.json()["error"]
    assert "write a .wav" in refused.json()["error"]
    assert str(server.state) not in refused.json()["error"]


def test_old_files_make_room_for_new_ones_and_the_ones_in_use_stay(tmp_path):
    now = 1_000_000.0
    store = Store(tmp_path / "state")
    exports = Exports(store, Worker("exporter", {}), clock=lambda: now)
    folder = store.folder / "exports"
    folder.mkdir()
    for name, age in (("old", 9000), ("older", 9001), ("used", 10)):
        with (folder / name).open("wb") as file:
            file.truncate(MOST_BYTES)
        os.utime(folder / name, (now - age, now - age))
    name, path = store.new_input()
    soundfile.write(path, song(1.0), RATE)
    job = store.begin(store.add(JobSpec("native", "a"), Input(name, RATE, 2, RATE, 1)))
    files = store.attempt_folder(job)
    files.mkdir(parents=True)
    soundfile.write(files / "take-1.wav", song(1.0), RATE)
    take = {"file": "take-1.wav", "frames": RATE, "bytes": 1, "seed": 1}
    store.complete(job, {"takes": [take], "join": 100, "sample_rate": RATE})

    async def make():
        made = await exports.file(store.job(job.id), 1, "new", "wav24")
        await exports.close()
        return made

    made = asyncio.run(make())
    store.close()
    assert sorted(path.name for path in folder.iterdir()) == sorted(["used", made.path.name])
    assert len(soundfile.read(made.path)[0]) == RATE - 100
