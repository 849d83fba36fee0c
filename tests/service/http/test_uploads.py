"""Bodies with a file in them, taken apart while they arrive."""

import base64
import json

import pytest

from segue.service.exceptions import RefusalError
from segue.service.http.json_stream import JsonStream
from segue.service.http.uploads import Base64File

DATA = bytes(range(256)) * 2_000


@pytest.fixture(params=[1 << 20, 1000, 61])
def stream(request, tmp_path):
    """A stream that takes a whole body in pieces of some length."""

    class Whole(JsonStream):
        def __init__(self, most=1 << 20):
            self.files = []
            super().__init__(most, self.open_file)

        def open_file(self):
            self.files.append(Base64File(tmp_path / f"{len(self.files)}"))
            return self.files[-1]

        def take(self, body):
            for start in range(0, len(body), request.param):
                self.feed(body[start : start + request.param])
            return self.close()

        def decode(self, body):
            """The object, and the bytes that its audio stands for."""
            content = self.take(body)
            file = self.sinks.get(content["audio_data"])
            if file is None:
                file = self.open_file()
                file.write(content["audio_data"].encode())
                file.close()
            file.check()
            return content, file.path.read_bytes()

    return Whole


@pytest.mark.parametrize("escaped", [False, True])
def test_the_audio_comes_out_as_it_went_in_wherever_it_stands(stream, escaped):
    text = base64.b64encode(DATA).decode()
    if escaped:  # as Swift writes it, in lines
        text = "\n".join(text[n : n + 76] for n in range(0, len(text), 76))
    for fields in ({"seed": 1, "audio_data": text}, {"audio_data": text, "description": 'a "b\\"'}):
        body = json.dumps(fields, ensure_ascii=escaped)
        body = body.replace("/", "\\/") if escaped else body
        content, audio = stream().decode(body.encode())
        assert audio == DATA
        assert {**content, "audio_data": text} == fields


def test_the_last_of_two_counts_as_in_any_json(stream):
    first, last = (base64.b64encode(DATA + end).decode() for end in (b"first", b"last"))
    body = f'{{"audio_data": "{first}", "other": "{first}", "audio_data": "{last}"}}'
    assert stream().decode(body.encode())[1] == DATA + b"last"


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 50_000, 100_000])
def test_any_length_with_or_without_padding_and_prefix(stream, length):
    text = base64.b64encode(DATA[:length]).decode()
    for sent in (text, text.rstrip("="), f"data:audio/wav;base64,{text}"):
        assert stream().decode(json.dumps({"audio_data": sent}).encode())[1] == DATA[:length]


@pytest.mark.parametrize("text", ["AAAA=AAA", "AA==" * 30_000, "é" * 70_000, "A" * 70_001 + "*"])
def test_what_is_no_base64_is_refused(stream, text):
    for ensure_ascii in (False, True):
        body = json.dumps({"audio_data": text}, ensure_ascii=ensure_ascii).encode()
        with pytest.raises(RefusalError, match="no base64"):
            stream().decode(body)


def test_a_long_field_that_nobody_reads_may_be_anything(stream):
    body = json.dumps({"other": "\ud800*" * 30_000, "audio_data": "AAAA"}).encode()
    assert stream().decode(body)[1] == bytes(3)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"a"',
        b'{"a": "\\',
        b'"' + b"a" * 70_000,
        b'{"a": "' + b"a" * 70_000 + b"\\",
        b'{"a": "' + b"a" * 70_000 + b'\\q"}',
        b"\xff",
        b'{"a":"b"}}',
    ],
)
def test_what_is_no_object_is_refused(stream, body):
    with pytest.raises(RefusalError, match="JSON"):
        stream().take(body)


def test_what_is_not_one_long_string_is_small(stream):
    with pytest.raises(RefusalError, match="besides its audio"):
        stream(most=5_000).take(b'{"x": [' + b"[]," * 2_000 + b"1]}")


def test_a_long_string_is_taken_for_no_other_field(stream):
    split = stream()
    content = split.take(json.dumps({"description": "a" * 70_000}).encode())
    assert content["description"] in split.sinks
    assert len(content["description"]) > 2_000
