"""Bodies with a file in them, taken apart piece by piece."""

import base64
import io
import json

import pytest

from segue.service.exceptions import RefusalError
from segue.service.http import json_stream
from segue.service.http.json_stream import split, text_of
from segue.service.http.uploads import _decode

DATA = bytes(range(256)) * 2_000


@pytest.fixture(autouse=True, params=[1 << 20, 1000, 61])
def block(request, monkeypatch):
    """Wherever the blocks that are read end."""
    monkeypatch.setattr(json_stream, "_BLOCK", request.param)


def decoded(body, tmp_path, most=1 << 20):
    file = io.BytesIO(body)
    content, spans = split(file, most)
    audio = content["audio_data"]
    to = tmp_path / "audio"
    _decode(text_of(file, spans[audio]) if audio in spans else [audio], to)
    return content, to.read_bytes()


@pytest.mark.parametrize("escaped", [False, True])
def test_the_audio_comes_out_as_it_went_in_wherever_it_stands(tmp_path, escaped):
    text = base64.b64encode(DATA).decode()
    if escaped:  # as Swift writes it, in lines
        text = "\n".join(text[n : n + 76] for n in range(0, len(text), 76))
    for fields in ({"seed": 1, "audio_data": text}, {"audio_data": text, "description": 'a "b\\"'}):
        body = json.dumps(fields, ensure_ascii=escaped)
        body = body.replace("/", "\\/") if escaped else body
        content, audio = decoded(body.encode(), tmp_path)
        assert audio == DATA
        assert {**content, "audio_data": text} == fields


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 50_000])
def test_any_length_with_or_without_padding_and_prefix(tmp_path, length):
    text = base64.b64encode(DATA[:length]).decode()
    for sent in (text, text.rstrip("="), f"data:audio/wav;base64,{text}"):
        assert decoded(json.dumps({"audio_data": sent}).encode(), tmp_path)[1] == DATA[:length]


@pytest.mark.parametrize("text", ["AAAA=AAA", "AA==" * 30_000, "é" * 70_000, "A" * 70_001 + "*"])
def test_what_is_no_base64_is_refused(tmp_path, text):
    with pytest.raises(RefusalError, match="no base64"):
        decoded(json.dumps({"audio_data": text}).encode(), tmp_path)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"a"', b'{"a": "\\', b'"' + b"a" * 70_000, b"\xff", b'{"a":"b"}}']
)
def test_what_is_no_object_is_refused(body):
    with pytest.raises(RefusalError, match="JSON"):
        split(io.BytesIO(body), 1 << 20)


def test_what_is_not_one_long_string_is_small():
    with pytest.raises(RefusalError, match="besides its audio"):
        split(io.BytesIO(b'{"x": [' + b"[]," * 2_000 + b"1]}"), most=5_000)


def test_a_long_string_is_taken_for_no_other_field():
    content, spans = split(io.BytesIO(json.dumps({"description": "a" * 70_000}).encode()), 1 << 20)
    assert content["description"] in spans
    assert len(content["description"]) > 2_000
