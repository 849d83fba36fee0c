"""segue is the same model as transformers': what that made of random checkpoints, pinned.

The files come from `python -m tests.parity --golden`; `make parity` compares live, and more.
"""

from pathlib import Path

import numpy as np
import pytest

import segue

from ..parity.audiocraft_compare import rows as audiocraft_rows
from ..parity.compare import compare, melody_rows
from .engines import ENGINES, require

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["mono", "stereo"])
def test_every_part_agrees_with_the_reference(name, engine):
    require(engine)
    with np.load(GOLDEN / name / "outputs.npz") as reference:
        rows = compare(GOLDEN / name, dict(reference), engine)
    assert len(rows) == 10
    assert not [row for row in rows if not row.ok]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_melody_model_agrees_with_the_reference(engine):
    require(engine)
    folder = GOLDEN / "melody"
    with np.load(folder / "outputs.npz") as reference:
        rows = melody_rows(segue.load(str(folder), engine=engine).engine, dict(reference))
    assert len(rows) == 6
    assert not [row for row in rows if not row.ok]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["trained-along", "audiogen", "melody"])
def test_checkpoints_of_audiocraft_agree_with_audiocraft(name, engine):
    """By `make parity-audiocraft`: windows, a text encoder trained along, a training checkpoint."""
    require(engine)
    folder = GOLDEN / "audiocraft" / name
    with np.load(folder / "outputs.npz") as reference:
        rows = audiocraft_rows(folder / "model", folder / "text", dict(reference), engine)
    assert len(rows) == (11 if name == "melody" else 6)
    assert not [row for row in rows if not row.ok]
