"""What the store promises over SQLite, and what fronts promise, over PostgreSQL."""

import pytest

pytest.importorskip("psycopg_pool", reason="no psycopg here: make test-postgres")

from segue.service.jobs.postgres_database import PostgresDatabase
from segue.service.jobs.store import Store
from tests.service.jobs.test_fronts import *  # noqa: F403
from tests.service.jobs.test_store import (  # noqa: F401
    clock,
    test_a_chain_keeps_its_root_whatever_becomes_of_it,
    test_a_job_begins_once_and_is_completed_once,
    test_a_star_outlives_age_and_bound,
    test_a_sweep_takes_the_old_and_then_the_oldest,
    test_a_take_that_was_removed_loses_its_files_and_the_others_stay,
    test_an_attempt_that_was_overtaken_does_not_count,
    test_an_input_of_its_own_is_kept_as_long_as_a_job,
    test_an_input_stays_while_a_retry_needs_it,
    test_an_input_that_a_job_is_being_made_of_is_not_swept,
    test_jobs_are_kept_in_their_order,
    test_names_from_clients_are_only_compared,
    test_what_a_client_has_had_made_counts_though_it_is_removed,
    test_what_was_removed_and_unused_inputs_make_room_first,
    test_what_was_removed_goes_after_a_while_star_or_not,
)
from tests.service.jobs.test_turns import (  # noqa: F401
    test_a_weight_is_a_share,
    test_clients_take_turns_by_their_seconds,
    test_nobody_is_owed_anything_once_nothing_waits,
    test_one_client_is_first_come_first_served,
    test_what_a_client_has_had_counts_while_others_wait,
    test_what_was_not_made_costs_no_turn,
    test_who_comes_anew_does_not_wait_for_all_that_another_has_sent,
)


@pytest.fixture  # type: ignore[no-redef]
def connect(url):
    return lambda: PostgresDatabase(url)


@pytest.fixture
def store(tmp_path, clock, url):  # noqa: F811
    store = Store(tmp_path / "state", clock, PostgresDatabase(url))
    yield store
    store.close()
