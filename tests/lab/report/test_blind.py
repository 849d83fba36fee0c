"""The blind test's pairs: the pick first, and never two rows that sound the same."""

import json
import re

import numpy as np
import pytest

from segue.audio import Audio
from segue.lab.report.blind import opponents
from segue.lab.report.listening import Take
from segue.lab.report.page import page
from segue.lab.results import Matrix
from tests.lab import matrix_folder


def row(name, codes=None, kl=0.0, weights=100):
    return {
        "name": name,
        "bench": {"codes_sha256": codes, "memory": {"weights_bytes": weights}},
        "quality": {"kl": {"overall": {"mean": kl}}},
    }


def matrix(rows, pick=None):
    return Matrix.from_json({"rows": rows, "pick": pick and {"name": pick}, "max_kl": 0.02})


def takes(*sounds):
    return [
        Take(str(n), n, Audio(np.full((4, 1), sound, np.float32), 8000))
        for n, sound in enumerate(sounds)
    ]


ROWS = [
    row("baseline", "a"),
    row("float16", "b", 1e-6),
    row("q8", "c", 4e-4, 40),
    row("q4", "d", 0.01, 25),
    row("q2", "e", 0.5, 15),
]
HEARD = takes(0, 1, 2, 3, 4)


def test_the_pick_is_offered_first():
    assert opponents(matrix(ROWS, "q4"), HEARD) == [3, 1, 2, 4]
    assert opponents(matrix(ROWS, "float16"), HEARD) == [1, 2, 3, 4]
    assert opponents(matrix(ROWS), HEARD) == [1, 2, 3, 4]


def test_where_the_baseline_is_picked_what_saves_memory_is_the_question():
    assert opponents(matrix(ROWS, "baseline"), HEARD) == [2, 3, 1, 4]


@pytest.mark.parametrize(("codes", "sound"), [("a", 0.5), (None, 0.0)])
def test_what_sounds_exactly_as_the_baseline_is_not_offered(codes, sound):
    rows = [ROWS[0], row("float16", codes), ROWS[2]]
    assert opponents(matrix(rows, "float16"), takes(0, sound, 1)) == [2]


def test_rows_without_sound_are_counted_all_the_same():
    assert opponents(matrix(ROWS, "q2"), [HEARD[0], HEARD[3], HEARD[4]]) == [2, 1]


def test_rows_without_figures_are_offered_too():
    rows = [ROWS[0], {"name": "q8"}, {"name": "q4", "bench": None, "quality": None}]
    assert opponents(matrix(rows, "q4"), HEARD[:3]) == [2, 1]


def test_the_page_gets_the_pairs(tmp_path):
    found = matrix_folder.matrix()
    for each in found["rows"][:2]:
        each["bench"]["codes_sha256"] = "same"
    html = page(Matrix.from_json(found), matrix_folder.write(tmp_path, found))
    sent = json.loads(re.search(r'id="findings">(.*?)</script>', html)[1])
    assert sent["listening"][0]["blind"] == [2, 3, 4]
