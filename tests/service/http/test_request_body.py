"""How much of a body is read, and for how long."""

import asyncio

import pytest

from segue.service.exceptions import RefusalError
from segue.service.http.request_body import RequestBody, patience
from segue.service.settings import Limits

LIMITS = Limits(body_seconds=100.0, body_bytes_per_second=10, drain_bytes=50, drain_seconds=0.2)


class Client:
    """Sends pieces, and then nothing more, or the end."""

    def __init__(self, *pieces, ends=True):
        self.pieces, self.ends, self.asked = list(pieces), ends, 0

    async def __call__(self):
        self.asked += 1
        if not self.pieces:
            await asyncio.Event().wait()
        piece = self.pieces.pop(0)
        return {
            "type": "http.request",
            "body": piece,
            "more_body": not self.ends or bool(self.pieces),
        }


def body_of(client, most=1000, limits=LIMITS, **headers):
    sent = headers or {"content-length": "40"}
    scope = {
        "type": "http",
        "headers": [(n.replace("_", "-").encode(), v.encode()) for n, v in sent.items()],
    }
    return RequestBody(scope, client, most, limits)


@pytest.mark.parametrize(("received", "seconds"), [(0, 5), (10, 6), (500, 55), (10**9, 100)])
def test_the_more_has_come_the_longer_is_waited(received, seconds):
    assert patience(LIMITS, 5.0, received) == seconds


def test_what_is_left_is_read_once():
    client = Client(b"a" * 10, b"b" * 10, b"c" * 20)

    async def drained():
        body = body_of(client)
        await body()
        return [await body.drain(), await body.drain()]

    assert asyncio.run(drained()) == [True, True]
    assert client.asked == 3


@pytest.mark.parametrize(
    ("headers", "whole"),
    [
        ({"content_length": "0"}, True),
        ({"host": "localhost"}, True),
        ({"content_length": "40", "expect": "100-Continue"}, False),
        ({"content_length": "51"}, False),
        ({"content_length": "9" * 30}, False),
    ],
)
def test_a_body_that_is_absent_or_not_sent_or_too_large_is_not_drained(headers, whole):
    client = Client(b"a" * 40)
    assert asyncio.run(body_of(client, **headers).drain()) is whole
    assert client.asked == 0


def test_a_client_that_got_100_continue_is_drained():
    client = Client(b"a" * 20, b"b" * 20)

    async def drained():
        body = body_of(client, content_length="40", expect="100-continue")
        await body()
        return await body.drain()

    assert asyncio.run(drained()) is True


def test_no_more_is_drained_than_the_limit():
    client = Client(*[b"a" * 20] * 10)
    assert asyncio.run(body_of(client, transfer_encoding="chunked").drain()) is False
    assert client.asked == 3


def test_a_client_that_fell_silent_is_not_drained_twice():
    client = Client(b"a" * 20, ends=False)

    async def drained():
        body = body_of(client)
        return [await body.drain(), await body.drain()]

    assert asyncio.run(drained()) == [False, False]
    assert client.asked == 2


def test_a_body_that_is_announced_too_large_is_not_begun():
    client = Client(b"a" * 40)
    with pytest.raises(RefusalError) as refused:
        asyncio.run(body_of(client, most=39)())
    assert refused.value.status == 413
    assert client.asked == 0


def test_a_body_that_grows_too_large_is_refused():
    async def read():
        body = body_of(Client(b"a" * 20, b"b" * 20), most=39, transfer_encoding="chunked")
        await body()
        await body()

    with pytest.raises(RefusalError) as refused:
        asyncio.run(read())
    assert refused.value.status == 413


def test_a_client_that_falls_silent_is_not_waited_for():
    limits = Limits(body_grace_seconds=0.0, body_bytes_per_second=1000)

    async def read():
        body = body_of(Client(b"a" * 20, ends=False), limits=limits)
        await body()
        await body()

    with pytest.raises(RefusalError) as refused:
        asyncio.run(read())
    assert refused.value.status == 408


def test_what_others_take_is_not_the_client_s_fault():
    limits = Limits(body_seconds=0.05, body_grace_seconds=0.05)

    async def read():
        body = body_of(Client(b"a" * 20, b"b" * 20), limits=limits)
        await body()
        await asyncio.sleep(0.2)  # a slow disk
        await body()

    asyncio.run(read())
