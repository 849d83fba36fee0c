"""The clients of a service that many share: who each is, and what it may have.

They are in a TOML file, each with a name, a token or the SHA-256 of one, and limits:

    [defaults]                         # of every client that does not say otherwise
    jobs_per_minute = 60               # requests that begin a job or bring audio
    jobs_at_once = 10                  # that may wait or run
    seconds_per_day = 3600             # of new audio, of all takes, in a day of UTC
    weight = 1                         # of its share while others wait, too

    [clients.anna]
    token = "..."

    [clients.studio]
    token_sha256 = "..."               # printf %s TOKEN | sha256sum
    weight = 3
    jobs_at_once = inf

    [clients.operator]
    token_sha256 = "..."
    admin = true                       # sees what all have, and /metrics
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import re
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RequestError

log = logging.getLogger("segue.service")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

SHORTEST_TOKEN = 16
"""Characters: what is shorter can be guessed by whoever has a token's SHA-256."""

_TOKEN = re.compile(rf"[!-~]{{{SHORTEST_TOKEN},}}")

_LIMITS = {
    "jobs_per_minute": (1, 100_000),
    "jobs_at_once": (1, 100_000),
    "seconds_per_day": (1, 1e9),
    "weight": (0.001, 1000),
}
"""What a client may have, from and to."""

_WHOLE = ("jobs_per_minute", "jobs_at_once")


@dataclass(frozen=True)
class Client:
    """Who sends a request.

    Attributes:
        name: of letters, digits, `.`, `_` and `-`; empty where clients are not told apart.
        admin: whether it sees and changes what others have.
        jobs_per_minute: requests that begin a job or bring audio; None for any number.
        jobs_at_once: that may wait or run.
        seconds_per_day: of new audio, of all takes, in a day of UTC.
        weight: of its share of what is generated while others wait, too.
    """

    name: str = ""
    admin: bool = False
    jobs_per_minute: int | None = None
    jobs_at_once: int | None = None
    seconds_per_day: float | None = None
    weight: float = 1.0

    def sees(self, owner: str) -> bool:
        """Whether it may see what another client has, or it itself."""
        return self.admin or self.name == owner


ANYONE = Client(admin=True)
"""Whoever sends a request to a service that does not tell clients apart."""


class Clients:
    """The clients of a file.

    Args:
        path: of the file; it is read, and read again by `reload`.

    Raises:
        RequestError: it cannot be used; one line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = secrets.token_bytes(32)
        self._by_token = self._read()

    def of_token(self, token: bytes) -> Client | None:
        """The client that a token is of; None if it is nobody's."""
        # Looked up by a hash under a key that nobody knows: how long that takes tells nothing.
        return self._by_token.get(self._keyed(hashlib.sha256(token).digest()))

    def reload(self) -> None:
        """Read the file again; where it cannot be used, everything stays as it was."""
        try:
            self._by_token = self._read()
        except RequestError as error:
            log.error("the clients stay as they were", extra={"reason": str(error)})
        else:
            log.info("the clients were read again", extra={"clients": len(self._by_token)})

    def _keyed(self, digest: bytes) -> bytes:
        return hmac.digest(self._key, digest, "sha256")

    def _read(self) -> dict[bytes, Client]:
        found: dict[bytes, Client] = {}
        for client, digest in read(self._path):
            key = self._keyed(digest)
            if key in found:
                raise _error(self._path, f"{found[key].name} and {client.name} have the same token")
            found[key] = client
        return found


def read(path: Path) -> list[tuple[Client, bytes]]:
    """Read a file of clients.

    Returns:
        Each client, and the SHA-256 of its token.

    Raises:
        RequestError: the file cannot be used; one line, without a token.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise _error(path, f"it cannot be read ({error.strerror})") from None
    except ValueError as error:  # which is not UTF-8, or no TOML; it tells the place alone
        where = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "not UTF-8"
        raise _error(path, f"it is no TOML ({where})") from None
    _check_names(path, "the file", content, ("defaults", "clients"))
    defaults, clients = _table(path, content, "defaults"), _table(path, content, "clients")
    if not clients:
        raise _error(path, "there are no clients in it: a client has a table [clients.NAME]")
    _check_names(path, "[defaults]", defaults, tuple(_LIMITS))
    common = {name: _limit(path, "[defaults]", name, value) for name, value in defaults.items()}
    return [_client(path, name, _table(path, clients, name), common) for name in clients]


def _client(
    path: Path, name: str, table: Mapping[str, Any], common: Mapping[str, Any]
) -> tuple[Client, bytes]:
    where = f"[clients.{name}]"
    if not _NAME.fullmatch(name):
        raise _error(
            path,
            f"{where}: a name has up to 64 letters, digits, dots, dashes and underscores, and "
            "begins with a letter or a digit",
        )
    _check_names(path, where, table, ("token", "token_sha256", "admin", *_LIMITS))
    admin = table.get("admin", False)
    if not isinstance(admin, bool):
        raise _error(path, f"{where}: admin must be true or false")
    own = {each: _limit(path, where, each, table[each]) for each in _LIMITS if each in table}
    return Client(name, admin, **{**common, **own}), _digest(path, where, table)


def _digest(path: Path, where: str, table: Mapping[str, Any]) -> bytes:
    """The SHA-256 of a client's token."""
    token, sha256 = table.get("token"), table.get("token_sha256")
    if (token is None) == (sha256 is None):
        raise _error(path, f"{where} must have one of token and token_sha256")
    if sha256 is not None:
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise _error(path, f"{where}: token_sha256 must have 64 hexadecimal digits")
        return bytes.fromhex(sha256)
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise _error(
            path,
            f"{where}: a token has {SHORTEST_TOKEN} printable ASCII characters or more, and no "
            "spaces; openssl rand -hex 16 makes one",
        )
    return hashlib.sha256(token.encode()).digest()


def _limit(path: Path, where: str, name: str, value: object) -> float | int | None:
    """A limit of the file; `inf` is none."""
    least, most = _LIMITS[name]
    whole = name in _WHOLE
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value == math.inf and name != "weight":
            return None
        if least <= value <= most and (not whole or value == int(value)):
            return int(value) if whole else float(value)
    kind, inf = "a whole number" if whole else "a number", ", or inf for no limit"
    raise _error(
        path,
        f"{where}: {name} must be {kind} between {least:g} and {most:g}"
        f"{'' if name == 'weight' else inf}",
    )


def _table(path: Path, content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise _error(path, f"{name} must be a table")
    return table


def _check_names(path: Path, where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in table:
        if name not in known:
            raise _error(path, f"{where} has no {name!r}; it may have {', '.join(known)}")


def _error(path: Path, line: str) -> RequestError:
    return RequestError(f"--clients {path}: {line}")
