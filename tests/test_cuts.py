"""What of a take is written, as what, under which name, and what the file says of itself."""

import io
import json
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from segue import audio
from segue.audio import Audio, Tags
from segue.audio.tags import tagged
from segue.cli import main
from segue.outputs import begin_of, telling

RATE = 44_100
BPM = 240.5
BAR = 240 / BPM * RATE


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def play(toy, capsys):
    """Runs `segue continue` on three seconds of noise, in bars; gives code, JSON and errors."""
    samples = np.random.default_rng(0).normal(0, 0.1, (3 * RATE, 2))
    soundfile.write("song.wav", samples, RATE, "PCM_24")

    def play(*words, bars=("--bpm", f"{BPM}", "--prompt-bars", "1", "--bars", "0.5")):
        few = ["--model", str(toy), "--engine", "mlx", "--seed", "7", "--json", *bars]
        code = main(["continue", "song.wav", *few, *words])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return play


def samples_of(path):
    return soundfile.read(path, dtype="int32", always_2d=True)[0]


def chunks_of(content):
    """The chunks of a WAV, each `(name, content)`; its declared size must be that of all."""
    assert struct.unpack_from("<I", content, 4)[0] == len(content) - 8
    found, at = {}, 12
    while at < len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        found[name.decode()] = content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    assert at == len(content)
    return found


# --- Cuts -----------------------------------------------------------------------------------------


def test_the_whole_the_new_part_and_the_loop_are_the_same_samples(play):
    words = ["--prompt-from-end", "--only", "whole", "--only", "new", "--only", "loop"]
    code, report, err = play(*words)
    assert (code, [output["cut"] for output in report["outputs"]]) == (0, ["whole", "new", "loop"])
    whole, new, loop = (samples_of(output["path"]) for output in report["outputs"])
    assert np.array_equal(whole[report["join_sample"] :], new)
    assert np.array_equal(whole[report["loop_sample"] :], loop)
    assert len(loop) == round(1.5 * BAR)
    assert err == ""
    assert "behind the last whole bar, are left out" in report["notes"][0]
    assert np.array_equal(
        whole[: report["join_sample"]], samples_of("song.wav")[: len(whole) - len(new)]
    )


def test_one_cut_is_one_file_of_the_name_that_is_given(play, here):
    code, report, _ = play("--only", "new", "-o", "new.wav")
    assert (code, [output["path"] for output in report["outputs"]]) == (0, ["new.wav"])
    assert soundfile.info("new.wav").frames == round(1.5 * BAR) - round(BAR)
    assert sorted(path.name for path in here.glob("*.wav")) == ["new.wav", "song.wav"]


def test_names_tell_bars_tempo_and_seed(play, here):
    play("--variations", "2", "--only", "whole", "--only", "new", "--format", "flac")
    names = sorted(path.name for path in here.glob("*.flac"))
    assert names == [
        "song-0.5bars-240.5bpm-seed7-new.flac",
        "song-0.5bars-240.5bpm-seed8-new.flac",
        "song-1.5bars-240.5bpm-seed7.flac",
        "song-1.5bars-240.5bpm-seed8.flac",
    ]
    _, report, _ = play("--format", "flac")
    assert report["outputs"][0]["path"] == "song-1.5bars-240.5bpm-seed7-2.flac"


def test_a_seed_that_is_drawn_is_in_the_name(play):
    _, report, _ = play("--seed", "11")
    assert report["outputs"][0]["path"] == "song-1.5bars-240.5bpm-seed11.wav"


def test_a_long_name_keeps_what_it_tells(here):
    assert begin_of(Path("song-1.5bars-93bpm-seed7-loop-2.wav")) == "song"
    assert begin_of(Path("song-continued-3.wav")) == begin_of(Path("song.wav")) == "song"
    (path,) = telling("x" * 300, {"whole": 4.0}, 93, [7], ".wav")
    assert path.name.endswith("x-4bars-93bpm-seed7.wav")
    path.touch()
    assert telling("y", {"new": 1.0}, 93.25, [1], ".mp3") == [Path("y-1bar-93.25bpm-seed1-new.mp3")]


def test_without_a_tempo_names_are_as_they_were(play, here):
    play("--only", "new", "--only", "whole", bars=("--prompt-seconds", "0.4", "--seconds", "0.2"))
    names = {path.name for path in here.glob("song-*")}
    assert names == {"song-continued-new.wav", "song-continued-whole.wav"}


@pytest.mark.parametrize(
    ("words", "subtype"),
    [
        ("--bits 16", "PCM_16"),
        ("--bits 24", "PCM_24"),
        ("--bits 32", "FLOAT"),
        ("--bits 16 --format flac", "PCM_16"),
        ("--format flac", "PCM_24"),
        ("--format mp3", "MPEG_LAYER_III"),
        ("--format ogg", "VORBIS"),
    ],
)
def test_formats_and_bits(play, words, subtype):
    _, report, _ = play(*words.split())
    found = soundfile.info(report["outputs"][0]["path"])
    assert (found.subtype, found.frames) == (subtype, round(1.5 * BAR))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--bits 32 --format flac", "FLAC has no floats of 32 bits; write a .wav"),
        ("--bits 16 -o a.mp3", "a.mp3: MP3 has no samples of 16 bits"),
        ("-o a.wav --format flac", "-o a.wav and --format both say"),
        ("--codec-prompt --only new", "--codec-prompt writes prompt and new part; drop --only"),
    ],
)
def test_what_cannot_be_written_is_one_line_before_anything_is_loaded(play, words, line):
    code, _, err = play("--model", "nowhere", *words.split())
    assert code == 2
    assert line in err
    assert err.count("\n") == 1


# --- Tags -----------------------------------------------------------------------------------------

SOUND = Audio(np.random.default_rng(0).normal(0, 0.1, (RATE + 1, 2)).astype(np.float32), RATE)
TAGS = Tags("song, continued – ü", "seed 7", 93.5, 3.5, 14.0, True)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_wav_says_its_tempo_and_stays_the_sound_it_was(subtype):
    sound = Audio(SOUND.samples, RATE, subtype)
    audio.write("plain.wav", sound)
    audio.write("tagged.wav", sound, TAGS)
    assert np.array_equal(samples_of("plain.wav"), samples_of("tagged.wav"))
    chunks = chunks_of(Path("tagged.wav").read_bytes())
    info = chunks["LIST"]
    assert info.startswith(b"INFOINAM")
    assert TAGS.title.encode() in info
    assert b"seed 7" in info
    flags, _, _, _, beats, unit, numerator, tempo = struct.unpack("<IHHfIHHf", chunks["acid"])
    assert (flags, beats, unit, numerator, tempo) == (4, 14, 8, 7, 93.5)
    with soundfile.SoundFile("tagged.wav") as file:
        assert (file.title, file.comment) == (TAGS.title, "seed 7")


@pytest.mark.parametrize(
    ("ending", "name"), [("flac", "BPM"), ("mp3", "TBPM"), ("ogg", "BPM"), ("opus", "BPM")]
)
def test_others_say_it_as_their_players_read_it(ending, name):
    rate = 48_000 if ending == "opus" else RATE
    sound = Audio(SOUND.samples, rate)
    audio.write(f"plain.{ending}", sound)
    audio.write(f"tagged.{ending}", sound, TAGS)
    plain, with_tags = (soundfile.read(f"{n}.{ending}")[0] for n in ("plain", "tagged"))
    assert np.array_equal(plain, with_tags)
    with av.open(f"tagged.{ending}") as file:
        found = {**file.metadata, **file.streams.audio[0].metadata}
    assert {key.upper(): value for key, value in found.items()}[name] == "93.5"
    assert {key.lower(): value for key, value in found.items()}["title"] == TAGS.title


def test_without_a_tempo_there_is_none():
    audio.write("a.wav", SOUND, Tags("song"))
    assert "acid" not in chunks_of(Path("a.wav").read_bytes())


def test_a_format_without_tags_is_written_as_it_was():
    content = io.BytesIO(b"anything")
    assert tagged(Path("a.caf"), content, TAGS) is content


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "ogg"])
def test_a_title_that_is_no_utf8_is_written_as_far_as_it_is(ending):
    audio.write(f"a.{ending}", SOUND, Tags("caf\udce9", "seed 7"))
    assert soundfile.info(f"a.{ending}").frames == len(SOUND.samples)


def test_tags_are_the_same_every_time():
    for name in ("a", "b"):
        for ending in ("wav", "flac", "mp3"):
            audio.write(f"{name}.{ending}", SOUND, TAGS)
    for ending in ("wav", "flac", "mp3"):
        assert Path(f"a.{ending}").read_bytes() == Path(f"b.{ending}").read_bytes()


def test_a_take_says_what_it_was_made_with(play):
    _, report, _ = play("--text", "bass", "--only", "loop")
    chunks = chunks_of(Path(report["outputs"][0]["path"]).read_bytes())
    assert b"seed 7: bass" in chunks["LIST"]
    assert b"song, continued" in chunks["LIST"]
    flags, *_, beats, _, _, tempo = struct.unpack("<IHHfIHHf", chunks["acid"])
    assert (flags, beats, tempo) == (4, 6, 240.5)
