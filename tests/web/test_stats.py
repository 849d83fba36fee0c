"""Exact binomial statistics, in the browser that runs them, against values from tables."""

import base64

import pytest

from segue import web


@pytest.fixture
def stats(driver):
    code = base64.b64encode(web.read("shared/stats.js").encode()).decode()

    def call(name, *arguments):
        return driver.execute_async_script(
            """
            const [address, name, values, done] = arguments;
            import(address).then((module) => done(module[name](...values)), (e) => done(String(e)));
            """,
            f"data:text/javascript;base64,{code}",
            name,
            arguments,
        )

    return call


@pytest.mark.parametrize(
    ("hits", "trials", "p"),
    [
        (0, 10, 1.0),
        (5, 10, 638 / 1024),
        (8, 10, 56 / 1024),
        (9, 10, 11 / 1024),
        (10, 10, 1 / 1024),
        (12, 16, 2517 / 65536),
        (5, 5, 1 / 32),
        (60, 100, 0.02844396682049044),
        (0, 0, 1.0),
    ],
)
def test_guessing_does_as_well_with_the_exact_probability(stats, hits, trials, p):
    assert stats("guessing", hits, trials) == pytest.approx(p, rel=1e-9)


def test_a_preference_counts_in_both_directions(stats):
    assert stats("indifference", 9, 10) == pytest.approx(22 / 1024)
    assert stats("indifference", 1, 10) == pytest.approx(22 / 1024)
    assert stats("indifference", 5, 10) == 1


def test_a_run_says_what_it_takes_to_pass(stats):
    assert [stats("hitsNeeded", n) for n in (4, 5, 10, 16, 24)] == [None, 5, 9, 12, 17]


def test_power_is_the_chance_to_pass(stats):
    assert stats("power", 16, 0.8) == pytest.approx(0.7982, abs=1e-4)
    assert stats("power", 4, 0.99) == 0


def test_a_new_run_is_as_long_as_the_rate_demands(stats):
    assert stats("trialsNeeded", 5, 10) is None
    size = stats("trialsNeeded", 7, 10)
    assert stats("power", size, 0.7) >= 0.8 > stats("power", size - 1, 0.7)


def test_the_interval_is_that_of_clopper_and_pearson(stats):
    assert stats("interval", 8, 10) == pytest.approx([0.44390, 0.97479], abs=1e-4)
    assert stats("interval", 0, 10) == pytest.approx([0, 0.30850], abs=1e-4)
    assert stats("interval", 10, 10) == pytest.approx([0.69150, 1], abs=1e-4)
