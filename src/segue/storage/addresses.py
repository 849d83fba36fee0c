"""Addresses of shared storage: which they are, and their parts."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .errors import StorageError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)

_WEB = ("http", "https", "hf")
"""Not storage: they have no folders to list, or are the hub under another name."""

LOCAL = ("file", "local")


def is_address(name: str) -> bool:
    """Tell whether `name` is an address of shared storage, and not of the web."""
    match = _SCHEME.match(name)
    return match is not None and match[1].lower() not in _WEB


def plain(name: str) -> str:
    """Return `name` as it is used: `file://` as a path, an address without slashes at its end."""
    if not is_address(name):
        return name
    if scheme_of(name) in LOCAL:
        parts = urlsplit(name)
        return unquote(parts.netloc + parts.path) or "/"
    scheme, mark, rest = name.partition("://")
    return scheme + mark + rest.rstrip("/")


def place(typed: str) -> Path | str:
    """Return what a user typed as a path of this machine, or as an address (a `str`)."""
    found = plain(typed)
    return found if is_address(found) else Path(found)


def base_name(address: str) -> str:
    """Return the last part of an address."""
    return plain(address).rpartition("/")[2]


def joined(address: str, name: str) -> str:
    """Return the address of what is called `name` in the folder `address`."""
    return f"{plain(address)}/{name}"


def parent(address: str) -> str:
    """Return the address of the folder that `address` lies in.

    Raises:
        StorageError: the address is a bucket, or empty.
    """
    folder, _, name = plain(address).rpartition("/")
    if not name or folder.endswith(("/", ":")):
        raise StorageError(f"{address}: no file is named; write one behind a bucket or a folder")
    return folder


def scheme_of(address: str) -> str:
    """What stands in front of `://`, in small letters; empty if nothing does."""
    match = _SCHEME.match(address)
    return "" if match is None else match[1].lower()
