"""The simulated cluster: every job is accounted for, and one card makes what one card made."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.cluster_simulation import CARDS, Assumptions, main, simulate


def short(card, gpus, assumed, seed=1):
    return simulate(CARDS[card], gpus, assumed, seconds=40.0, warm_up=20.0, seed=seed)


@pytest.mark.parametrize(("card", "measured"), [("h100", 382), ("h200", 419)])
def test_a_full_batch_makes_what_was_measured_less_what_differing_requests_cost(card, measured):
    ratio = CARDS[card].most() / measured
    assert CARDS[card].mixed < ratio < 1
    crowd = short(card, 2, Assumptions(clients=1e6))
    assert crowd.audio == pytest.approx(2 * CARDS[card].most(), rel=0.05)
    assert crowd.rows > 60


def test_one_seed_is_one_result():
    runs = [short("h100", 3, Assumptions(clients=3e5), seed=n) for n in (1, 1, 2)]
    assert runs[0].arrived == runs[1].arrived != runs[2].arrived
    assert np.array_equal(runs[0].times, runs[1].times)


def test_no_job_is_lost_where_cards_are():
    fragile = replace(Assumptions(clients=3e5), losses=2000.0, away=1.0)
    seen = short("h100", 4, fragile)
    assert seen.again > 100
    assert seen.arrived == seen.completed + seen.unfinished
    calm = short("h100", 4, replace(fragile, losses=0.0))
    assert calm.again == 0
    assert seen.times.max() > calm.times.max()


def test_a_batch_is_filled_before_another_card_begins_one():
    seen = short("h100", 50, Assumptions(clients=1e6))
    assert seen.busy < 10
    assert np.percentile(seen.waits, 99) == 0


def test_the_table_says_what_it_rests_on(capsys):
    main(["--gpus", "1", "2", "--clients-a-day", "1e5", "--card", "h200"])
    printed = capsys.readouterr().out
    assert "Assumed: " in printed
    assert "(419 s of audio a second)" in printed.replace("\n", " ")
    assert len(printed.splitlines()[-2:]) == 2
