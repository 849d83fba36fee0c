import os
import resource
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from segue import audio
from segue.audio import Audio
from segue.audio.channels import vorbis_order
from segue.errors import AudioError
from tests.encoded import by_ffmpeg, decoded_by_ffmpeg, pitches
from tests.encoded import tones as far_tones

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
    if format_ == "OGG":  # libsndfile wrote Vorbis' own order
        samples = samples[:, vorbis_order(channels)]
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
    head = audio.read(path, 1)
    assert len(head.samples) == 44_100
    assert head.notes == ()
    assert len(audio.read(path).notes) > 0


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


def test_a_flac_from_a_pipe_that_does_not_know_its_length_is_read(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, tones(), 44_100)
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])  # STREAMINFO's count of samples
    path.write_bytes(data)
    assert len(audio.read(path, 0.2).samples) == 8820
    assert len(audio.read(path).samples) == 22_050


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


def test_a_missing_file_and_a_folder_have_different_errors(tmp_path):
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


@pytest.mark.parametrize(("suffix", "channels"), [("wav", 1), ("wav", 3), ("aiff", 2)])
def test_a_file_of_floats_does_not_say_when_it_was_written(tmp_path, suffix, channels):
    path = tmp_path / f"take.{suffix}"
    audio.write(path, Audio(tones(channels=channels), 44_100, "FLOAT"))
    written = path.read_bytes()
    at = written.index(b"PEAK")
    assert written[at + 12 : at + 16] == bytes(4)
    assert np.array_equal(audio.read(path).samples, tones(channels=channels))


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
def test_floats_keep_their_width(given, kept):
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
        ("VORBIS", "a.wav", "FLOAT"),
        ("OPUS", "a.wav", "FLOAT"),
        ("MPEG_LAYER_III", "a.wav", "FLOAT"),
        ("AAC", "a.wav", "FLOAT"),
        ("AAC", "a.aiff", "FLOAT"),
        ("AAC", "a.flac", "PCM_24"),
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
def test_a_full_disk_is_reported_and_leaves_the_old_file_and_no_other(tmp_path, ending, room):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"what was there before")
    noise = np.random.default_rng(0).normal(0, 0.1, (2000, 1))
    with full_disk(room), pytest.raises(AudioError, match=rf"a\.{ending}: cannot be written"):
        audio.write(path, Audio(noise, 48_000))
    assert path.read_bytes() == b"what was there before"
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
def test_what_a_format_cannot_hold_is_reported_before_and_after_the_work(
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


def test_a_missing_folder_is_reported(tmp_path):
    with pytest.raises(AudioError, match="cannot be written"):
        audio.write(tmp_path / "nowhere" / "a.wav", Audio(tones(), 44_100))


def test_a_folder_of_that_name_stays(tmp_path):
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(AudioError, match="cannot be written"):
        audio.write(tmp_path / "a.wav", Audio(tones(), 44_100))
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


# --- What is the user's own -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("mp3", {"format": "MP3"}),
        ("ogg", {"format": "OGG", "subtype": "VORBIS"}),
        ("wav", {"subtype": "FLOAT"}),
        ("aiff", {"subtype": "FLOAT"}),
    ],
)
def test_loud_music_that_decodes_beyond_full_scale_is_written_as_it_was(tmp_path, ending, options):
    square = np.sign(tones(44_100, 2, 1)) * (1.3 if "FLOAT" in options.values() else 0.99)
    soundfile.write(tmp_path / f"hot.{ending}", square, 44_100, **options)
    decoded = audio.read(tmp_path / f"hot.{ending}")
    beyond = int((np.abs(decoded.samples) > 1).sum())
    assert beyond > 50
    assert audio.write(tmp_path / "out.wav", decoded) == []
    written, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert np.array_equal(written, decoded.samples)
    for name in ("out.flac", "out.aiff"):
        (note,) = audio.write(tmp_path / name, decoded) or [""]
        if name == "out.flac":
            assert f"{beyond} of 88200 samples" in note
            assert "out.flac" in note
        else:
            assert note == ""


def test_what_integers_hold_is_no_word_worth(tmp_path):
    samples = np.array([[1.0], [-1.0], [0.5]], np.float32)
    for name in ("a.wav", "a.flac", "a.aiff"):
        assert audio.write(tmp_path / name, Audio(samples, 44_100, "PCM_16")) == []
    (note,) = audio.write(tmp_path / "a.wav", Audio(samples * 1.01, 44_100, "PCM_16"))
    assert "2 of 3 samples" in note


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out.wav").symlink_to("real/target.wav")
    for _ in range(2):  # once dangling, once over what is there
        audio.write(tmp_path / "out.wav", Audio(tones(), 44_100))
        assert (tmp_path / "out.wav").is_symlink()
        assert soundfile.info(tmp_path / "real" / "target.wav").frames == 22_050
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["target.wav"]


def test_a_circular_link_is_reported(tmp_path):
    (tmp_path / "a.wav").symlink_to("b.wav")
    (tmp_path / "b.wav").symlink_to("a.wav")
    with pytest.raises(AudioError, match=r"a\.wav: a link that leads nowhere"):
        audio.write(tmp_path / "a.wav", Audio(tones(), 44_100))
    (tmp_path / "c.wav").symlink_to("nowhere/c.wav")
    with pytest.raises(AudioError, match=r"c\.wav: cannot be written"):
        audio.write(tmp_path / "c.wav", Audio(tones(), 44_100))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_named_pipe_is_written_to(tmp_path):
    pipe, read = tmp_path / "a.wav", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    sound = Audio(tones(seconds=3), 44_100)
    audio.write(pipe, sound)
    reader.join()
    assert pipe.is_fifo()
    audio.write(tmp_path / "b.wav", sound)
    assert read == [(tmp_path / "b.wav").read_bytes()]


# --- Speakers -------------------------------------------------------------------------------------

ORDER = ["FL", "FR", "FC", "LFE", "BL", "BR"]


@pytest.mark.parametrize(
    "name", ["a.wav", "a.rf64", "a.flac", "a.ogg", "a.opus"], ids=lambda name: name[2:]
)
@pytest.mark.parametrize("layout", [0x3F, 0x60F])
def test_every_channel_of_5_1_is_written_for_its_own_speaker(tmp_path, name, layout):
    samples = far_tones(48_000, 6, 0.5) / 2
    notes = audio.write(tmp_path / name, Audio(samples, 48_000, "PCM_24", layout))
    assert notes == []
    # By another decoder: FFmpeg has a name for each channel.
    written, names = decoded_by_ffmpeg(tmp_path / name)
    found = dict(zip(names, pitches(written[:24_000], 48_000), strict=True))
    if name == "a.opus":  # which filters the LFE channel
        found["LFE"] = 3
    # At the back or at the sides is one to most formats.
    assert found == {speaker.replace("B", names[4][0]): n for n, speaker in enumerate(ORDER)}
    again = audio.read(tmp_path / name)
    found = pitches(again.samples[:24_000], 48_000)
    if name == "a.opus":  # which filters the LFE channel
        found[3] = 3
    assert found == list(range(6))
    assert again.layout == (layout if name in ("a.wav", "a.rf64") else 0x3F)


@pytest.mark.parametrize(
    ("channels", "mask"), [(6, 0x3F), (6, 0x60F), (4, 0x107), (1, 0x1), (2, 0x30), (8, 0), (3, 0xB)]
)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_the_channel_mask_of_a_wav_is_kept(tmp_path, channels, mask, subtype):
    samples = tones(channels=channels)
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype, format="WAVEX")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[40:44] = mask.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    decoded = audio.read(tmp_path / "a.wav")
    assert decoded.layout == mask
    assert audio.write(tmp_path / "b.wav", decoded) == []
    written = (tmp_path / "b.wav").read_bytes()
    assert (written[20:22], written[40:44]) == (b"\xfe\xff", data[40:44])
    assert np.array_equal(audio.read(tmp_path / "b.wav").samples, decoded.samples)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_plain_wav_stays_plain(tmp_path, channels):
    soundfile.write(tmp_path / "a.wav", tones(channels=channels), 44_100, "PCM_16")
    decoded = audio.read(tmp_path / "a.wav")
    assert decoded.layout is None
    audio.write(tmp_path / "b.wav", decoded)
    assert (tmp_path / "b.wav").read_bytes()[20:22] == b"\x01\0"


def test_5_1_out_of_a_lossy_format_has_a_mask_as_wav(tmp_path):
    samples = far_tones(48_000, 6, 0.5) / 2
    decoded = audio.read(by_ffmpeg(tmp_path / "a.opus", "libopus", samples, 48_000, "ogg"))
    audio.write(tmp_path / "b.wav", decoded)
    written, names = decoded_by_ffmpeg(tmp_path / "b.wav")
    assert names == ORDER
    found = pitches(written[:24_000], 48_000)
    assert found[:3] + found[4:] == [0, 1, 2, 4, 5]  # Opus filters the LFE channel


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.aiff"])
def test_a_format_that_cannot_name_the_speakers_is_noted(tmp_path, name):
    sound = Audio(tones(48_000, 4), 48_000, "PCM_16", 0x107)  # front three, and one at the back
    (note,) = audio.write(tmp_path / name, sound)
    assert "does not say which speakers" in note


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
