"""Shared storage by address: `s3://BUCKET/PATH`, `gs://…` and whatever else fsspec reads.

This package is all that knows fsspec, and all that talks to a store.  Keys come from where each
store's own tools look for them (the environment, `~/.aws`, the machine's role) and are never part
of an address.  What a store says becomes one line.

`file://PATH` is a folder of this machine, and is read as one.
"""

from .addresses import base_name, is_address, joined, parent, place, plain
from .entries import StoredFile
from .errors import NothingThereError, StorageError, UnreachableStoreError
from .folder import Storage

__all__ = [
    "NothingThereError",
    "Storage",
    "StorageError",
    "StoredFile",
    "UnreachableStoreError",
    "base_name",
    "is_address",
    "joined",
    "parent",
    "place",
    "plain",
]
