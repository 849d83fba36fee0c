import os
import resource
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from segue import audio
from segue.audio import Audio
from segue.errors import AudioError

BITS = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


def tones(rate=44_100, channels=2, seconds=0.5):
    """A tone a channel, each of another pitch."""
    t = np.arange(round(seconds * rate))[:, None] / rate
    return (0.4 * np.sin(2 * np.pi * (220 + 55 * np.arange(channels)) * t)).astype(np.float32)


def integers(bits, count=2000, channels=2):
    """Samples of `bits` at full scale of 32 bits, the extremes among them."""
    top = 2 ** (bits - 1)
    values = np.random.default_rng(bits).integers(-top, top, (count, channels))
    values[:4] = [[-top, top - 1], [0, -1], [1, top // 2], [-top + 1, top - 2]]
    return (values << (32 - bits)).astype(np.int32)


@contextmanager
def full_disk(room):
    """No file can grow beyond `room` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def one_line(error):
    return "\n" not in str(error.value)


# --- Reading --------------------------------------------------------------------------------------

FORMATS = [
    # ending, format, subtype, rate, channels, how close samples come back
    ("wav", "WAV", "PCM_U8", 8000, 1, 2**-7),
    ("wav", "WAV", "PCM_16", 44_100, 2, 2**-15),
    ("wav", "WAV", "PCM_24", 96_000, 7, 2**-23),
    ("wav", "WAV", "PCM_32", 48_000, 2, 2**-24),
    ("wav", "WAV", "FLOAT", 44_100, 2, 0),
    ("wav", "WAV", "DOUBLE", 192_000, 1, 0),
    ("wav", "WAVEX", "PCM_24", 48_000, 6, 2**-23),
    ("wav", "RF64", "PCM_16", 48_000, 2, 2**-15),
    ("w64", "W64", "PCM_24", 48_000, 2, 2**-23),
    ("flac", "FLAC", "PCM_16", 44_100, 2, 2**-15),
    ("flac", "FLAC", "PCM_24", 96_000, 7, 2**-23),
    ("aiff", "AIFF", "PCM_16", 44_100, 2, 2**-15),
    ("aif", "AIFF", "PCM_24", 22_050, 1, 2**-23),
    ("caf", "CAF", "PCM_24", 48_000, 2, 2**-23),
    ("au", "AU", "PCM_16", 11_025, 1, 2**-15),
    ("ogg", "OGG", "VORBIS", 44_100, 2, 0.1),
    ("ogg", "OGG", "VORBIS", 96_000, 7, 0.1),
    ("opus", "OGG", "OPUS", 48_000, 2, 0.1),
    ("mp3", "MP3", "MPEG_LAYER_III", 44_100, 2, 0.1),
    ("mp3", "MP3", "MPEG_LAYER_III", 22_050, 1, 0.1),
]


@pytest.mark.parametrize(("ending", "format_", "subtype", "rate", "channels", "close"), FORMATS)
def test_every_format_is_read(tmp_path, ending, format_, subtype, rate, channels, close):
    path, samples = tmp_path / f"a.{ending}", tones(rate, channels, 0.48)
    soundfile.write(path, samples, rate, subtype, format=format_)
    read = audio.read(path)
    assert (read.sample_rate, read.channels, read.subtype) == (rate, channels, subtype)
    assert read.samples.shape == samples.shape
    assert read.seconds == 0.48
    steady = slice(rate // 10, -rate // 10)  # lossy codecs ring at the ends
    assert np.abs(read.samples - samples)[steady].max() <= close


@pytest.mark.parametrize(("ending", "format_", "subtype", "rate", "channels", "close"), FORMATS)
def test_the_head_of_a_file_is_that_of_the_whole(
    tmp_path, ending, format_, subtype, rate, channels, close
):
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, tones(rate, channels), rate, subtype, format=format_)
    head, whole = audio.read(path, 0.2), audio.read(path)
    assert len(head.samples) == rate // 5
    assert np.array_equal(head.samples, whole.samples[: rate // 5])


def test_a_head_longer_than_the_file_is_the_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", tones(), 44_100)
    for seconds in (0.5, 0.6, 1e300, float("inf")):
        assert len(audio.read(tmp_path / "a.wav", seconds).samples) == 22_050


@pytest.mark.parametrize("seconds", [0, -1, -1e300, float("-inf")])
def test_a_head_of_no_length_is_empty(tmp_path, seconds):
    soundfile.write(tmp_path / "a.wav", tones(), 44_100)
    assert audio.read(tmp_path / "a.wav", seconds).samples.shape == (0, 2)


def test_what_is_damaged_behind_the_head_does_not_matter(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (200_000, 1)), 44_100)
    path.write_bytes(path.read_bytes()[:-100_000])
    assert len(audio.read(path, 1).samples) == 44_100
    with pytest.raises(AudioError, match=r"a\.flac"):
        audio.read(path)


def test_a_recording_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tones(), 44_100, "PCM_16")
    path.write_bytes(path.read_bytes()[:-40_000])
    assert len(audio.read(path).samples) == 22_050 - 10_000


def test_a_wav_from_a_pipe_that_does_not_know_its_length_is_read(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tones(), 44_100, "PCM_16")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff" * 4
    path.write_bytes(data)
    assert len(audio.read(path).samples) == 22_050


def test_a_flac_from_a_pipe_that_does_not_know_its_length_is_read_in_part_or_refused(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, tones(), 44_100)
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])  # STREAMINFO's count of samples
    path.write_bytes(data)
    assert len(audio.read(path, 0.2).samples) == 8820
    with pytest.raises(AudioError, match="how long"):
        audio.read(path)


def test_what_is_in_a_file_counts_and_not_its_name(tmp_path):
    soundfile.write(tmp_path / "a.flac", tones(), 44_100)
    for name in ("a.wav", "a.raw", "a"):
        (tmp_path / name).write_bytes((tmp_path / "a.flac").read_bytes())
        assert len(audio.read(tmp_path / name).samples) == 22_050


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.wav", b""),
        ("text.wav", b"no music here\n" * 99),
        ("text.mp3", b"no music here\n" * 99),
        ("text.ogg", b"no music here\n" * 99),
        ("numbers.raw", bytes(range(256)) * 9),
        ("no_ending", b"RIFF"),
        ("half_a_header.wav", b"RIFF\x24\x00\x00\x00WAVEfmt "),
        ("no_stream.flac", b"fLaC" + b"x" * 99),
    ],
)
def test_what_is_no_audio_is_refused_in_one_line_that_names_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=name) as error:
        audio.read(tmp_path / name)
    assert one_line(error)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(AudioError, match=r"missing\.wav: no such file"):
        audio.read(tmp_path / "missing.wav")
    with pytest.raises(AudioError, match="a folder"):
        audio.read(tmp_path)


@pytest.mark.parametrize("rate", [1, 50, 999, 768_001, 2**31 - 1])
def test_a_header_with_an_impossible_rate_is_refused(tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, tones(), 44_100)
    data = bytearray(path.read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(AudioError, match=rf"a\.wav.* {rate} Hz"):
        audio.read(path)


# --- Arrays ---------------------------------------------------------------------------------------


def test_an_array_of_one_dimension_is_one_channel():
    assert audio.from_array(np.zeros(10), 44_100).samples.shape == (10, 1)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (">f4", np.float32),
    ],
)
def test_floats_are_kept_as_wide_as_they_are(given, kept):
    samples = np.array([-1, -0.5, 0, 0.25], given)
    read = audio.from_array(samples, 44_100).samples
    assert read.dtype == kept
    assert np.array_equal(read[:, 0], samples)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_integers_are_taken_at_full_scale(dtype):
    limits = np.iinfo(dtype)
    samples = audio.from_array(np.array([limits.min, 0, limits.max // 2 + 1], dtype), 44_100)
    assert samples.samples[:, 0].tolist() == [-1, 0, 0.5]


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros((2, 2, 2)),
        np.float32(1),
        np.zeros((10, 0)),
        np.zeros(10, bool),
        np.zeros(10, np.uint8),
        np.zeros(10, complex),
        np.array(["a"]),
    ],
)
def test_what_is_no_audio_in_an_array_is_refused(samples):
    with pytest.raises(AudioError):
        audio.from_array(samples, 44_100)


@pytest.mark.parametrize("rate", [0, -44_100, 999, 768_001, float("nan")])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(AudioError, match="sample rate"):
        audio.from_array(np.zeros(10), rate)


# --- Writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("a.wav", "PCM_16"),
        ("a.wav", "PCM_24"),
        ("a.wav", "PCM_32"),
        ("a.flac", "PCM_16"),
        ("a.flac", "PCM_24"),
        ("a.aiff", "PCM_24"),
        ("a.aiff", "PCM_32"),
        ("a.caf", "PCM_24"),
    ],
)
def test_integers_survive_reading_and_writing_bit_by_bit(tmp_path, name, subtype):
    samples = integers(BITS[subtype])
    soundfile.write(tmp_path / name, samples, 48_000, subtype)
    audio.write(tmp_path / f"copy-{name}", audio.read(tmp_path / name))
    copy, _ = soundfile.read(tmp_path / f"copy-{name}", dtype="int32")
    assert np.array_equal(copy, samples)
    assert soundfile.info(tmp_path / f"copy-{name}").subtype == subtype


@pytest.mark.parametrize(("subtype", "dtype"), [("FLOAT", np.float32), ("DOUBLE", np.float64)])
def test_floats_survive_reading_and_writing_bit_by_bit(tmp_path, subtype, dtype):
    samples = np.random.default_rng(0).normal(0, 10, (2000, 2)).astype(dtype)
    samples[:3] = [[1e-30, -1e30], [np.finfo(dtype).tiny, -0.0], [1 / 3, np.pi]]
    soundfile.write(tmp_path / "a.wav", samples, 48_000, subtype)
    audio.write(tmp_path / "copy.wav", audio.read(tmp_path / "a.wav"))
    copy, _ = soundfile.read(tmp_path / "copy.wav", dtype=samples.dtype.name)
    assert np.array_equal(copy, samples)


@pytest.mark.parametrize(
    ("came", "name", "stored"),
    [
        ("PCM_16", "a.wav", "PCM_16"),
        ("PCM_16", "a.flac", "PCM_16"),
        ("PCM_U8", "a.flac", "PCM_24"),
        ("FLOAT", "a.flac", "PCM_24"),
        ("FLOAT", "a.wav", "FLOAT"),
        (None, "a.wav", "PCM_24"),
        (None, "a.AIFF", "PCM_24"),
        ("VORBIS", "a.wav", "PCM_24"),
        ("OPUS", "a.wav", "PCM_24"),
        ("MPEG_LAYER_III", "a.wav", "PCM_24"),
        ("IMA_ADPCM", "a.wav", "PCM_24"),
        ("PCM_24", "a.ogg", "VORBIS"),
        ("MPEG_LAYER_III", "a.ogg", "VORBIS"),
        ("OPUS", "a.ogg", "OPUS"),
        ("PCM_24", "a.opus", "OPUS"),
        ("PCM_24", "a.mp3", "MPEG_LAYER_III"),
        ("MPEG_LAYER_II", "a.mp3", "MPEG_LAYER_III"),
    ],
)
def test_samples_are_stored_as_they_came_where_that_makes_sense(tmp_path, came, name, stored):
    audio.write(tmp_path / name, Audio(tones(48_000), 48_000, came))
    written = soundfile.info(tmp_path / name)
    assert (written.subtype, written.samplerate, written.channels) == (stored, 48_000, 2)
    assert written.frames == 24_000


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
def test_samples_beyond_full_scale_are_clipped_and_do_not_wrap(tmp_path, subtype):
    samples = np.array([[1.0], [1.5], [100.0], [-1.0], [-1.5], [-100.0]])
    audio.write(tmp_path / "a.wav", Audio(samples, 44_100, subtype))
    read = audio.read(tmp_path / "a.wav").samples[:, 0]
    assert (read[:3] > 0.99).all()
    assert (read[3:] == -1).all()


def test_float_files_keep_what_is_beyond_full_scale(tmp_path):
    samples = np.array([[1.5], [-100.0]], np.float32)
    audio.write(tmp_path / "a.wav", Audio(samples, 44_100, "FLOAT"))
    assert np.array_equal(audio.read(tmp_path / "a.wav").samples, samples)


def test_two_minutes_of_vorbis_are_written(tmp_path):
    """libsndfile crashes when it is handed them at once."""
    audio.write(tmp_path / "a.ogg", Audio(np.zeros((120 * 44_100, 2), np.float32), 44_100))
    assert soundfile.info(tmp_path / "a.ogg").frames == 120 * 44_100


def test_nothing_is_written_as_nothing(tmp_path):
    audio.write(tmp_path / "a.wav", Audio(np.zeros((0, 2)), 44_100))
    assert audio.read(tmp_path / "a.wav").samples.shape == (0, 2)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "opus", "mp3", "aiff"])
@pytest.mark.parametrize("room", [0, 1024])
def test_a_full_disk_is_told_and_leaves_the_old_file_and_no_other(tmp_path, ending, room):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"what was there before")
    noise = np.random.default_rng(0).normal(0, 0.1, (2000, 1))
    with full_disk(room), pytest.raises(AudioError, match=rf"a\.{ending}: cannot be written"):
        audio.write(path, Audio(noise, 48_000))
    assert path.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"what was there before")
    with pytest.raises(KeyboardInterrupt), audio.beside(path) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half of")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [path]


def test_until_it_is_whole_a_file_has_another_name_in_the_same_folder(tmp_path):
    path = tmp_path / "a.wav"
    with audio.beside(path) as temporary:
        temporary.write_bytes(b"whole")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_written_file_has_the_permissions_that_the_user_gives_hers(tmp_path, umask):
    before = os.umask(umask)
    try:
        audio.write(tmp_path / "a.wav", Audio(tones(), 44_100))
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "a.wav").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("name", ["a", "a.txt", "a.m4a", "a.raw", "a.sd2", ".wav", "a.wav.part"])
def test_an_ending_that_is_no_format_is_refused(tmp_path, name):
    for function in (audio.check_output, audio.write):
        with pytest.raises(AudioError, match=r"end the name in \.wav, \.flac") as error:
            function(tmp_path / name, Audio(tones(), 44_100))
        assert one_line(error)
    assert not list(tmp_path.iterdir())


def test_the_ending_may_be_in_capitals(tmp_path):
    audio.write(tmp_path / "A.FLAC", Audio(tones(), 44_100))
    assert soundfile.info(tmp_path / "A.FLAC").format == "FLAC"


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [
        ("a.mp3", 96_000, 2),
        ("a.mp3", 7350, 1),
        ("a.mp3", 44_100, 7),
        ("a.opus", 44_100, 2),
        ("a.ogg", 768_000, 2),
        ("a.ogg", 44_100, 256),
        ("a.flac", 44_100, 9),
        ("a.flac", 768_000, 2),
        ("a.wav", 44_100, 1025),
    ],
)
def test_what_a_format_cannot_hold_is_said_before_and_after_the_work(
    tmp_path, name, rate, channels
):
    sound = Audio(np.zeros((10, channels), np.float32), rate)
    for function in (audio.check_output, audio.write):
        with pytest.raises(AudioError, match=f"{channels} channels at {rate} Hz") as error:
            function(tmp_path / name, sound)
        assert one_line(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_checking_an_output_writes_nothing(tmp_path, ending):
    audio.check_output(tmp_path / f"a.{ending}", Audio(tones(), 44_100))
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(AudioError, match="cannot be written"):
        audio.write(tmp_path / "nowhere" / "a.wav", Audio(tones(), 44_100))


def test_a_folder_of_that_name_stays(tmp_path):
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(AudioError, match="cannot be written"):
        audio.write(tmp_path / "a.wav", Audio(tones(), 44_100))
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


# --- Other rates, lengths and channels ------------------------------------------------------------


@pytest.mark.parametrize("rate", [7350, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("length", [0, 1, 2, 999, 12_345, 44_100])
def test_resampled_lengths_are_exact(rate, length):
    samples = np.zeros((length, 2), np.float32)
    assert audio.resample(samples, rate, 32_000).shape == (round(length * 32_000 / rate), 2)
    assert audio.resample(samples, 32_000, rate).shape == (round(length * rate / 32_000), 2)


@pytest.mark.parametrize("rate", [7350, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tone_is_the_same_tone_at_another_rate_and_comes_at_the_same_time(rate, dtype):
    at_rate, at_32k = tones(rate, 3, 0.48).astype(dtype), tones(32_000, 3, 0.48)
    resampled = audio.resample(at_rate, rate, 32_000)
    assert resampled.dtype == dtype
    assert np.abs(resampled - at_32k)[3200:-3200].max() < 1e-3


def test_the_same_rate_changes_nothing():
    samples = tones()
    assert np.array_equal(audio.resample(samples, 44_100, 44_100), samples)


def test_fit_cuts_and_pads_with_silence():
    samples = np.array([[1.0, 2], [3, 4]], np.float32)
    assert audio.fit(samples, 1).tolist() == [[1, 2]]
    assert audio.fit(samples, 3).tolist() == [[1, 2], [3, 4], [0, 0]]
    assert audio.fit(samples, 3).dtype == np.float32


@pytest.mark.parametrize(
    ("have", "want"),
    [
        ([6], [6]),
        ([6], [6, 6]),
        ([6], [6, 6, 6]),
        ([2, 6], [4]),
        ([1, 2, 6], [3]),
        ([2, 6], [2, 6]),
        ([2, 6], [2, 6, 2, 6, 2]),
        ([1, 6, 3], [2, 6]),
        ([1, 6, 3, 8], [2, 7]),
        ([1, 2, 3], [1, 2, 3, 1]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_channels_are_mixed_down_and_spread(have, want, dtype):
    mixed = audio.to_channels(np.array([have, have], dtype), len(want))
    assert mixed.tolist() == [want, want]
    assert mixed.dtype == dtype
