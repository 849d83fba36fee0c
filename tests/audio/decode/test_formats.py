"""What people bring that libsndfile has no decoder for."""

import io
import os
import struct
import subprocess
import sys
import threading
from contextlib import suppress

import av
import numpy as np
import pytest

from segue import audio
from segue.errors import AudioError
from tests.encoded import by_ffmpeg, by_libsndfile, pitches, tones

FORMATS = [
    # name, encoder, container, rate, subtype, how far a lossy encoder pads, how close it comes
    ("a.m4a", "aac", None, 44_100, "AAC", 2100, 0.1),
    ("a.mp4", "aac", None, 48_000, "AAC", 2100, 0.1),
    ("a.aac", "aac", "adts", 44_100, "AAC", 3200, None),
    ("a.m4a", "alac", None, 44_100, "PCM_24", 0, 2**-23),
    ("a.webm", "libopus", None, 48_000, "OPUS", 1000, 0.1),
    ("a.mka", "libopus", "matroska", 48_000, "OPUS", 1000, 0.1),
    ("a.oga", "flac", "ogg", 44_100, "PCM_16", 0, 2**-15),
    ("a.mka", "flac", "matroska", 44_100, "PCM_16", 0, 2**-15),
    ("a.wma", "wmav2", "asf", 44_100, "WMAV2", 9000, None),
    ("a.ac3", "ac3", None, 48_000, "AC3", 2000, None),
    ("a.mp2", "mp2", "mp2", 44_100, "MPEG_LAYER_II", 2000, None),
    ("a.wv", "wavpack", None, 44_100, "PCM_16", 0, 2**-15),
    ("a.caf", "alac", "caf", 44_100, "PCM_24", 0, 2**-23),
    ("a.wav", "adpcm_ima_wav", None, 44_100, "IMA_ADPCM", 2100, 0.05),
]


@pytest.mark.parametrize(
    ("name", "encoder", "container", "rate", "subtype", "padding", "close"), FORMATS
)
def test_it_is_read(tmp_path, name, encoder, container, rate, subtype, padding, close):
    samples = tones(rate, seconds=1.5)
    stored = "s16p" if encoder == "wavpack" else None
    path = by_ffmpeg(tmp_path / name, encoder, samples, rate, container, stored=stored)
    decoded = audio.read(path)
    assert (decoded.sample_rate, decoded.channels, decoded.subtype) == (rate, 2, subtype)
    assert abs(len(decoded.samples) - len(samples)) <= padding
    assert pitches(decoded.samples[: len(samples)], rate) == [0, 1]
    if close is not None:
        steady = slice(rate // 5, -rate // 5)
        assert np.abs(decoded.samples[: len(samples)] - samples)[steady].max() <= close
    assert decoded.notes == ()
    head = audio.read(path, 0.5)
    assert np.array_equal(head.samples, decoded.samples[: rate // 2])


def test_the_sound_of_a_film_is_read(tmp_path):
    path = tmp_path / "a.mp4"
    samples = tones(seconds=1)
    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", rate=10, width=16, height=16, pix_fmt="yuv420p")
        stream = file.add_stream("aac", rate=44_100, layout="stereo")
        for _ in range(10):
            file.mux(video.encode(av.VideoFrame(16, 16, "yuv420p")))
        file.mux(video.encode(None))
        whole = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T), format="fltp", layout="stereo"
        )
        whole.sample_rate, whole.pts = 44_100, 0
        pieces = av.AudioResampler("fltp", "stereo", 44_100, 1024)
        for frame in [*pieces.resample(whole), *pieces.resample(None)]:
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert pitches(audio.read(path).samples[:44_100], 44_100) == [0, 1]


@pytest.mark.parametrize(
    ("encoder", "container", "name"),
    [("aac", "adts", "a.aac"), ("libopus", "webm", "a.webm"), ("flac", "ogg", "a.oga")],
)
def test_it_is_read_as_far_as_it_goes(tmp_path, encoder, container, name):
    noise = np.random.default_rng(0).normal(0, 0.1, (4 * 48_000, 2)).astype(np.float32)
    path = by_ffmpeg(tmp_path / name, encoder, noise, 48_000, container)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    decoded = audio.read(path)
    assert 1 < decoded.seconds < 3
    assert decoded.notes or container == "adts"  # which has no length to compare with


def test_a_film_without_sound_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", rate=10, width=16, height=16, pix_fmt="yuv420p")
        file.mux(video.encode(av.VideoFrame(16, 16, "yuv420p")))
        file.mux(video.encode(None))
    with pytest.raises(AudioError, match=r"a\.mp4: cannot be read as audio: there is no sound"):
        audio.read(path)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    ],
)
def test_no_file_opens_another_one(tmp_path, text):
    (tmp_path / "other.wav").write_bytes(by_libsndfile(tones(seconds=1)))
    for name in ("a.m3u8", "a.wav", "a"):
        (tmp_path / name).write_text(text.format(tmp_path / "other.wav"))
        with pytest.raises(AudioError):
            audio.read(tmp_path / name)


# --- Pipes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_a_named_pipe_is_read_to_its_end(tmp_path, format_):
    subtype = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}.get(format_, "PCM_16")
    data = by_libsndfile(tones(seconds=1), format=format_, subtype=subtype)
    (tmp_path / "file").write_bytes(data)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()
    decoded = audio.read(tmp_path / "pipe")
    writer.join()
    assert np.array_equal(decoded.samples, audio.read(tmp_path / "file").samples)


def test_standard_input_is_read(tmp_path):
    script = "import sys; from segue import audio; print(audio.read('-').samples.shape)"
    data = by_libsndfile(tones(seconds=1))
    for given in ({"input": data}, {"stdin": None}):
        if "stdin" in given:
            (tmp_path / "a").write_bytes(data)
            given["stdin"] = (tmp_path / "a").open("rb")
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, **given)
        assert run.stdout.decode().strip() == "(44100, 2)", run.stderr


def test_a_closed_or_empty_standard_input_is_reported(monkeypatch):
    class Stdin:
        closed = False
        buffer = io.BytesIO()

        def isatty(self):
            return False

    monkeypatch.setattr(sys, "stdin", Stdin())
    with pytest.raises(AudioError, match="-: cannot be read as audio: it is empty"):
        audio.read("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(AudioError, match="nothing is piped"):
        audio.read("-")


def test_a_pipe_without_an_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("segue.audio.decode.opening.PIPED_BYTES", 3 << 20)
    os.mkfifo(tmp_path / "pipe")

    def pour():
        with suppress(BrokenPipeError), (tmp_path / "pipe").open("wb") as pipe:
            while True:
                pipe.write(bytes(1 << 20))

    writer = threading.Thread(target=pour)
    writer.start()
    with pytest.raises(AudioError, match="no end"):
        audio.read(tmp_path / "pipe")
    writer.join()


def test_a_device_is_no_file():
    with pytest.raises(AudioError, match="neither a file nor a pipe"):
        audio.read("/dev/zero")


# --- Channels -------------------------------------------------------------------------------------

ORDER = ["FL", "FR", "FC", "LFE", "BL", "BR"]
"""WAV's, which samples are in here."""


@pytest.mark.parametrize(
    ("name", "encoder", "container"),
    [
        ("a.ogg", "libvorbis", "ogg"),
        ("a.opus", "libopus", "ogg"),
        ("a.webm", "libopus", "webm"),
        ("a.flac", "flac", "flac"),
        ("a.oga", "flac", "ogg"),
        ("a.m4a", "aac", "mp4"),
        ("a.m4a", "alac", "mp4"),
        ("a.wav", "pcm_s16le", "wav"),
        ("a.ac3", "ac3", "ac3"),
    ],
)
def test_every_channel_of_5_1_comes_for_its_own_speaker(tmp_path, name, encoder, container):
    samples = tones(48_000, 6, 1, loud=0.2)
    path = tmp_path / name
    if encoder == "libvorbis":  # FFmpeg's wheel has no encoder for it; this is Vorbis' own order
        vorbis = samples[:, [0, 2, 1, 4, 5, 3]]
        path.write_bytes(by_libsndfile(vorbis, 48_000, format="OGG", subtype="VORBIS"))
    else:
        by_ffmpeg(path, encoder, samples, 48_000, container)
    decoded = audio.read(path)
    found = pitches(decoded.samples[:48_000], 48_000)
    # AAC and AC-3 filter the LFE channel; what is left of its tone may be nothing.
    assert [found[n] for n in (0, 1, 2, 4, 5)] == [0, 1, 2, 4, 5]
    assert decoded.layout in (0x3F, 0x60F)


def test_opus_channels_without_speakers_stay_in_their_order(tmp_path):
    samples = tones(48_000, 9, 1, loud=0.1)
    path = tmp_path / "a.opus"
    path.write_bytes(by_libsndfile(samples, 48_000, format="OGG", subtype="OPUS"))
    decoded = audio.read(path)
    assert decoded.layout == 0
    assert pitches(decoded.samples, 48_000) == list(range(9))


def caf_with_layout(samples, tag):
    """A CAF whose `chan` chunk names one of Core Audio's layouts."""
    data = by_libsndfile(samples, 48_000, format="CAF")
    at = data.index(b"data")
    return data[:at] + b"chan" + struct.pack(">qIII", 12, tag, 0, 0) + data[at:]


def test_the_layout_of_a_caf_is_heeded(tmp_path):
    samples = tones(48_000, 6, 1, loud=0.2)
    mpeg_5_1_c = 123 << 16 | 6  # L C R Ls Rs LFE
    path = tmp_path / "a.caf"
    path.write_bytes(caf_with_layout(samples[:, [0, 2, 1, 4, 5, 3]], mpeg_5_1_c))
    decoded = audio.read(path)
    assert pitches(decoded.samples, 48_000) == [0, 1, 2, 3, 4, 5]
    assert decoded.layout in (0x3F, 0x60F)


def test_which_decoder_explains_a_refusal_is_decided_by_its_code(tmp_path, monkeypatch):
    """libsndfile explains what it knows, and FFmpeg what libsndfile does not know."""
    monkeypatch.setattr("segue.audio.decode.sndfile.reason", lambda error: "libsndfile's reason")
    unknown, damaged = tmp_path / "unknown", tmp_path / "damaged.wav"
    unknown.write_bytes(b"nothing that is known to anybody " * 100)
    damaged.write_bytes(struct.pack("<4sI8s", b"RIFF", 4, b"WAVEdata"))
    with pytest.raises(AudioError) as refused:
        audio.read(unknown)
    assert "libsndfile's reason" not in str(refused.value)
    with pytest.raises(AudioError, match="libsndfile's reason"):
        audio.read(damaged)
