"""The report of a matrix, as files; tests/web looks at it in a browser."""

import base64
import hashlib
import io
import json
import re
import shutil
import struct
import zlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from segue import audio
from segue.checkpoints.recipe import Recipe
from segue.errors import OutputError, RequestError
from segue.lab.figures import interval, number
from segue.lab.pick import pick
from segue.lab.quality.distances import loudness
from segue.lab.report import findings, listening, spectrogram
from segue.lab.report.listening import gather
from segue.lab.report.write import markdown, write_report
from segue.lab.results import Matrix
from segue.lab.variant import Variant
from tests.disks import fill, small_disk
from tests.lab import matrix_folder

STORED = Path(__file__).parent / "stored"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rows = [*matrix_folder.matrix()["rows"], matrix_folder.failed()]
    path = tmp_path_factory.mktemp("matrix")
    matrix_folder.write(path, matrix_folder.matrix(rows=rows), seconds=4.0)
    write_report(path)
    return path


def test_it_writes_markdown_and_one_page(folder):
    assert write_report(folder) == [folder / "report.md", folder / "report.html"]


def test_the_same_matrix_makes_the_same_files(folder):
    before = [path.read_bytes() for path in write_report(folder)]
    assert [path.read_bytes() for path in write_report(folder)] == before


@pytest.mark.parametrize("content", [None, "{", "[]", '{"schema": 2, "rows": []}'])
def test_what_is_no_matrix_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "matrix.json").write_text(content)
    with pytest.raises(RequestError, match=r"matrix\.json"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(folder, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        shutil.copy(folder / "matrix.json", disk)
        fill(disk)
        with pytest.raises(OutputError, match=r"report\.md: cannot be written \(No space left"):
            write_report(disk)
        assert {path.name for path in disk.iterdir()} == {"matrix.json", "filler"}


SINCE = {"bits_per_weight", "kl_text", "kl_guided"}
"""What reports have since that one was written."""


def test_a_stored_matrix_is_read_to_its_last_figure():
    """`stored/matrix.json` was written by segue 0.1.0, from a toy checkpoint."""
    matrix = Matrix.read(STORED)
    assert (matrix.model, matrix.seed, matrix.max_kl) == ("toy", "7", 0.02)
    assert [(row.name, row.status) for row in matrix.rows] == [
        ("baseline", "ok"),
        ("float16", "ok"),
        ("q8", "ok"),
    ]
    assert matrix.is_picked(matrix.rows[0])
    assert matrix.pick.to_json() == pick(matrix).to_json()
    for row in matrix.rows:
        # Nothing that this version looks for goes by another name there.
        missing = [
            field.name for field in fields(row.bench) if getattr(row.bench, field.name) is None
        ]
        missing += [f.name for f in fields(row.quality) if getattr(row.quality, f.name) is None]
        assert set(missing) == SINCE
    baseline, _, q8 = matrix.rows
    assert q8.variant() == Variant("q8", None, Recipe(bits=8))
    assert (q8.bench.weights_bytes, q8.bench.quantized_modules) == (207_616, 24)
    assert baseline.quality.never_diverged
    assert baseline.generate_seconds == pytest.approx(0.028922, rel=1e-3)
    text = markdown(matrix)
    assert "| 1 | baseline | as stored | **1.03** | **17.6** |" in text
    assert "- quality measured on: 1 of prompts, 2 s of music, 200 tokens\n" in text


# --- Markdown -------------------------------------------------------------------------------------


def test_markdown_has_the_pick_the_table_and_where_it_comes_from(folder):
    text = (folder / "report.md").read_text()
    assert "**Pick: q8-g64-decoder-linears.**" in text
    assert "--quantize --q-bits 8" in text
    assert "G4L_MLX_Q_BITS=8" in text
    assert "| 3 | q8-g64-decoder-linears |" in text
    assert "failed: the process was killed: out of memory" in text
    assert "- ran on: mlx (TEST DATA), in float16; mlx (TEST DATA), in float32\n" in text
    assert "- quality measured on: 1 of segue's own prompts, 50 s of music, 9600 tokens\n" in text
    for fact in ("seed: 12345", "segue: 0.1.0", "processor: none", "model: example/test-data"):
        assert f"- {fact}" in text


def test_a_row_of_markdown_has_as_many_cells_as_its_head(folder):
    lines = [line for line in (folder / "report.md").read_text().splitlines() if line[:1] == "|"]
    assert len(lines) == 8
    assert len({line.count("|") for line in lines}) == 1


def test_markdown_is_not_broken_by_names():
    hostile = "a|b\n| --- |\n```\n<img src=x> *c* [d](e) \\"
    found = matrix_folder.matrix(model=hostile)
    found["rows"][0]["name"] = hostile
    found["pick"]["command"] = f"true\n```\n{hostile}"
    text = markdown(Matrix.from_json(found))
    assert "<img" not in text.replace(found["pick"]["command"], "")
    row = next(line for line in text.splitlines() if line.startswith("| 1 |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 16
    # The fence is longer than the one inside.
    assert text.count("````") == 2


def test_without_a_pick_the_report_has_the_reason():
    found = matrix_folder.matrix(pick=None)
    assert "none stays within 0.02 nats a token" in markdown(Matrix.from_json(found))
    for row in found["rows"]:
        row["quality"] = None
    assert "quality was not measured" in markdown(Matrix.from_json(found))


# --- Figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234.5, "1234"),
        (99.96, "100"),
        (9.999, "10.0"),
        (11.8, "11.8"),
        (1.6949, "1.69"),
        (0.0312, "0.0312"),
        (0.00099, "9.9·10⁻⁴"),
        (2.1e-16, "2.1·10⁻¹⁶"),
        (-0.5, "-0.500"),
    ],
)
def test_figures_have_three_digits(value, text):
    assert findings.significant(value) == text


@pytest.mark.parametrize("bad", [None, "1", float("nan"), float("inf"), True, [], {"median": 2}])
def test_what_is_no_number_is_none(bad):
    assert number({"a": {"b": bad}}, "a", "b") is None
    assert interval({"a": [bad, 1]}, "a") is None


def read(rows=None):
    """The rows of a matrix, as the report has them."""
    return Matrix.from_json({"rows": matrix_folder.matrix()["rows"] if rows is None else rows}).rows


def test_the_baseline_is_not_the_best_at_being_itself():
    rows = read()
    columns = {column.title: column for column in findings.columns(rows)}
    assert columns["KL"].best(rows) == [1]
    assert columns["step"].best(rows) == [4]


def test_what_never_diverged_is_known_to_be_at_least_so():
    rows = read()
    column = next(c for c in findings.columns(rows) if c.title == "plays alike")
    assert [column.text(row) for row in rows[:2]] == ["≥ 250", "181"]


def test_loading_and_running_are_separate_columns():
    row = matrix_folder.matrix()["rows"][3]
    text = {column.title: column.text(*read([row])) for column in findings.columns(read([row]))}
    assert (text["load"], text["run"]) == ("2.60", "2.43")
    row["bench"]["steady"] = None
    row["bench"]["first_run"] = {"timings_s": {"total_s": 3.0}}
    assert read([row])[0].bench.run_seconds == 3.0


def test_divergence_has_its_interval():
    rows = read()
    column = next(c for c in findings.columns(rows) if c.title == "KL")
    assert [column.text(row) for row in rows[:4]] == [
        "0",
        "2.1·10⁻⁶ ± 6.6·10⁻⁷",
        "0.00110 ± 0.00035",
        "0.0312 ± 0.0098",
    ]
    assert column.best(rows) == [1]
    unsure = matrix_folder.matrix()["rows"][3]
    unsure["quality"]["kl"]["overall"]["ci95"] = None
    assert column.text(*read([unsure])) == "0.0312"


def test_rows_of_different_engines_get_a_note():
    rows = matrix_folder.matrix()["rows"]
    for row, engine in zip(rows, ("mlx", "openvino", "mlx", "mlx", "mlx"), strict=True):
        row["bench"]["engine"] = engine
    assert "The rows ran on mlx and openvino: their times do not compare" in findings.notes(
        read(rows)
    )


def test_what_is_equal_everywhere_is_nowhere_best():
    rows = read()[:1] * 3
    assert not any(column.best(rows) for column in findings.columns(rows))


# --- Sound ----------------------------------------------------------------------------------------


def test_what_is_embedded_is_bit_for_bit_what_was_written(folder):
    page = (folder / "report.html").read_text()
    for n, row in enumerate(matrix_folder.matrix()["rows"]):
        flac = base64.b64decode(re.search(rf'id="take-0-{n}">([^<]+)<', page).group(1))
        found, rate = soundfile.read(io.BytesIO(flac), dtype="int16")
        wanted, _ = soundfile.read(folder / row["audio"]["full"], dtype="int16")
        assert rate == 44_100
        assert np.array_equal(found, wanted)


def test_the_join_is_where_the_continuation_starts(folder):
    (group,), complaints = gather(folder, read())
    assert group.join == matrix_folder.JOIN_SECONDS
    assert complaints == []


def test_a_continuation_that_is_no_end_of_the_whole_gets_a_player(tmp_path):
    found = matrix_folder.matrix()
    matrix_folder.write(tmp_path, found, seconds=4.0)
    path = tmp_path / found["rows"][1]["audio"]["continuation"]
    other = audio.read(path)
    audio.write(path, audio.Audio(other.samples[::-1], other.sample_rate, "PCM_16"))
    full, alone = gather(tmp_path, read(found["rows"]))[0]
    assert (full.join, alone.join) == (matrix_folder.JOIN_SECONDS, None)
    assert len(alone.takes) == 5


def test_takes_are_turned_down_to_one_loudness(folder):
    (group,), _ = gather(folder, read())
    join = round(matrix_folder.JOIN_SECONDS * 44_100)
    levels = [loudness(take.gain * take.audio.samples[join:], 44_100) for take in group.takes]
    assert np.ptp(levels) < 0.01
    assert max(take.gain for take in group.takes) == 1


def test_a_silent_take_does_not_silence_the_others(folder):
    (group,), _ = gather(folder, read())
    take = group.takes[0]
    silent = replace(take, audio=replace(take.audio, samples=0 * take.audio.samples))
    gains = [take.gain for take in listening.evened([group.takes[1], silent], None)]
    assert gains == pytest.approx([10 ** (-listening.MAX_CUT_DB / 20), 1])


def test_only_files_of_the_folder_are_read(tmp_path):
    secret = tmp_path / "secret.wav"
    audio.write(secret, audio.Audio(np.zeros((100, 1), np.float32), 44_100))
    inside = tmp_path / "inside"
    found = matrix_folder.matrix()
    matrix_folder.write(inside, found, seconds=3.0)
    for row, name in zip(
        found["rows"], ("../secret.wav", str(secret), "none.wav", 7, None), strict=True
    ):
        row["audio"] = {"full": name}
    assert gather(inside, read(found["rows"]))[0] == []
    complaints = gather(inside, read(found["rows"]))[1]
    assert len(complaints) == 4
    assert "no such file" in complaints[2]


def test_too_much_sound_is_cut_around_the_join(folder, monkeypatch):
    rows = read()
    monkeypatch.setattr(listening, "LEAD_SECONDS", 1.0)
    whole = sum(len(take.flac()) for take in gather(folder, rows)[0][0].takes)
    monkeypatch.setattr(listening, "MAX_BYTES", whole // 2)
    (group,), _ = gather(folder, rows)
    assert group.join == pytest.approx(1)
    assert group.seconds == pytest.approx(2, abs=0.1)
    assert "Only the seconds from 1.5 to" in group.notes[1]


# --- Pictures -------------------------------------------------------------------------------------


def test_a_spectrogram_shows_a_tone_where_it_is():
    rate, seconds = 32_000, 2
    time = np.arange(rate * seconds) / rate
    tone = np.sin(2 * np.pi * 1000 * time) * (time >= 1)
    levels = spectrogram.decibels(tone[:, None], rate)
    assert levels.shape[1] == spectrogram.WIDTH
    silent, sounding = levels[:, : spectrogram.WIDTH // 3], levels[:, -spectrogram.WIDTH // 3 :]
    assert silent.max() < -100
    row = int(sounding.mean(axis=1).argmax())
    # 1 kHz of 16 kHz lies at 28 % of the mel scale, from below.
    assert 1 - row / len(levels) == pytest.approx(0.28, abs=0.02)


def test_a_picture_is_a_whole_png():
    levels = np.linspace(-120, 20, 8 * 6).reshape(6, 8)
    data = spectrogram.png(levels, 0.0)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, position = {}, 8
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        kind = data[position + 4 : position + 8]
        content = data[position + 8 : position + 8 + length]
        (check,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        assert check == zlib.crc32(kind + content)
        chunks[kind] = content
        position += 12 + length
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (8, 6, 8, 3, 0, 0, 0)
    pixels = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(6, 9)
    assert pixels[0, :2].tolist() == [0, 0]
    assert pixels[-1, -1] == 255
    assert len(chunks[b"PLTE"]) == 768


# --- The page -------------------------------------------------------------------------------------


def test_the_page_names_no_other_place(folder):
    page = (folder / "report.html").read_text()
    # Other than the name of the SVG namespace, which nobody asks for.
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) == {"http://www.w3.org/2000/svg"}
    style = re.search("<style>(.*?)</style>", page, re.DOTALL).group(1)
    assert "@import" not in style  # the scripts' comments import types by that word
    assert "url(" not in page
    sources = re.findall(r'\b(?:src|href)="([^"]{0,20})', page)
    assert all(source.startswith("data:") for source in sources)


def test_the_policy_allows_the_script_and_style_it_has(folder):
    page = (folder / "report.html").read_text()
    for kind, tag in (("script", 'script type="module"'), ("style", "style")):
        text = re.search(f"<{tag}>(.*?)</{kind}>", page, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in page


def test_every_value_of_a_matrix_is_escaped(tmp_path):
    hostile = "<img src=x onerror=alert(1)>'\"&{{ 1 }}"
    found = matrix_folder.matrix(
        **dict.fromkeys(("model", "base_model", "prompt", "seed", "created"), hostile),
        **{key: {hostile: hostile} for key in ("machine", "versions", "request")},
    )
    found["pick"] = {"name": hostile, "why": hostile, "environment": [hostile], "command": hostile}
    for row in found["rows"]:
        row |= {"name": f"{hostile} {row['name']}", "error": hostile}
        row["variant"] = {"cast_dtype": hostile, "recipe": {"scope": hostile, "mode": hostile}}
        row["bench"] |= {"engine": hostile, "notes": [hostile]}
    found["rows"].append(matrix_folder.failed(hostile, hostile))
    page = write_report(matrix_folder.write(tmp_path, found))[1].read_text()
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;&#39;&#34;&amp;{{ 1 }}") > 40


def test_findings_cannot_end_their_element(tmp_path):
    found = matrix_folder.matrix(rows=[matrix_folder.failed("</script><b>&", "</script>")])
    page = write_report(matrix_folder.write(tmp_path, found))[1].read_text()
    inside = re.search(r'id="findings">(.*?)</script>', page, re.DOTALL).group(1)
    assert json.loads(inside)["rows"][0]["name"] == "</script><b>&"
