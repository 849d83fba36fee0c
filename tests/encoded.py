"""Audio files as other programs write them: with FFmpeg's encoders, or byte by byte."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import soundfile

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


def tones(rate=44_100, channels=2, seconds=2.0, loud=0.4):
    """Synthesize a tone for each channel, each of another pitch: `(T, C)` float32."""
    t = np.arange(round(seconds * rate))[:, None] / rate
    return (loud * np.sin(2 * np.pi * (220 + 110 * np.arange(channels)) * t)).astype(np.float32)


def pitches(samples, rate):
    """The loudest frequency of each channel, to the nearest of those that `tones` has."""
    spectrum = np.abs(np.fft.rfft(samples, axis=0))
    found = spectrum.argmax(axis=0) * rate / len(samples)
    return [round((frequency - 220) / 110) for frequency in found]


def by_ffmpeg(path, codec, samples, rate, container=None, layout=None, stored=None):
    """Write a file with one of FFmpeg's encoders."""
    layout = layout or LAYOUTS[samples.shape[1]]
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout)
        if stored is not None:
            stream.codec_context.format = stored
        stream.codec_context.bit_rate = 96_000 * samples.shape[1]
        stream.codec_context.open()
        whole = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T, np.float32), format="fltp", layout=layout
        )
        whole.sample_rate, whole.pts = rate, 0
        made_right = av.AudioResampler(
            format=stream.codec_context.format,
            layout=layout,
            rate=rate,
            frame_size=stream.codec_context.frame_size,
        )
        for frame in [*made_right.resample(whole), *made_right.resample(None)]:
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return Path(path)


def decoded_by_ffmpeg(path):
    """A file's samples `(T, C)` and the names of its channels, without segue."""
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
    names = [channel.name for channel in frames[0].layout.channels]
    planes = [frame.to_ndarray() for frame in frames]
    if not frames[0].format.is_planar:
        planes = [plane.reshape(-1, len(names)).T for plane in planes]
    return np.concatenate(planes, axis=1).T.astype(np.float64), names


def by_libsndfile(samples, rate=44_100, **options):
    """A file's contents, by one of libsndfile's encoders."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **({"format": "WAV", "subtype": "PCM_16"} | options))
    return file.getvalue()


def mp3(samples, rate=44_100, bitrate_mode="CONSTANT"):
    """An MP3 with a Xing header."""
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", rate, samples.shape[1], format="MP3", bitrate_mode=bitrate_mode
    ) as encoder:
        encoder.write(samples)
    return file.getvalue()


def without_first_frame(data):
    """An MP3 of 44.1 kHz without its Xing header."""
    assert data[36:40] in (b"Xing", b"Info")
    rates = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    return data[144_000 * rates[data[2] >> 4] // 44_100 + (data[2] >> 1 & 1) :]


def id3v2(size=4000):
    """A tag of some pictures' size."""
    return (
        b"ID3\4\0\0"
        + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
        + (b"\xff\xfb\x90\x44" * (size // 4))
    )


def apev2(size=400):
    """A tag with a header and a footer."""
    common = struct.pack("<III", 2000, size + 32, 1)
    return (
        b"APETAGEX" + common + struct.pack("<I", 0xA0000000) + bytes(8)
        + b"x" * size
        + b"APETAGEX" + common + struct.pack("<I", 0x80000000) + bytes(8)
    )  # fmt: skip


LYRICS3 = b"LYRICSBEGININD00003110LYR00042" + b"la la \xff\xfb\x90\x44 " * 4 + b"000074LYRICS200"
ID3V1 = b"TAG" + b"song".ljust(125, b"\0")
