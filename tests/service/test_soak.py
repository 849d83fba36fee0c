"""The proofs of `make soak`, so short that every run of the tests can afford them."""

import pytest

from .server import Server
from .soak.crowd import crowd
from .soak.fuzz import fuzz
from .soak.kills import kills

OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.mark.slow
def test_a_crowd_is_answered_everybody_once_with_her_own_music(server):
    crowd(server, 8)


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_double_nothing(tmp_path, toy_options):
    with Server(tmp_path / "state", *toy_options, environment=OFFLINE) as server:
        kills(server, 2, waiting=2)


@pytest.mark.slow
def test_nothing_that_the_document_allows_or_forbids_is_answered_with_a_5xx(server):
    figures = fuzz(server, 8, 15)
    assert figures.rows[0] == ("operations", "37")
