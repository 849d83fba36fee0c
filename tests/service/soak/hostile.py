"""Requests that are meant to hurt: each is a 4xx, and costs no memory."""

from __future__ import annotations

import base64
import io
import itertools
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import soundfile

from ..server import Server, encoded, song
from .figures import Figures
from .memory import forget_peak, peak, resident

SERVER_MB, READER_MB = 24.0, 48.0
"""Beyond what they took before."""

JSON = {"Content-Type": "application/json"}
NO_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Attack:
    """Something hostile.

    Attributes:
        name: of it.
        send: does it; the status of the answer, and its body.
        statuses: that are right.
    """

    name: str
    send: Callable[[Server], tuple[int, str]]
    statuses: tuple[int, ...] = (422,)


def _post(path: str, **fields: Any) -> Callable[[Server], tuple[int, str]]:
    def send(server: Server) -> tuple[int, str]:
        answer = server.post(path, **fields)
        return answer.status_code, answer.text

    return send


def _audio(data: bytes | str, path: str = "/api/jobs") -> Callable[[Server], tuple[int, str]]:
    return _post(
        path, audio_data=data if isinstance(data, str) else base64.b64encode(data).decode()
    )


def _body(
    content: bytes | Callable[[], Iterator[bytes]], path: str = "/api/jobs"
) -> Callable[[Server], tuple[int, str]]:
    def send(server: Server) -> tuple[int, str]:
        body = content if isinstance(content, bytes) else content()
        answer = server.client.post(path, content=body, headers=JSON)
        return answer.status_code, answer.text

    return send


def _get(path: str, **headers: str) -> Callable[[Server], tuple[int, str]]:
    def send(server: Server) -> tuple[int, str]:
        answer = server.get(path, headers=headers)
        return answer.status_code, answer.text

    return send


def _raw(content: bytes, pace: float = 0.0) -> Callable[[Server], tuple[int, str]]:
    """Bytes on a connection of their own, one by one where there is a pace."""

    def send(server: Server) -> tuple[int, str]:
        with socket.create_connection(("127.0.0.1", urlsplit(server.url).port)) as connection:
            connection.settimeout(60)
            pieces = [content] if not pace else [content[n : n + 1] for n in range(len(content))]
            answer = b""
            for piece in pieces:
                connection.sendall(piece)
                if pace:
                    connection.settimeout(pace)
                    try:
                        answer = connection.recv(4096)
                        break
                    except TimeoutError:
                        continue
            connection.settimeout(60)
            while more := connection.recv(65_536):
                answer += more
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    return send


# --- Audio ----------------------------------------------------------------------------------------


def wav(
    frames: bytes = b"\0\0" * 100,
    rate: int = 44_100,
    channels: int = 1,
    bits: int = 16,
    announced: int | None = None,
    kind: int = 1,
    align: int | None = None,
    chunks: bytes = b"",
    format_bytes: int | None = None,
) -> bytes:
    """A WAV with a header of one's own."""
    align = channels * bits // 8 if align is None else align
    format_ = struct.pack(
        "<HHIIHH", kind, channels, rate, rate * align % 2**32, align % 2**16, bits
    )
    size = len(frames) if announced is None else announced
    length = len(format_) if format_bytes is None else format_bytes
    riff = (36 + len(chunks) + size) & 0xFFFFFFFF
    return (
        b"RIFF" + struct.pack("<I", riff) + b"WAVE"
        b"fmt "
        + struct.pack("<I", length)
        + format_
        + chunks
        + b"data"
        + struct.pack("<I", size)
        + frames
    )


def flac_of_silence(hours: float = 10.0) -> bytes:
    """A few hundred kilobytes."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 8_000, 1, "PCM_16", format="FLAC") as flac:
        for _ in range(round(60 * hours)):
            flac.write(np.zeros(60 * 8_000, np.int16))
    return file.getvalue()


def _unknown_length(flac: bytes) -> bytes:
    """The number of samples is 36 bits at byte 21 of a FLAC; zero means unknown."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


def _lying_length(flac: bytes) -> bytes:
    return flac[:21] + bytes([flac[21] | 0x0F]) + b"\xff" * 4 + flac[26:]


def _file(format_: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, song(1.0), 48_000, format=format_, subtype=subtype)
    return file.getvalue()


def _audio_attacks(quick: bool) -> Iterator[Attack]:
    silence = flac_of_silence()
    few = silence[:4096] + b"\0" * 100
    yield Attack(f"ten hours of silence, FLAC of {len(silence) // 1000} kB", _audio(silence))
    yield Attack("ten hours of silence that do not say so", _audio(_unknown_length(silence)))
    yield Attack("FLAC that promises 18 days", _audio(_lying_length(_file("FLAC"))))
    yield Attack("FLAC cut in its first frames", _audio(_lying_length(few)))
    for rate in (0, 1, 7_999, 192_001, 0xFFFFFFFF):
        yield Attack(f"WAV of {rate} samples a second", _audio(wav(rate=rate)))
    for channels in (0, 9, 1000, 65_535):
        data = wav(channels=channels, frames=b"\0" * 200_000)
        yield Attack(f"WAV of {channels} channels", _audio(data))
    yield Attack("WAV of 0 bits", _audio(wav(bits=0)))
    yield Attack("WAV of 4096 bits", _audio(wav(bits=4096, frames=b"\0" * 100_000)))
    yield Attack("WAV of an unknown kind", _audio(wav(kind=0x5EC9)))
    yield Attack("WAV without a frame, announcing 4 GB", _audio(wav(b"", announced=0xFFFFFFF0)))
    yield Attack("WAV whose format chunk is 4 GB", _audio(wav(format_bytes=0xFFFFFFF0)))
    yield Attack("WAV whose format chunk is empty", _audio(wav(format_bytes=0)))
    huge = b"fact" + struct.pack("<I", 0xFFFFFFF0)
    yield Attack("WAV whose fact chunk is 4 GB", _audio(wav(chunks=huge)))
    lists = b"LIST" + struct.pack("<I", 0x7FFFFFFF) + b"INFO"
    yield Attack("WAV whose list is 2 GB", _audio(wav(chunks=lists)))
    yield Attack("WAV of NaN", _audio(encoded(np.full((100, 1), np.nan), subtype="FLOAT")))
    yield Attack("WAV of 1e35", _audio(encoded(np.full((100, 1), 1e35), subtype="DOUBLE")))
    for format_, subtype in (
        ("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None),
        ("AIFF", None), ("AU", None), ("CAF", None), ("W64", None), ("RF64", None),
    ):  # fmt: skip
        whole = _file(format_, subtype)
        for part in (4, 12, 30):
            name = f"{subtype or format_} cut after {part} bytes"
            # An AU has a head of 24 bytes, so that 30 are a short one.
            yield Attack(name, _audio(whole[:part]), (202, 422) if format_ == "AU" else (422,))
        junk = whole[:40] + b"\xff" * 20_000
        yield Attack(f"{subtype or format_}, noise behind its head", _audio(junk), (202, 422))
        half = whole[: len(whole) // 2]
        yield Attack(f"{subtype or format_} cut in half", _audio(half), (202, 422))
    for name, data in (
        ("zeros", b"\0" * 100_000),
        ("a ZIP", b"PK\3\4" + b"\0" * 1000),
        ("a script", b"#!/bin/sh\nrm -rf ~\n"),
        ("a playlist of local files", b"#EXTM3U\nfile:///etc/passwd\n"),
        ("an MP4", b"\0\0\0\x20ftypM4A \0\0\0\0" + b"\0" * 1000),
        ("an ID3 tag of 256 MB", b"ID3\4\0\0\x7f\x7f\x7f\x7f" + b"\0" * 1000),
    ):
        yield Attack(f"{name} for audio", _audio(data))
    if not quick:
        bomb = base64.b64encode(b"\0" * (100 << 20)).decode()
        yield Attack("base64 of 100 MB of zeros", _audio(bomb))
        ones = base64.b64encode(wav(b"\1\0" * (48 << 20), rate=8_000)).decode()
        yield Attack("WAV of 100 MB, 100 minutes", _audio(ones))


# --- JSON -----------------------------------------------------------------------------------------


def _repeated(piece: bytes, megabytes: int, before: bytes, after: bytes) -> Any:
    def content() -> Iterator[bytes]:
        yield before
        block = piece * ((1 << 20) // len(piece))
        for _ in range(megabytes):
            yield block
        yield after

    return content


def _json_attacks(quick: bool) -> Iterator[Attack]:
    large = 8 if quick else 100
    yield Attack(f"{large} MB of spaces", _body(_repeated(b" ", large, b"", b"{}")), (413, 422))
    yield Attack(
        f"{large} MB of empty lists", _body(_repeated(b"[],", large, b'{"x":[', b"0]}")), (413,)
    )
    yield Attack(
        f"{large} MB of empty strings", _body(_repeated(b'"",', large, b'{"x":[', b"0]}")), (413,)
    )
    yield Attack(f"{large} MB of nested lists", _body(_repeated(b"[", large, b"", b"")), (413, 422))
    yield Attack(
        f"{large} MB that are no base64",
        _body(_repeated(b"\\u00e9", large, b'{"audio_data":"', b'"}')),
    )
    yield Attack(
        f"{large} MB of backslashes", _body(_repeated(b"\\", large, b'{"audio_data":"', b'"}'))
    )
    yield Attack(
        f"{large} MB of description",
        _body(_repeated(b"a", large, b'{"audio_data":"AAAA","description":"', b'"}')),
    )
    yield Attack(
        f"{large} MB of a name", _body(_repeated(b"a", large, b'{"audio_data":"AAAA","', b'":1}'))
    )
    endless = _repeated(b" ", 200, b"", b"")
    if not quick:
        yield Attack("a chunked body of 200 MB", _body(endless), (413,))
    yield Attack("a chunked body of 200 MB for a retry",
                 _body(endless, "/api/juce/retry_music"), (413,))  # fmt: skip
    for name, content in (
        ("nesting of 100 000", b"[" * 100_000),
        ("nesting of 100 000 in a field", b'{"seed":' + b'{"a":' * 100_000),
        ("a number of 500 000 digits", b'{"seed":' + b"9" * 500_000 + b"}"),
        ("a number of 1e999999", b'{"session_id":"a","seed":1e999999}'),
        ("NaN", b'{"session_id":"a","temperature":NaN}'),
        ("Infinity", b'{"session_id":"a","temperature":-Infinity}'),
        ("half a surrogate", b'{"session_id":"\\ud800","description":"\\ud800"}'),
        ("no UTF-8", b'{"session_id":"\xff\xfe"}'),
        ("UTF-16", '{"session_id":"a"}'.encode("utf-16")),
        ("a list", b"[]"),
        ("null", b"null"),
        ("nothing", b""),
        ("a string that does not end", b'{"session_id":"'),
    ):
        for path in ("/api/juce/retry_music", "/api/jobs", "/api/models/predownload"):
            yield Attack(f"{name}, {path}", _body(content, path), (404, 415, 422))
    wrong: tuple[Any, ...] = (
        [], {}, True, [1], "x", "1e400", "١", "0x10", 10**400, -(10**40), float(2**70), "\0", "∞",
    )  # fmt: skip
    fields = (
        *("top_k", "temperature", "cfg_coef", "seed", "prompt_start", "prompt_seconds"),
        *("output_seconds", "variations"),
    )
    audio = encoded(song(0.2, 8_000, 1), 8_000)
    for field in fields:
        for value in wrong:
            said = repr(value)[:20]
            send = _post("/api/jobs", audio_data=audio, **{field: value})
            yield Attack(f"{field} {said}", send)
    for field in ("description", "model_name", "quantization_mode", "audio_data"):
        for value in ([], {}, 5, True, [1], "\0", "a" * 5000):
            send = _post("/api/jobs", **{"audio_data": audio, field: value})
            yield Attack(f"{field} {value!r:.20}", send, (404, 422))


# --- Names, addresses and connections -------------------------------------------------------------


def _name_attacks(quick: bool) -> Iterator[Attack]:
    audio = encoded(song(0.2, 8_000, 1), 8_000)
    for name in (
        "/etc/passwd", "../../etc", "~", "file:///etc/passwd", "https://example.org/x",
        "http://169.254.169.254/latest", "local/../../etc", "local/", "built-in/../..",
        "'; DROP TABLE jobs; --", "a" * 300, "\\\\host\\share", "facebook/musicgen-small/../x",
        "..", ".", "%2e%2e%2f", "C:\\Windows", "nul", "\n", "‮",
    ):  # fmt: skip
        shown = name[:30]
        send = _post("/api/jobs", audio_data=audio, model_name=name)
        yield Attack(f"model {shown!r}", send, (404, 422) if name.strip() else (202,))
        send = _post("/api/models/predownload", model_name=name)
        yield Attack(f"predownload {shown!r}", send, (404, 422))
    for id_ in (
        "'%20OR%201=1%20--", "%00", NO_ID, "..%2f..%2fsegue.db", "a" * 5000, "%ff%fe", "💿",
        f"{NO_ID}'%3B%20DROP%20TABLE%20jobs", "%2e%2e", "*", "%25", NO_ID.upper(), f"{NO_ID}%0a",
    ):  # fmt: skip
        for path in (
            f"/api/jobs/{id_}",
            f"/api/jobs/{id_}/takes/1.wav",
            f"/api/jobs/{id_}/stream",
            f"/api/models/predownload_status/{id_}",
        ):
            yield Attack(f"GET {path[:60]}", _get(path), (400, 404))
    for path in (
        "/web/..%2f..%2fcli.py", "/web/%2e%2e/%2e%2e/cli.py", "/web//etc/passwd",
        "/web/__init__.py", "/api/prompts/..%2f__init__.py", "/api/prompts/..%2f..%2fcli.ogg",
        "//etc/passwd",
        "/api/prompts/%00.ogg", "/api/models/download_status?model_name=/etc/passwd",
        "/api/models/download_status?model_name=%00",
        "/api/models/download_status?model_name=" + "a" * 5000,
        f"/api/jobs/{NO_ID}/takes/99999999999999999999.wav",
        f"/api/jobs/{NO_ID}/takes/-1.wav",
    ):  # fmt: skip
        yield Attack(f"GET {path[:60]}", _get(path), (400, 404, 422))
    for host in ("evil.example", "localhost.evil.example", "evil.example@localhost", "192.168.0.7"):
        yield Attack(f"Host: {host}", _get("/api/models", Host=host), (400, 403))
    for origin in ("https://evil.example", "null", "http://localhost:3000", "file://"):
        yield Attack(f"Origin: {origin}", _get("/api/models", Origin=origin), (403,))
    yield Attack("Sec-Fetch-Site: cross-site",
                 _get("/api/models", **{"Sec-Fetch-Site": "cross-site"}), (403,))  # fmt: skip
    long = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000
    yield Attack("a header that has 70 000 bytes and no end", _raw(long), (400, 431))
    yield Attack("no HTTP", _raw(b"\x16\3\1\2\0\1\0" + b"\0" * 100 + b"\r\n\r\n"), (400,))
    post = b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    huge = post + b"Expect: 100-continue\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n"
    yield Attack("Content-Length of 1e30", _raw(huge), (400, 413))
    two = post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}"
    yield Attack("two lengths", _raw(two), (400,))
    if not quick:
        slow = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1000
        yield Attack("a head that comes drop by drop", _raw(slow, pace=0.2), (408,))
        slow = post + b"Content-Length: 1000\r\n\r\n" + b" " * 1000
        yield Attack("a body that comes drop by drop", _raw(slow, pace=0.2), (408,))


def attacks(quick: bool) -> Iterator[Attack]:
    """All of them; `quick` leaves out what is large or slow."""
    yield from _audio_attacks(quick)
    yield from _json_attacks(quick)
    yield from _name_attacks(quick)


def hostile(server: Server, quick: bool = False, every: int = 1) -> Figures:
    """One after the other, or every so-manieth; what the processes take is looked at after each."""
    figures = Figures("hostile requests")
    server.post("/api/jobs", audio_data="AAAA")  # starts the reader
    assert server.post("/api/jobs", audio_data=encoded(song(0.2))).status_code == 202
    server.until(lambda: not server.get("/health").json()["playing"], "it does not end")
    (reader,) = server.workers("reader")
    pids = {"server": server.process.pid, "reader": reader}
    before = {role: resident(pid) for role, pid in pids.items()}
    most = dict.fromkeys(pids, (0.0, ""))
    limits = {"server": SERVER_MB, "reader": READER_MB}
    count, taken, wrong = 0, 0, []
    began = time.monotonic()
    for attack in itertools.islice(attacks(quick), 0, None, every):
        for pid in pids.values():
            forget_peak(pid)
        status, body = attack.send(server)
        count += 1
        if status not in attack.statuses:
            wrong.append(f"{attack.name}: {status} {body[:200]}")
        elif status in (200, 202):
            taken += 1
            server.delete(f"/api/jobs/{json.loads(body)['job_id']}")
        elif not _says_why(body):
            wrong.append(f"{attack.name}: {body[:200]}")
        for role, pid in pids.items():
            grown = peak(pid) - before[role]
            most[role] = max(most[role], (grown, attack.name))
            if grown > limits[role]:
                wrong.append(f"{attack.name}: the {role} took {grown:.0f} MB more")
    assert not wrong, "\n".join(wrong)
    assert server.get("/health").json()["status"] == "live"
    assert server.workers("reader") == [reader], "the reader broke"
    assert not [line for line in server.lines() if line["message"] in ("fault", "disk")]
    assert list((server.state / "uploads").iterdir()) == []
    figures.add("requests", f"{count} in {time.monotonic() - began:.0f} s")
    figures.add("answered with a 4xx and one line", count - taken)
    figures.add("harmless after all (what could be read of them was played)", taken)
    for role in pids:
        grown, name = most[role]
        figures.add(
            f"{role}, at most",
            f"{before[role]:.0f} MB {grown:+.0f} MB ({name}); may grow by {limits[role]:g} MB",
        )
        figures.add(f"{role}, at last", f"{resident(pids[role]) - before[role]:+.0f} MB")
    return figures


def _says_why(body: str) -> bool:
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return said.get("success") is False and bool(said.get("error")) and "\n" not in said["error"]
