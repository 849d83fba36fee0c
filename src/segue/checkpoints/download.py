"""Download a repository of the Hugging Face hub into the cache, resuming partial files.

huggingface_hub's own `hf_hub_download` starts a file anew when the last run was interrupted
(https://github.com/huggingface/huggingface_hub/pull/4228: with broken locks, two that append to one
part would corrupt it), and one file of a checkpoint has gigabytes.  So files are transferred here:
a part is stored beside the cache's blobs as `HASH.incomplete`, and the next run resumes at its last
byte.  This is safe because a blob's name is the hash of its content, which is checked before a part
is renamed to it.

Files come over plain HTTP with ranges, not over Xet; the hub serves all below 50 GB that way
(huggingface_hub's `MAX_HTTP_DOWNLOAD_SIZE`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import get_session, get_token
from huggingface_hub.errors import OfflineModeIsEnabled

from .. import atomic
from ..errors import CheckpointError
from ..progress import Progress
from . import diagnosis
from .files import FileChoice

TIMEOUT_S = 10.0  # huggingface_hub's own: for a connection, and for silence within an answer
PAUSES_S = (1.0, 2.0, 4.0, 8.0)  # before each retry after no data came
_TRANSIENT = (408, 429, 500, 502, 503, 504)  # HTTP statuses worth a retry

OnBytes = Callable[[int], None]


class UnreachableError(CheckpointError):
    """The hub does not answer."""


def download(name: str, files: FileChoice, folder: Path, progress: Progress) -> Path:
    """Download the needed files of the hub's repository `name` into `folder` of the cache.

    Files that are cached already are not transferred again.

    Args:
        name: the repository, such as `facebook/musicgen-small`.
        files: which of its files are needed.
        folder: its folder in the cache, `models--OWNER--NAME`.
        progress: receives one stage, in bytes over all files, cached ones counted as done.

    Returns:
        The snapshot folder of the commit that is `main` at the hub now.

    Raises:
        UnreachableError: the hub does not answer.
        CheckpointError: the network, the hub or the disk failed otherwise; one line.
    """
    with _explained(name, folder):
        repository = _Repository(name, folder)
        needed = files.select(repository.files, lambda file: repository.fetch(file).read_bytes())
        if not needed:
            if (problem := diagnosis.diagnose_file_names(repository.files)) is not None:
                raise CheckpointError(f"{name}: {problem}")
            raise CheckpointError(
                f"{name} holds nothing that segue reads; it looks for {files.description}"
            )
        if absent := [file for file in needed if file not in repository.files]:
            raise CheckpointError(f"{name} is not whole at {_hub()}: no {', '.join(absent)}")
        repository.check_disk_space(needed)
        total = sum(repository.files[file].size for file in needed)
        with progress.stage(f"download {name}", total, "B") as advance:
            before = furthest = 0

            def on_bytes(of_file: int) -> None:
                # Where a server restarts a file, the bar waits instead of moving back.
                nonlocal furthest
                furthest = max(furthest, before + of_file)
                advance(furthest)

            for file in needed:
                repository.fetch(file, on_bytes)
                before += repository.files[file].size
        repository.write_main_ref()
        return repository.snapshot


@dataclass(frozen=True)
class Sizes:
    """How large a repository is.

    Attributes:
        total: bytes of the files that are needed.
        missing: those of them that are not on this machine.
    """

    total: int
    missing: int


def sizes(name: str, files: FileChoice, folder: Path) -> Sizes:
    """Ask the hub how large a repository is, without its weights.

    Args:
        name: see `download`.
        files: see there.
        folder: see there.

    Raises:
        CheckpointError: see there.
    """
    with _explained(name, folder):
        repository = _Repository(name, folder)
        needed = files.select(repository.files, lambda file: repository.fetch(file).read_bytes())
        there = [file for file in needed if file in repository.files]
        total = sum(repository.files[file].size for file in there)
        return Sizes(total, repository.missing_bytes(there))


@contextmanager
def _explained(name: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        raise
    except httpx2.HTTPStatusError as error:
        raise CheckpointError(_refusal(name, error.response)) from error
    except (httpx2.TransportError, OfflineModeIsEnabled) as error:
        raise UnreachableError(f"cannot reach {_hub()}") from error
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"cannot store {name} in {folder.parent}: {reason}") from error
    except httpx2.HTTPError as error:
        raise CheckpointError(_invalid_answer(name, error)) from error


def _refusal(name: str, answer: httpx2.Response) -> str:
    if answer.headers.get("X-Error-Code") == "GatedRepo":
        return (
            f"{name} is gated: accept its terms at {_hub()}/{name}, "
            "and set HF_TOKEN to a token of that account"
        )
    # Without a token the hub answers 401 for what does not exist, too.
    if answer.status_code in (401, 403, 404):
        return (
            f"{_hub()} has no repository {name}, or does not show it ({answer.status_code}): "
            "look at the spelling, or set HF_TOKEN to a token that may read it"
        )
    return f"{_hub()} answered {answer.status_code} {answer.reason_phrase} for {name}; try later"


def _invalid_answer(name: str, error: Exception) -> str:
    return (
        f"{_hub()} does not answer as a hub would when asked for {name} ({type(error).__name__}); "
        "look at the connection and at HF_ENDPOINT"
    )


@dataclass(frozen=True)
class _File:
    """A file of a repository.

    Attributes:
        size: in bytes.
        digest: SHA-256 of a file in LFS, git's SHA-1 of any other; the name of its blob.
    """

    size: int
    digest: str

    def has_size_of(self, path: Path) -> bool:
        return path.is_file() and path.stat().st_size == self.size

    def has_content_of(self, path: Path) -> bool:
        if len(self.digest) == 64:
            digest = hashlib.sha256()
        else:
            digest = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        with path.open("rb") as content:
            return hashlib.file_digest(content, lambda: digest).hexdigest() == self.digest


class _Repository:
    """The commit that is `main` at the hub, and its folders in the cache."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.headers = {"User-Agent": "segue"}
        try:
            listing = self._listing()
            self.commit = _hash(listing["sha"])
            self.files = {
                file["rfilename"]: _File(
                    size=int(file["size"]),
                    digest=_hash(file["lfs"]["sha256"] if file.get("lfs") else file["blobId"]),
                )
                for file in listing["siblings"]
            }
        except (CheckpointError, httpx2.HTTPError, OSError):
            raise
        except Exception as error:  # the answer may be anything, such as a captive portal's page
            raise CheckpointError(_invalid_answer(name, error)) from error
        self.snapshot = folder / "snapshots" / self.commit

    def _listing(self) -> Any:
        """The hub's listing of the repository, with the size and the hash of every file."""
        # Not `build_hf_headers`, which sends what else is installed and running here.
        if token := _token():
            if not (token.isascii() and token.isprintable()):
                raise CheckpointError("HF_TOKEN holds characters that no token has; set it anew")
            self.headers["Authorization"] = f"Bearer {token}"
        answer = get_session().get(
            f"{_hub()}/api/models/{self.name}",
            params={"blobs": "true"},
            headers=self.headers,
            timeout=TIMEOUT_S,
        )
        return answer.raise_for_status().json()

    def missing_bytes(self, names: list[str]) -> int:
        """Bytes of the files `names` that are not stored, in parts neither."""
        return sum(
            file.size - _size(self._part(file))
            for name in names
            if not (file := self.files[name]).has_size_of(self.snapshot / name)
            and not file.has_size_of(self._blob(file))
        )

    def check_disk_space(self, names: list[str]) -> None:
        """Raise before the first byte, not hours later, if the disk has no room for all of it."""
        cache = self.folder.parent
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
        needed = self.missing_bytes(names)
        if needed > free:
            raise CheckpointError(
                f"{self.name} needs {needed / 1e9:.1f} GB more, and {cache} has "
                f"{free / 1e9:.1f} GB; make room, or set HF_HOME to a folder on another disk"
            )

    def fetch(self, name: str, on_bytes: OnBytes = lambda done: None) -> Path:
        """Return the cached file, after transferring what is missing of it.

        Args:
            name: of the file.
            on_bytes: called repeatedly with the number of its bytes that are stored.
        """
        file = self.files[name]
        blob, link = self._blob(file), self.snapshot / name
        if not file.has_size_of(link):
            lock = self.folder.parent / ".locks" / self.folder.name / f"{file.digest}.lock"
            for path in (blob, link, lock):
                path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(lock):
                if not file.has_size_of(blob):
                    self._transfer(name, file, on_bytes)
                    # Its hash is not checked again, so it must survive a power cut, too.
                    atomic.publish(self._part(file), blob)
                _link(link, blob)
        on_bytes(file.size)
        return link

    def write_main_ref(self) -> None:
        """Write which commit `main` is, for the cache's other users."""
        reference = self.folder / "refs" / "main"
        reference.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(reference) as temporary:
            temporary.write_text(self.commit)

    def _blob(self, file: _File) -> Path:
        return self.folder / "blobs" / file.digest

    def _part(self, file: _File) -> Path:
        return self.folder / "blobs" / f"{file.digest}.incomplete"

    def _transfer(self, name: str, file: _File, on_bytes: OnBytes) -> None:
        """Complete the part of `file`, over as many connections as necessary."""
        part = self._part(file)
        part.touch()
        pauses = iter(PAUSES_S)
        while (received := _size(part)) < file.size:
            on_bytes(received)
            problem: Exception | None = None
            try:
                self._receive(name, file, part, received, on_bytes)
            except httpx2.HTTPStatusError as error:
                if error.response.status_code == 416:  # the file is shorter than its listing says
                    break
                if error.response.status_code not in _TRANSIENT:
                    raise
                problem = error
            except httpx2.TransportError as error:
                problem = error
            if _size(part) > received:
                pauses = iter(PAUSES_S)
            elif (pause := next(pauses, None)) is not None:
                time.sleep(pause)
            else:
                raise CheckpointError(
                    f"{self.name}: {_hub()} stopped sending {name} at {received} of {file.size} "
                    "bytes; run it again to go on from there"
                ) from problem
        if not file.has_size_of(part) or not file.has_content_of(part):
            part.unlink()
            raise CheckpointError(
                f"{self.name}: what {_hub()} sent as {name} is not what it announced; try again"
            )

    def _receive(
        self, name: str, file: _File, part: Path, received: int, on_bytes: OnBytes
    ) -> None:
        """Append the bytes of one connection to `part`."""
        url = f"{_hub()}/{self.name}/resolve/{self.commit}/{name}"
        headers = self.headers | {"Accept-Encoding": "identity"}
        if received:
            headers["Range"] = f"bytes={received}-"
        with (
            get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S) as answer,
            part.open("r+b") as out,
        ):
            # 206 is the requested range; 200 is the whole file, from a server without ranges.
            out.seek(received if answer.raise_for_status().status_code == 206 else 0)
            for chunk in answer.iter_bytes():
                out.write(chunk)
                on_bytes(out.tell())
                if out.tell() > file.size:
                    break


def _hub() -> str:
    """The address of the hub by the current environment."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _token() -> str | None:
    try:
        return get_token()
    except OSError:  # its file is unreadable; most repositories need none
        return None


def _hash(text: str) -> str:
    """`text`, if it is a hash: it comes from the network and becomes a path."""
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text):
        raise ValueError(f"not a hash: {text!r}")
    return text


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Hold the lock of a file, which huggingface_hub takes too; wait for its holder.

    The system releases it however the process ends.
    """
    with lock.open("ab") as held:
        with suppress(OSError):  # some network disks have no locks; the hash is checked anyway
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _link(link: Path, blob: Path) -> None:
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(Path("..", "..", blob.parent.name, blob.name))
    except OSError:  # no links on this disk (exFAT): huggingface_hub moves the file, too
        blob.replace(link)
