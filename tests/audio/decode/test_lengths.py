"""What a file says of its length, against what is in it: the second counts, and a note says so."""

import struct

import numpy as np
import pytest
import soundfile

from segue import audio
from tests.encoded import (
    ID3V1,
    LYRICS3,
    apev2,
    by_libsndfile,
    id3v2,
    mp3,
    tones,
    without_first_frame,
)

RATE = 44_100


def read(tmp_path, data, name="a", seconds=None):
    (tmp_path / name).write_bytes(data)
    return audio.read(tmp_path / name, seconds)


def close(read, samples, at=0, tolerance=0.05):
    """Whether samples come back at `at`, but for what rings at both ends."""
    part = read.samples[at : at + len(samples)]
    assert part.shape == samples.shape
    return np.abs(part - samples)[4000:-4000].max() < tolerance


def seconds_of(read):
    return len(read.samples) / read.sample_rate


# --- MP3 ------------------------------------------------------------------------------------------


def uneven():
    """Music whose first second says nothing of the bit rate of the others: 6 s."""
    noise = np.random.default_rng(0).normal(0, 0.2, (5 * RATE, 2)).astype(np.float32)
    return np.concatenate([np.zeros((RATE, 2), np.float32), noise])


def test_a_vbr_mp3_without_a_xing_header_is_read_to_its_end(tmp_path):
    samples = uneven()
    whole = mp3(samples, bitrate_mode="VARIABLE")
    decoded = read(tmp_path, without_first_frame(whole))
    assert seconds_of(decoded) == pytest.approx(6, abs=0.1)
    loud = np.abs(decoded.samples[-RATE:]).max()
    assert loud > 0.3
    assert decoded.notes == ()


def test_an_mp3_is_as_long_as_it_was_to_the_sample(tmp_path):
    samples = tones(seconds=1.5)
    decoded = read(tmp_path, mp3(samples))
    assert close(decoded, samples)
    assert len(decoded.samples) == len(samples)
    assert decoded.notes == ()


def test_mp3s_one_behind_the_other_are_all_read_and_joined_without_a_gap(tmp_path):
    samples, others = tones(seconds=1.5), tones(seconds=1, loud=0.2)
    data = mp3(samples) + ID3V1 + id3v2() + mp3(others) + mp3(samples)
    decoded = read(tmp_path, data)
    assert len(decoded.samples) == 2 * len(samples) + len(others)
    assert close(decoded, samples)
    assert close(decoded, others, len(samples))
    assert close(decoded, samples, len(samples) + len(others))
    assert "3 recordings" in decoded.notes[0]


def test_mp3s_of_other_rates_and_channels_go_on_at_the_first_ones(tmp_path):
    samples, others = tones(seconds=1.5), tones(32_000, 1, seconds=1)
    decoded = read(tmp_path, mp3(samples) + mp3(others, 32_000))
    assert (decoded.sample_rate, decoded.channels) == (RATE, 2)
    assert len(decoded.samples) == pytest.approx(2.5 * RATE, abs=2)
    assert close(decoded, np.repeat(tones(channels=1, seconds=1), 2, axis=1)[:-2], len(samples))


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"", bytes(200_000)),
        (b"", LYRICS3 + ID3V1),
        (b"", apev2() + ID3V1),
        (id3v2(), ID3V1),
        (id3v2(30_000) + apev2(), apev2() + LYRICS3 + ID3V1),
        (bytes(3000), b"TAG+" + bytes(223) + ID3V1),
    ],
)
def test_tags_and_zeros_around_an_mp3_are_no_sound(tmp_path, before, behind):
    samples = tones(seconds=1)
    decoded = read(tmp_path, before + mp3(samples) + behind)
    assert len(decoded.samples) == len(samples)
    assert close(decoded, samples)
    assert decoded.notes == ()


def test_an_mp3_that_starts_in_the_middle_of_a_frame_is_read_from_the_next(tmp_path):
    samples = tones(seconds=2)
    data = without_first_frame(mp3(samples))
    decoded = read(tmp_path, data[1000:])
    assert seconds_of(decoded) == pytest.approx(2, abs=0.15)
    assert np.abs(decoded.samples[RATE // 2 : RATE]).max() == pytest.approx(0.4, abs=0.05)


def test_a_cut_mp3_is_read_as_far_as_it_goes_and_a_note_says_so(tmp_path):
    data = mp3(tones(seconds=2))
    decoded = read(tmp_path, data[: len(data) // 2])
    assert seconds_of(decoded) == pytest.approx(1, abs=0.1)
    assert "says 2" in decoded.notes[0]
    bare = without_first_frame(data)
    assert "within a frame" in read(tmp_path, bare[: len(bare) // 2]).notes[0]


def test_a_xing_header_that_counts_too_few_frames_is_not_believed(tmp_path):
    samples = tones(seconds=2)
    data = bytearray(mp3(samples))
    data[44:48] = (10).to_bytes(4, "big")
    decoded = read(tmp_path, bytes(data))
    assert len(decoded.samples) == pytest.approx(len(samples), abs=1200)
    assert close(decoded, samples[: len(samples) - 1200])
    assert "says 0.26" in decoded.notes[0]


def test_rubbish_between_the_frames_of_an_mp3_is_left_out(tmp_path):
    data = mp3(tones(seconds=2))
    rubbish = np.random.default_rng(0).integers(0, 256, 20_000, np.uint8).tobytes()
    decoded = read(tmp_path, data[: len(data) // 2] + rubbish + data[len(data) // 2 :])
    assert seconds_of(decoded) == pytest.approx(2, abs=0.1)
    assert "no sound" in decoded.notes[0]


def test_the_head_of_an_mp3_is_that_of_the_whole(tmp_path):
    data = without_first_frame(mp3(uneven(), bitrate_mode="VARIABLE"))
    head, whole = read(tmp_path, data, seconds=1.5), read(tmp_path, data)
    assert np.array_equal(head.samples, whole.samples[: round(1.5 * RATE)])


# --- Ogg ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("subtype", "rate"), [("VORBIS", 44_100), ("OPUS", 48_000)])
def test_oggs_one_behind_the_other_are_all_read(tmp_path, subtype, rate):
    first, second = tones(rate, seconds=1), tones(rate, seconds=0.5, loud=0.2)
    data = [by_libsndfile(x, rate, format="OGG", subtype=subtype) for x in (first, second)]
    decoded = read(tmp_path, data[0] + data[1] + data[0])
    assert len(decoded.samples) == 2 * len(first) + len(second)
    assert close(decoded, second, len(first))
    assert close(decoded, first, len(first) + len(second))
    assert "3 recordings" in decoded.notes[0]


def test_a_chained_ogg_of_another_rate_is_resampled_to_the_first(tmp_path):
    first = by_libsndfile(tones(seconds=1), format="OGG", subtype="VORBIS")
    second = by_libsndfile(tones(48_000, 1, 1), 48_000, format="OGG", subtype="OPUS")
    decoded = read(tmp_path, first + second)
    assert len(decoded.samples) == pytest.approx(2 * RATE, abs=2)
    assert close(decoded, np.repeat(tones(channels=1, seconds=1), 2, axis=1)[:-2], RATE)


@pytest.mark.parametrize("behind", [bytes(200_000), ID3V1, b"rubbish" * 1000])
def test_bytes_behind_an_ogg_are_no_sound(tmp_path, behind):
    data = by_libsndfile(tones(seconds=1), format="OGG", subtype="VORBIS")
    decoded = read(tmp_path, data + behind)
    assert len(decoded.samples) == RATE
    assert decoded.notes == ()


@pytest.mark.parametrize(("subtype", "rate"), [("VORBIS", 44_100), ("OPUS", 48_000)])
def test_a_cut_ogg_is_read_as_far_as_it_goes_and_a_note_says_so(tmp_path, subtype, rate):
    noise = np.random.default_rng(0).normal(0, 0.1, (5 * rate, 2))
    data = by_libsndfile(noise, rate, format="OGG", subtype=subtype)
    decoded = read(tmp_path, data[: len(data) // 2])
    assert 1.4 < seconds_of(decoded) < 2.6  # a page holds up to a second
    assert "the end of it is missing" in decoded.notes[0]


# --- FLAC -----------------------------------------------------------------------------------------


def flac(samples):
    return by_libsndfile(samples, format="FLAC")


def noise(seconds=4.0):
    return np.random.default_rng(1).integers(-9000, 9000, (round(seconds * RATE), 2), np.int16)


def test_a_cut_flac_is_read_as_far_as_it_goes_and_a_note_says_so(tmp_path):
    samples = noise()
    data = flac(samples)
    decoded = read(tmp_path, data[: len(data) // 2])
    there = len(decoded.samples)
    assert 1.8 < there / RATE < 2
    assert np.array_equal(decoded.samples, (samples[:there] / 32_768).astype(np.float32))
    assert "says 4 s" in decoded.notes[0]


@pytest.mark.parametrize("count", [0, 1000, 2**36 - 1])
def test_a_flac_is_as_long_as_its_frames_whatever_its_header_counts(tmp_path, count):
    samples = noise(1)
    data = bytearray(flac(samples))
    data[21:26] = (int.from_bytes(data[21:26], "big") & 0xF0_00000000 | count).to_bytes(5, "big")
    decoded = read(tmp_path, bytes(data))
    assert np.array_equal(decoded.samples, (samples / 32_768).astype(np.float32))
    assert bool(decoded.notes) == bool(count)  # 0 is the format's own word for "not known"


@pytest.mark.parametrize(("before", "behind"), [(id3v2(), ID3V1), (b"", bytes(200_000))])
def test_tags_and_zeros_around_a_flac_are_no_sound(tmp_path, before, behind):
    samples = noise(1)
    decoded = read(tmp_path, before + flac(samples) + behind)
    assert np.array_equal(decoded.samples, (samples / 32_768).astype(np.float32))


def test_flacs_one_behind_the_other_are_all_read(tmp_path):
    samples = noise(1)
    decoded = read(tmp_path, flac(samples) + flac(samples[:20_000]))
    both = np.concatenate([samples, samples[:20_000]])
    assert np.array_equal(decoded.samples, (both / 32_768).astype(np.float32))
    assert "2 recordings" in decoded.notes[0]


def test_a_damaged_flac_is_read_but_for_the_damage_and_a_note_says_so(tmp_path):
    data = bytearray(flac(noise()))
    data[len(data) // 2] ^= 0x55
    decoded = read(tmp_path, bytes(data))
    right = (noise() / 32_768).astype(np.float32)
    assert decoded.samples.shape == right.shape
    same = (decoded.samples == right).all(axis=1)
    assert same.mean() > 0.85
    assert not decoded.samples[~same].any()  # damage is not played
    assert "damaged" in decoded.notes[0]


# --- WAV and its kin ------------------------------------------------------------------------------


def wav(declared=None, riff=None, behind=b"", samples=None, cut=0):
    """A WAV of two seconds whose header says something else."""
    data = bytearray(by_libsndfile(noise(2) if samples is None else samples))
    at = data.index(b"data")
    if declared is not None:
        data[at + 4 : at + 8] = struct.pack("<I", declared)
    data[4:8] = struct.pack("<I", len(data) - 8 if riff is None else riff)
    return bytes(data[: len(data) - cut]) + behind


@pytest.mark.parametrize("declared", [0, 4000, 0xFFFFFFFF, 0x7FFFF000, 4_000_000])
@pytest.mark.parametrize("riff", [None, 0, 0xFFFFFFFF])
def test_a_wav_is_as_long_as_its_samples_whatever_its_header_says(tmp_path, declared, riff):
    decoded = read(tmp_path, wav(declared, riff))
    assert np.array_equal(decoded.samples, (noise(2) / 32_768).astype(np.float32))
    assert len(decoded.notes) == 1
    assert "2 s of sound are there" in decoded.notes[0]


def test_a_cut_wav_is_read_as_far_as_it_goes_and_a_note_says_so(tmp_path):
    decoded = read(tmp_path, wav(cut=4 * RATE))
    assert len(decoded.samples) == RATE
    assert "says 2 s, and 1 s of sound" in decoded.notes[0]


CHUNK = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf58.29.100\0"


@pytest.mark.parametrize(
    "behind",
    [
        b"",
        CHUNK,
        CHUNK + b"odd!" + struct.pack("<I", 5) + b"12345\0",
        b"mine" + struct.pack("<I", 4) + b"abcd" + CHUNK,
        bytes(70_000),
        ID3V1,
        apev2(),
        id3v2(),
        b"\0",
    ],
)
def test_chunks_behind_the_samples_of_a_wav_are_no_sound(tmp_path, behind):
    decoded = read(tmp_path, wav(behind=behind))
    assert len(decoded.samples) == 2 * RATE
    assert decoded.notes == ()


def test_a_wav_without_a_sample_stays_one(tmp_path):
    assert len(read(tmp_path, wav(samples=np.zeros((0, 2), np.int16), behind=CHUNK)).samples) == 0


def test_a_wav_that_is_right_is_read_without_a_word(tmp_path):
    decoded = read(tmp_path, wav())
    assert decoded.notes == ()
    assert (decoded.subtype, decoded.layout) == ("PCM_16", None)


@pytest.mark.parametrize(
    ("format_", "at", "kind", "values"),
    [
        ("AIFF", lambda data: data.index(b"SSND") + 4, ">I", (0, 4008, 4_000_000)),
        ("AU", lambda data: 8, ">I", (0, 4000, 4_000_000)),
        ("CAF", lambda data: data.index(b"data") + 4, ">q", (-1, 0, 4004, 4_000_000)),
        ("W64", lambda data: data.index(b"data\xf3") + 16, "<q", (-1, 24, 4024, 4_000_000)),
        ("RF64", lambda data: 28, "<q", (-1, 0, 4000, 4_000_000)),
    ],
)
def test_so_are_the_others_that_have_a_length_before_their_samples(
    tmp_path, format_, at, kind, values
):
    samples = noise(2)
    for value in values:
        data = bytearray(by_libsndfile(samples, format=format_))
        struct.pack_into(kind, data, at(data), value)
        decoded = read(tmp_path, bytes(data))
        assert np.array_equal(decoded.samples, (samples / 32_768).astype(np.float32)), value
        assert len(decoded.notes) == 1, value


@pytest.mark.parametrize("format_", ["AIFF", "AU", "CAF", "W64", "RF64"])
def test_they_too_are_read_as_far_as_they_go(tmp_path, format_):
    samples = noise(2)
    data = by_libsndfile(samples, format=format_)
    assert read(tmp_path, data).notes == ()
    decoded = read(tmp_path, data[: len(data) // 2])
    there = len(decoded.samples)
    assert there == pytest.approx(RATE, abs=2000)
    assert np.array_equal(decoded.samples, (samples[:there] / 32_768).astype(np.float32))
    assert "says 2 s" in decoded.notes[0]


def test_a_bw64_is_a_wav(tmp_path):
    samples = noise(1)
    data = b"BW64" + by_libsndfile(samples, format="RF64")[4:]
    decoded = read(tmp_path, data)
    assert np.array_equal(decoded.samples, (samples / 32_768).astype(np.float32))
    assert decoded.notes == ()


def test_what_is_put_right_is_bit_by_bit_what_it_was(tmp_path):
    samples = np.random.default_rng(0).normal(0, 3, (RATE, 2)).astype(np.float32)
    for subtype in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8"):
        data = bytearray(by_libsndfile(samples, subtype=subtype))
        (tmp_path / "right").write_bytes(data)
        at = data.index(b"data") + 4
        data[at : at + 4] = bytes(4)
        wide = "float64" if subtype in ("PCM_32", "DOUBLE") else "float32"
        expected, _ = soundfile.read(tmp_path / "right", dtype=wide)
        assert np.array_equal(read(tmp_path, bytes(data)).samples, expected)
