"""Whose job is next where several clients have some that wait."""

from collections import Counter

import pytest

from segue.service.clients import Client
from segue.service.jobs.estimates import Estimates
from segue.service.jobs.models import ListedModel
from segue.service.jobs.progress import JobProgress
from segue.service.jobs.rows import CANCELLED, FAILED, Input
from segue.service.jobs.spec import JobSpec
from segue.service.jobs.store import Store
from segue.service.jobs.waiting import WaitingJob, WaitingJobs

ANNA, BERT, CARL = (Client(name) for name in ("anna", "bert", "carl"))
MODEL = ListedModel("a", "a", "", "a", None, ())


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "state")
    yield store
    store.close()


def add(store, client, seconds=10.0):
    name, path = store.new_input()
    path.write_bytes(bytes(100))
    spec = JobSpec("native", "a", prompt_seconds=1.0, output_seconds=seconds + 1)
    return store.add(spec, Input(name, 44_100, 2, 44_100, 100), client=client)


def begin(store):
    """Begin the first job that waits, as a worker does that has room."""
    first = next(job for job in store.waiting() if job.state == "queued")
    return store.begin(first)


def end(store, job):
    store.complete(job, {"takes": []})


def served(store, count):
    """Whose jobs run when they run one after the other."""
    clients = []
    for _ in range(count):
        job = begin(store)
        clients.append(job.client)
        end(store, job)
    return "".join(client[:1] for client in clients)


def test_one_client_is_first_come_first_served(store):
    for client in (Client(), ANNA):
        jobs = [add(store, client, seconds) for seconds in (300.0, 0.02, 20.0, 0.02, 100.0)]
        assert [job.id for job in store.waiting()] == [job.id for job in jobs]
        running = begin(store)
        jobs.append(add(store, client))
        assert [job.id for job in store.waiting()] == [job.id for job in jobs]
        store.put_back(running.id)
        assert [job.id for job in store.waiting()] == [job.id for job in jobs]
        served(store, len(jobs))


def test_who_comes_anew_does_not_wait_for_all_that_another_has_sent(store):
    for _ in range(50):
        add(store, ANNA)
    end(store, begin(store))
    running = begin(store)
    for client in (BERT, CARL, BERT):
        add(store, client)
    end(store, running)
    assert served(store, 8) == "bcabaaaa"


def test_clients_take_turns_by_their_seconds(store):
    for _ in range(40):
        add(store, ANNA, 10.0)
    for _ in range(40):
        add(store, BERT, 30.0)
    assert Counter(served(store, 20)) == {"a": 15, "b": 5}


def test_a_weight_is_a_share(store):
    heavy = Client("heavy", weight=3.0)
    for client in (ANNA, heavy):
        for _ in range(40):
            add(store, client)
    order = served(store, 40)
    assert Counter(order) == {"h": 30, "a": 10}
    assert "aa" not in order
    assert "hhhhh" not in order


def test_what_a_client_has_had_counts_while_others_wait(store):
    """Bert has one job at a time, and sends the next when that is done."""
    for _ in range(40):
        add(store, ANNA, 10.0)
    add(store, BERT, 30.0)
    order = ""
    for _ in range(24):
        running = begin(store)
        order += running.client[0]
        if order.endswith("ba"):  # his was done when this one began
            add(store, BERT, 30.0)
        end(store, running)
    assert Counter(order) == {"a": 18, "b": 6}


def test_nobody_is_owed_anything_once_nothing_waits(store):
    for _ in range(10):
        add(store, ANNA, 300.0)
    served(store, 10)
    for client in (ANNA, BERT, ANNA, BERT):
        add(store, client)
    assert served(store, 4) == "abab"


def test_what_was_not_made_costs_no_turn(store):
    add(store, BERT)
    running = begin(store)
    for _ in range(5):
        add(store, ANNA, 300.0)
    for job in store.waiting()[1:]:
        store.end(job.id, CANCELLED, "before it began")
    add(store, ANNA)
    add(store, BERT)
    end(store, running)
    failing = begin(store)
    store.end(failing.id, FAILED, "it failed")
    assert (failing.client, served(store, 1)) == ("anna", "b")


def test_the_queue_in_memory_has_the_order_of_the_store(store):
    waiting = WaitingJobs(Estimates(store))

    def queue(client, seconds=10.0):
        job = add(store, client, seconds)
        waiting.add(WaitingJob(job, MODEL, 100, JobProgress()))

    queue(ANNA, 300.0)
    running = begin(store)
    waiting.running.add(running.id)
    for client in (ANNA, BERT, ANNA, BERT, BERT, CARL, ANNA):
        queue(client)
        assert [each.job.id for each in waiting] == [job.id for job in store.waiting()]
    assert [each.job.client[0] for each in waiting] == [*"abcbbaaa"]
    (last,) = [each.job for each in waiting if each.job.client == "carl"]
    view = waiting.view(last)
    assert (view.position, view.total) == (2, 7)
    assert waiting.queued_by_client() == {"anna": 3, "bert": 3, "carl": 1}
