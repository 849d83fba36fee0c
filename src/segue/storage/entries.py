"""What a store lists: the file systems of fsspec name the same things differently."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_STAMPS = ("ETag", "etag", "generation", "md5Hash", "checksum", "content_md5")
_TIMES = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")


@dataclass(frozen=True)
class StoredFile:
    """A file of a store.

    Attributes:
        size: in bytes.
        stamp: another one where the content is another: a hash of it, or when it was written.
    """

    size: int
    stamp: str


def name_of(entry: dict[str, Any]) -> str:
    """The last part of what is listed."""
    name: str = entry["name"].rstrip("/").rpartition("/")[2]
    return name


def stamp(entry: dict[str, Any]) -> str:
    """A hash of the content where the store has one, else when it was written."""
    for keys in (_STAMPS, _TIMES):
        if given := [f"{key}={entry[key]}" for key in keys if entry.get(key)]:
            return " ".join([str(entry["size"]), *given])
    return str(entry["size"])


def written(entry: dict[str, Any]) -> datetime:
    """When a file was written; now, where the store does not say."""
    found = next((entry[key] for key in _TIMES if entry.get(key)), None)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    if isinstance(found, int | float):
        found = datetime.fromtimestamp(found, UTC)
    if not isinstance(found, datetime):
        return datetime.now(UTC)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
