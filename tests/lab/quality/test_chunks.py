"""A measurement in chunks is the same to the last digit, and what was found is not sought again."""

from typing import Any

import pytest

from segue import audio
from segue.checkpoints.recipe import Recipe
from segue.demo.prompt import band
from segue.errors import OutputError
from segue.lab.quality.chunks import (
    MOST_CONTINUED,
    MOST_PROMPTS,
    Chunk,
    Found,
    KeptChunks,
    chunks_of,
)
from segue.lab.quality.free_running import compare_takes
from segue.lab.quality.measure import Subject, measure
from segue.lab.quality.request import QualityRequest
from segue.lab.variant import Variant

COMPARE = "segue.lab.quality.measure.compare_takes"
Q4 = Variant("q4", None, Recipe("decoder-linears", 4, 32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With three clips, all of them continued, so that there are two chunks; and a cache."""
    folder = tmp_path_factory.mktemp("quality")
    (folder / "music").mkdir()
    for n, seconds in enumerate((1.0, 1.1, 1.2)):
        audio.write(folder / "music" / f"{n}.wav", band(seconds))
    return folder


@pytest.fixture
def wanted(toy, folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

    def make(**options: Any) -> QualityRequest:
        short = {"takes": 1, "prompt_seconds": 0.5, "continuation_seconds": 0.3, "seed": 7}
        given = {"variant": Q4, "model": str(toy), "engine": "mlx", **short}
        return QualityRequest(**{**given, "prompts": (folder / "music",), **options})

    return make


@pytest.fixture
def continued(monkeypatch):
    """The numbers of the clips that are compared."""
    numbers = []
    monkeypatch.setattr(
        COMPARE,
        lambda work, n, *rest: (numbers.append(n), compare_takes(work, n, *rest))[1],
    )
    return numbers


def test_what_was_found_before_a_stop_is_not_sought_again(wanted, continued, tmp_path, monkeypatch):
    """And the report is that of a measurement that nothing stopped, to the last digit."""
    kept = tmp_path / "kept"

    def stops(work, n, *rest):
        if n == 2:
            raise KeyboardInterrupt
        return compare_takes(work, n, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(COMPARE, stops)
        with pytest.raises(KeyboardInterrupt):
            measure(wanted(), keep=kept)
    (first,) = kept.iterdir()
    whole = measure(wanted(), keep=kept).to_json()
    assert continued == [2]
    assert measure(wanted(), keep=kept).to_json() == whole
    assert continued == [2]
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    continued.clear()
    assert measure(wanted(), keep=kept).to_json() == whole
    assert continued == [0, 1]
    continued.clear()
    assert measure(wanted()).to_json() == whole
    assert continued == [0, 1, 2]
    other = measure(wanted(seed=8), keep=kept)
    assert continued == [0, 1, 2] * 2
    assert {take["seed"] for take in other.free_running["takes"]} == {8}


@pytest.mark.parametrize(
    ("pieces", "clips", "continued"),
    [
        (40, 6, {*range(6)}),
        (3, 1, {0}),
        (0, 1, {0}),
        (0, 6, {*range(6)}),
        (0, 120, {*range(0, 120, 15)}),
    ],
)
def test_chunks_hold_every_prompt_once_and_in_order(pieces, clips, continued):
    chunks = chunks_of(pieces, clips, continued)
    assert [chunk.number for chunk in chunks] == [*range(len(chunks))]
    assert [n for chunk in chunks for n in chunk.pieces] == [*range(pieces)]
    expected = sorted(continued) if pieces else [*range(clips)]
    assert [n for chunk in chunks for n in chunk.clips] == expected
    for chunk in chunks:
        assert 0 < len(chunk.pieces) + len(chunk.clips) <= MOST_PROMPTS
        assert len(continued & {*chunk.clips}) <= MOST_CONTINUED


def test_a_folder_of_chunks_that_cannot_be_made_is_one_line(wanted, tmp_path):
    (tmp_path / "file").write_text("")
    work = Subject.prepare(wanted()).work
    with pytest.raises(OutputError, match="cannot be made"):
        KeptChunks(tmp_path / "file" / "kept", work).write(Chunk(0, (), ()), Found([], [], []))
