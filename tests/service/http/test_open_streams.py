"""How many may listen to a job at once."""

from contextlib import suppress

import pytest

from segue.service.exceptions import RefusalError
from segue.service.http.open_streams import OpenStreams
from segue.service.jobs.rows import Input
from segue.service.jobs.spec import JobSpec
from segue.service.settings import Limits, Settings
from tests.service.in_process import InProcess, answer, line_of


@pytest.fixture
def running(tmp_path):
    with InProcess(Settings(state=tmp_path, limits=Limits(streams=2))) as running:
        yield running


def waiting(running):
    """A job that never begins."""
    store = running.service.store
    name, path = store.new_input()
    path.write_bytes(bytes(100))
    spec = JobSpec("native", "a", start=None, prompt_seconds=1.0, output_seconds=2.0)
    return store.add(spec, Input(name, 44_100, 2, 44_100, 100)).id


def listen(running, job, query=""):
    """A connection on which a stream was asked for, and the status of its answer."""
    connection = running.connect()
    get = f"GET /api/jobs/{job}/stream{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    connection.sendall(get.encode())
    return connection, int(connection.recv(12).split()[1])


def test_a_job_has_so_many_streams_and_no_more(running):
    job, other = waiting(running), waiting(running)
    streams = [listen(running, job), listen(running, job, "?format=wav")]
    assert [status for _, status in streams] == [200, 200]
    with running.connect() as connection:
        for query in ("", "?format=wav"):
            get = f"GET /api/jobs/{job}/stream{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            connection.sendall(get.encode())
            status, headers, body = answer(connection)
            assert status == 429
            assert headers["retry-after"].isdigit()
            assert "2 streams of this music are open already" in line_of(body)
    streams.append(listen(running, other))
    assert streams[-1][1] == 200

    streams[0][0].close()  # who goes makes room
    while (again := listen(running, job))[1] == 429:
        again[0].close()
    assert again[1] == 200
    for connection, _ in (*streams, again):
        connection.close()


def test_a_stream_that_breaks_makes_room_too():
    streams = OpenStreams(1)
    for _ in range(3):
        with suppress(OSError), streams.one("a"), streams.one("b"):
            with pytest.raises(RefusalError):
                streams.one("a").__enter__()
            raise OSError("the client is gone")
