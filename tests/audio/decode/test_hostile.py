"""Files that are meant to hurt.

Each is read, or refused in one line, whatever is done to it: cut, with bits flipped, with lengths
that nothing has.  What is bounded is counted in samples and bytes, not in seconds.
"""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segue import audio
from segue.audio.decode import open_source
from segue.errors import AudioError
from tests.encoded import ID3V1, LYRICS3, apev2, by_ffmpeg, by_libsndfile, id3v2, mp3, tones

RATE = 48_000
SEEDS = range(12)


def noise(seconds=0.4):
    return np.random.default_rng(0).normal(0, 0.1, (round(seconds * RATE), 2)).astype(np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A file of every kind, by name."""
    folder = tmp_path_factory.mktemp("corpus")
    files = {
        name: by_libsndfile(noise(), RATE, format=name, subtype=subtype)
        for name, subtype in [
            ("WAV", "PCM_16"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"), ("W64", "PCM_16"),
            ("AIFF", "PCM_24"), ("CAF", "PCM_16"), ("AU", "PCM_16"), ("FLAC", "PCM_16"),
        ]
    }  # fmt: skip
    files["VORBIS"] = by_libsndfile(noise(), RATE, format="OGG", subtype="VORBIS")
    files["OPUS"] = by_libsndfile(noise(), RATE, format="OGG", subtype="OPUS")
    files["MP3"] = id3v2() + mp3(noise(), RATE) + apev2() + LYRICS3 + ID3V1
    files["ADPCM"] = by_libsndfile(noise(), RATE, format="WAV", subtype="IMA_ADPCM")
    for name, encoder, container in [
        ("M4A", "aac", "mp4"), ("ALAC", "alac", "mp4"), ("ADTS", "aac", "adts"),
        ("WEBM", "libopus", "webm"), ("OGG-FLAC", "flac", "ogg"), ("WMA", "wmav2", "asf"),
        ("WV", "wavpack", "wv"), ("AC3", "ac3", "ac3"),
    ]:  # fmt: skip
        path = by_ffmpeg(folder / name, encoder, noise(), RATE, container)
        files[name] = path.read_bytes()
    return files


KINDS = [
    "WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU", "FLAC", "VORBIS", "OPUS", "MP3", "ADPCM",
    "M4A", "ALAC", "ADTS", "WEBM", "OGG-FLAC", "WMA", "WV", "AC3",
]  # fmt: skip


def taken(path: Path, most: int) -> int:
    """Samples of a file, of all channels: never more than `most`; 0 if it is refused."""
    count, refusal = 0, None
    try:
        with path.open("rb", buffering=0) as file, open_source(file) as source:
            for block in source.blocks("float32"):
                assert block.ndim == 2
                assert block.shape[1] == source.channels
                count += block.size
                if count > most:
                    return count
    except AudioError as error:
        refusal = str(error)
    assert refusal is None or len(refusal.splitlines()) == 1
    return count


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_is_read_or_refused(corpus, tmp_path, kind):
    data, path = corpus[kind], tmp_path / "a"
    whole = noise().size
    ends = np.random.default_rng(1).integers(0, len(data), 24).tolist() + list(range(0, 64, 4))
    for end in ends:
        path.write_bytes(data[:end])
        assert taken(path, 4 * whole) <= whole + 20_000


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_are_read_or_refused(corpus, tmp_path, kind):
    data, path = corpus[kind], tmp_path / "a"
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        broken = bytearray(data)
        # Half of them where headers are.
        span = len(data) if seed % 2 else min(len(data), 512)
        for at in random.integers(0, span, 1 + seed % 5):
            broken[at] ^= 1 << random.integers(8)
        path.write_bytes(broken)
        # A rate or a count of channels may have become another: that is as long as it is.
        assert taken(path, 40_000_000) <= 40_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_joined_of_two_kinds_is_read_or_refused(corpus, tmp_path, kind):
    path = tmp_path / "a"
    for other in KINDS:
        path.write_bytes(corpus[kind] + corpus[other])
        assert taken(path, 4_000_000) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_whole_file_of_the_corpus_is_read(corpus, tmp_path, kind):
    (tmp_path / "a").write_bytes(corpus[kind])
    assert taken(tmp_path / "a", 10_000_000) >= noise().size - 4096  # WMA's encoder leaves some out


# --- Lengths that nothing has ---------------------------------------------------------------------


def ten_hours_declared():
    """Small files whose headers say ten hours."""
    frames = 36_000 * RATE
    samples = (noise(0.1) * 32_767).astype(np.int16)
    wav = bytearray(by_libsndfile(samples, RATE))
    at = wav.index(b"data") + 4
    wav[at : at + 4] = struct.pack("<I", min(frames * 4, 0xFFFFFFF0))
    aiff = bytearray(by_libsndfile(samples, RATE, format="AIFF"))
    struct.pack_into(">I", aiff, aiff.index(b"COMM") + 10, frames)
    struct.pack_into(">I", aiff, aiff.index(b"SSND") + 4, 0xFFFFFF00)
    flac = bytearray(by_libsndfile(samples, RATE, format="FLAC"))
    kept = int.from_bytes(flac[21:26], "big") & 0xF0_00000000
    flac[21:26] = (kept | frames).to_bytes(5, "big")
    ogg = bytearray(by_libsndfile(noise(0.5), RATE, format="OGG", subtype="VORBIS"))
    # The last page's position; its checksum would have to be made anew, so this one is broken too.
    struct.pack_into("<Q", ogg, ogg.rindex(b"OggS") + 6, frames)
    music = bytearray(mp3(tones(seconds=0.5)))
    music[44:48] = (36_000 * 38).to_bytes(4, "big")
    return {"wav": wav, "aiff": aiff, "flac": flac, "ogg": ogg, "mp3": music}


@pytest.mark.parametrize("kind", ["wav", "aiff", "flac", "ogg", "mp3"])
def test_ten_hours_that_are_only_declared_take_no_memory(tmp_path, kind):
    path = tmp_path / "a"
    path.write_bytes(ten_hours_declared()[kind])
    decoded = audio.read(path)
    assert 0 < decoded.seconds < 1
    assert decoded.samples.base is None or decoded.samples.base.size < 2**24
    if kind != "ogg":
        assert "header" in decoded.notes[0]


def test_a_header_with_a_huge_length_allocates_nothing(tmp_path):
    """In a process that may have 2 GB of address space, where ten hours would be 14 GB."""
    for kind, data in ten_hours_declared().items():
        (tmp_path / kind).write_bytes(data)
    script = (
        "import resource, sys\n"
        "from segue import audio\n"
        "import segue.audio.decode.ffmpeg\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "for path in sys.argv[1:]:\n"
        "    assert audio.read(path).seconds < 1\n"
    )
    paths = [str(path) for path in tmp_path.iterdir()]
    run = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True)
    assert run.returncode == 0, run.stderr.decode()


def test_silence_is_given_out_piece_by_piece(tmp_path):
    """Of two hours in half a megabyte, only what is taken is decoded."""
    path = tmp_path / "bomb"
    silence = np.zeros((1 << 20, 1), np.int16)
    block = by_libsndfile(silence, 8000, format="FLAC")
    path.write_bytes(block * 60)
    with path.open("rb", buffering=0) as file, open_source(file) as source:
        blocks, counted = source.blocks("float32"), 0
        while counted < 3_000_000:
            count = len(next(blocks))
            assert count < 100_000
            counted += count
    assert path.stat().st_size < 3_000_000
    assert audio.read(path, 2).samples.shape == (16_000, 1)


def test_more_than_fits_into_memory_is_refused_and_not_tried(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    path.write_bytes(by_libsndfile(tones(seconds=2)))
    monkeypatch.setattr("segue.audio.files.half_of_memory", lambda: 44_100 * 8)
    assert audio.read(path, 1).seconds == 1
    with pytest.raises(AudioError, match=r"a\.wav: .*does not fit into memory"):
        audio.read(path)


# --- Time, counted in what is looked at -----------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfb" * 200_000,
        b"\xff\xfb\x90\x44" + b"\xff" * 600_000,
        mp3(tones(seconds=0.3)) + b"\xff\xfb\x90\x00\x00" * 120_000,
        b"ID3\4\0\0\0\0\0\0" * 60_000,
        b"OggS" * 100_000,
        by_libsndfile(tones(seconds=0.1), format="OGG", subtype="VORBIS")[:58] * 10_000,
        b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 50_000,
        b"FORM\xff\xff\xff\xffAIFF" + b"junk\0\0\0\0" * 50_000,
        b"caff\0\1\0\0" + (b"junk" + bytes(8)) * 40_000,
        b"fLaC\0\0\0\x22" * 50_000,
        bytes(600_000),
    ],
)
def test_what_looks_like_many_headers_is_given_up(tmp_path, data, monkeypatch):
    looked = []
    from segue.audio.decode.view import Bytes

    at = Bytes.at

    def counted(self, start, count):
        looked.append(1)
        return at(self, start, count)

    monkeypatch.setattr(Bytes, "at", counted)
    path = tmp_path / "a"
    path.write_bytes(data)
    taken(path, 10_000_000)
    assert len(looked) < 1_500_000
