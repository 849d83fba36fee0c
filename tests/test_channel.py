"""Messages and progress from one process to another."""

import io
from contextlib import contextmanager

import pytest

from segue.channel import ChannelProgress, Sender, decode, encode, replay, stdout_progress
from segue.progress import Progress


class Seen(Progress):
    """Writes down what is shown."""

    def __init__(self):
        self.events = []

    @contextmanager
    def stage(self, name, total=None, unit=""):
        self.events.append(("begin", name, total, unit))
        yield lambda done, total=None: self.events.append((name, done, total))
        self.events.append(("end", name))


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def sent():
    return []


@pytest.fixture
def progress(sent):
    """Progress whose messages lie in `sent`, and whose time stands."""
    return ChannelProgress(lambda **message: sent.append(message), clock=Clock())


def test_a_message_is_a_line_that_is_decoded_alike():
    message = {"text": "drums\n\u2028♪", "done": [1, None]}
    line = encode(message)
    assert line.splitlines(keepends=True) == [line]
    assert decode(line) == decode(line.encode()) == message


@pytest.mark.parametrize("line", ["", "a library's line", "3", "[]", "{", b"\xff", "[" * 9999])
def test_a_line_that_is_no_message_is_none(line):
    assert decode(line) is None


def test_a_message_is_sent_at_once():
    class Stream(io.StringIO):
        flushed = 0

        def flush(self):
            self.flushed = self.tell()

    stream = Stream()
    Sender(stream)(done=1)
    assert stream.getvalue() == '{"done": 1}\n'
    assert stream.flushed == len('{"done": 1}\n')


def test_progress_is_shown_by_the_process_that_waits(capsys):
    progress = stdout_progress()
    with progress.stage("bench", 2, "runs") as advance:
        with progress.stage("generate") as inner:
            inner(3, 9)
        advance(1)
    lines = capsys.readouterr().out.splitlines()
    seen = Seen()
    replay(["a library's line", "3", "[]", *lines, '{"done": 1}', '{"end": "bench"}'], seen)
    assert seen.events == [
        ("begin", "bench", 2, "runs"),
        ("begin", "generate", None, ""),
        ("generate", 3, 9),
        ("end", "generate"),
        ("bench", 1, 2),
        ("end", "bench"),
    ]


def test_stages_that_never_ended_end_with_the_lines():
    seen = Seen()
    replay([encode({"stage": "load", "done": 0, "total": 3, "unit": "", "begin": True})], seen)
    assert seen.events[-1] == ("end", "load")


def test_updates_are_sent_as_often_as_somebody_sees_and_the_last_always(sent):
    clock = Clock()
    progress = ChannelProgress(lambda **message: sent.append(message), clock=clock)
    with progress.stage("generate", 100, "frames") as advance:
        for done in range(1, 101):
            clock.now += 0.03
            advance(done)
    shown = [message["done"] for message in sent if "done" in message]
    assert shown == [0, 1, *range(5, 100, 4), 100]


def test_a_length_that_becomes_known_is_sent_though_the_time_stands(progress, sent):
    with progress.stage("download", None, "B") as advance:
        advance(1)
        advance(2)
        advance(3, 10)
        advance(4, 10)
    shown = [(message["done"], message["total"]) for message in sent if "done" in message]
    assert shown == [(0, None), (1, None), (3, 10)]


def test_a_check_stops_the_work_where_it_advances(sent):
    stopped = []

    def check():
        if stopped:
            raise KeyboardInterrupt

    progress = ChannelProgress(lambda **message: sent.append(message), check, Clock())
    with progress.stage("generate") as advance:
        advance(1)
        stopped.append(True)
        with pytest.raises(KeyboardInterrupt):
            advance(2)
    assert [message.get("done") for message in sent] == [0, 1, None]
    with pytest.raises(KeyboardInterrupt), progress.stage("decode"):
        pytest.fail("it began")
