"""Audio that is meant to hurt: each is a 4xx, and the service stays small and well."""

import base64
import io
import os
import signal

import numpy as np
import pytest
import soundfile

from .server import encoded, song
from .soak.hostile import flac_of_silence, hostile, wav


def refused(server, data, said):
    encoded_ = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    answer = server.post("/api/juce/process_audio", audio_data=encoded_)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["error"]


@pytest.fixture(scope="module")
def ten_hours():
    return flac_of_silence()


@pytest.mark.slow
def test_ten_hours_of_silence(server, ten_hours):
    assert len(ten_hours) < 4_000_000
    refused(server, ten_hours, "longer than the 600 s")


def test_ten_hours_of_silence_that_do_not_say_how_long_they_are(server, ten_hours):
    # The number of samples is 36 bits at byte 21 of a FLAC; zero means unknown.
    unknown = ten_hours[:21] + bytes([ten_hours[21] & 0xF0]) + bytes(4) + ten_hours[26:]
    refused(server, unknown, "longer than the 600 s")


def test_a_flac_that_promises_more_than_it_holds(server):
    file = io.BytesIO()
    soundfile.write(file, song(1, 44_100, 1), 44_100, format="FLAC")
    data = file.getvalue()
    lying = data[:21] + bytes([data[21] | 0x0F]) + b"\xff" * 4 + data[26:]
    answer = server.post("/api/jobs", audio_data=base64.b64encode(lying).decode(), prompt_start=0.5)
    assert answer.status_code == 202
    server.delete(f"/api/jobs/{answer.json()['job_id']}")
    answer = server.post("/api/jobs", audio_data=base64.b64encode(lying).decode(), prompt_start=1.5)
    assert "the audio is 1 s long" in answer.json()["error"]


def test_a_wav_whose_header_promises_gigabytes_is_what_it_holds(server):
    two_seconds = song(2, 44_100, 1).tobytes()
    data = wav(two_seconds, announced=0xFFFFFFF0)
    answer = server.post("/api/jobs", audio_data=base64.b64encode(data).decode(), prompt_start=1.5)
    assert answer.status_code == 202
    server.delete(f"/api/jobs/{answer.json()['job_id']}")
    refused(server, wav(b"", announced=0xFFFFFFF0), "the audio")


@pytest.mark.parametrize("rate", [0, 1, 7_999, 192_001, 0xFFFFFFFF])
def test_rates_that_no_converter_has(server, rate):
    refused(server, wav(rate=rate), "the audio")


@pytest.mark.parametrize("channels", [0, 9, 1000, 65_535])
def test_channels_that_nobody_has(server, channels):
    refused(server, wav(channels=channels, frames=b"\0" * 200_000), "the audio")


def test_samples_that_are_no_sound(server):
    for value in (np.nan, np.inf, 1e35):
        samples = np.zeros((1000, 1), np.float32)
        samples[500] = value
        refused(server, encoded(samples, subtype="FLOAT"), "no sound")


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 100,
        b"RIFF",
        b"fLaC" + b"\xff" * 1000,
        b"OggS" + b"\0" * 1000,
        b"ID3\4" + b"\x7f" * 1000,
        b"#!/bin/sh\nrm -rf ~\n",
        b"PK\3\4" + b"\0" * 1000,
        wav()[:30],
    ],
)
def test_what_is_no_audio(server, data):
    refused(server, data, "the audio cannot be read")


def test_base64_that_goes_on_behind_its_end(server):
    refused(server, "AAAA=" + "A" * 3_000_000, "no base64")
    refused(server, "A" * 2_000_001 + "é", "no base64")


def test_base64_in_lines_and_with_a_prefix_is_taken(server):
    lines = encoded(song(1))
    lines = "data:audio/wav;base64," + "\r\n".join(
        lines[n : n + 76] for n in range(0, len(lines), 76)
    )
    answer = server.post("/api/jobs", audio_data=lines)
    assert answer.status_code == 202, answer.text
    server.delete(f"/api/jobs/{answer.json()['job_id']}")


def test_a_reader_that_breaks_is_replaced(server):
    refused(server, wav(channels=9), "9 channels")
    (reader,) = server.workers("reader")
    os.kill(reader, signal.SIGKILL)
    refused(server, wav(channels=9), "9 channels")
    assert server.workers("reader") != [reader]


def test_nothing_is_left_of_what_was_refused(server, ten_hours):
    before = sorted((server.state / "inputs").iterdir())
    refused(server, ten_hours, "longer")
    refused(server, b"\0" * 100, "cannot be read")
    assert sorted((server.state / "inputs").iterdir()) == before
    assert list((server.state / "uploads").iterdir()) == []


@pytest.mark.slow
def test_of_all_attacks_every_seventh(server):
    hostile(server, quick=True, every=7)


def test_the_service_is_well_afterwards(server):
    assert server.get("/health").json()["status"] == "live"
    assert not [line for line in server.lines() if line["message"] == "fault"]
