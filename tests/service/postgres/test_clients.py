"""Clients of two fronts on one database: whichever they ask, they have the same, and as much."""

import pytest

pytest.importorskip("psycopg_pool", reason="no psycopg here: make test-postgres")

from tests.service.clients import ask, clients_file, one_of

from .test_shared_queue import front  # noqa: F401 - a fixture


def test_a_client_is_the_same_on_every_front(front, tmp_path):  # noqa: F811
    path = clients_file(tmp_path, anna="jobs_at_once = 2", bert="", operator="admin = true")
    a, b = (front("--clients", str(path), slept=True) for _ in range(2))
    with (
        one_of(a, "anna") as at_a,
        one_of(b, "anna") as at_b,
        one_of(a, "bert") as bert,
        one_of(b, "operator") as operator,
    ):
        first, second = (ask(client, 300.0).json()["job_id"] for client in (at_a, at_b))
        for client in (at_a, at_b):
            answer = ask(client)
            assert answer.status_code == 429
            assert "2 of your requests wait or play" in answer.json()["error"]
            listed = client.get("/api/jobs").json()["jobs"]
            assert [job["job_id"] for job in listed] == [second, first]
        own = ask(bert).json()["job_id"]
        assert bert.get(f"/api/jobs/{first}").status_code == 404
        assert bert.delete(f"/api/jobs/{second}").status_code == 404
        assert at_b.get(f"/api/jobs/{own}").status_code == 404
        assert operator.get(f"/api/jobs/{own}").status_code == 200
        assert at_b.get("/api/service").json()["client"]["jobs"] == 2
        assert at_b.delete(f"/api/jobs/{first}").status_code == 200
        assert ask(at_a).status_code == 202
        for job in operator.get("/api/jobs").json()["jobs"]:
            operator.delete(f"/api/jobs/{job['job_id']}")
