"""What times can tell: noise is measured so that single slow runs count for nothing."""

import numpy as np
import pytest

from segue.lab.figures import BenchFigures
from segue.lab.noise import Noise, spread
from segue.lab.results import Matrix


@pytest.mark.parametrize("n", [2, 3, 4, 5, 9, 10, 25])
def test_the_spread_of_normal_values_is_their_standard_deviation(n):
    values = np.random.default_rng(n).normal(5, 2, (1500, n))
    assert np.mean([spread(each.tolist()) for each in values]) == pytest.approx(2, rel=0.06)


def test_one_value_far_off_hardly_changes_it():
    assert spread([1.0, 1.1, 1000.0]) == pytest.approx(2.2219 * 0.994 * 0.1)
    assert spread([1.0, 1.0, 1000.0]) == 0


def row(middle, **steady):
    """A row that took `middle` seconds."""
    seconds = {"timings_s": {"token_generate_s": middle}}
    return {"status": "ok", "bench": seconds | {"steady": steady or None}}


def older(middle, low, high, **steady):
    """What an older report knows of some runs."""
    ends = {"min": low, "max": high}
    steady |= {end: {"timings_s": {"token_generate_s": s}} for end, s in ends.items()}
    return row(middle, **steady)


def rows_of(*rows):
    return Matrix.from_json({"rows": rows}).rows


@pytest.mark.parametrize(
    ("report", "seconds"),
    [
        (older(2.0, 1.0, 3.0, each={"token_generate_s": [3.0, 1.0, 2.5]}), (3.0, 1.0, 2.5)),
        (older(2.0, 1.0, 3.0, each={"token_generate_s": ["fast", 1.0]}), (1.0, 2.0, 3.0)),
        (older(2.0, 1.0, 4.0), (1.0, 2.0, 4.0)),
        (older(2.0, 1.0, 3.0, runs=2), (1.0, 3.0)),
        (older(2.0, 2.0, 2.0, runs=1), (2.0,)),
        (row(2.0), (2.0,)),
        ({"bench": None}, ()),
    ],
)
def test_runs_are_read_from_reports_of_every_age(report, seconds):
    assert BenchFigures.from_json(report["bench"]).generate_seconds == seconds


def test_more_runs_tell_finer():
    def rows(count):
        spreads = np.exp(np.linspace(-0.05, 0.05, count))
        return rows_of(
            *(row(s, each={"token_generate_s": (s * spreads).tolist()}) for s in (1.0, 1.045))
        )

    few, many = rows(3), rows(31)
    assert not Noise(few, []).tells_apart(few[1], few[0])
    assert Noise(many, []).tells_apart(many[1], many[0])


def test_alike_rows_of_one_run_each_are_named_but_decide_nothing():
    rows = rows_of(*map(row, (1.0, 1.5, 1.2)))
    noise = Noise(rows, rows[:2])
    assert not noise.known
    assert noise.between == pytest.approx(1.5)
    assert noise.tells_apart(rows[2], rows[0])
    assert Noise(rows, rows[:1]).between is None
