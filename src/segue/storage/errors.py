"""What goes wrong with shared storage, in one line each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import SegueError


class StorageError(SegueError):
    """An address that cannot be used, or what the store refuses."""


class UnreachableStoreError(StorageError):
    """The store does not answer."""


class NothingThereError(StorageError):
    """There is no such folder or file."""


class RefusedError(StorageError):
    """The store does not let us."""


@contextmanager
def explained(address: str, writing: bool = False) -> Iterator[None]:
    """Turn whatever a store's package raises into one line that names the address."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError:
        what = "no such bucket or folder" if writing else "nothing at this address"
        raise NothingThereError(f"{address}: there is {what}") from None
    except PermissionError as error:
        raise RefusedError(
            f"{address}: the store refuses ({first_line(error)}); look at the keys that are set "
            "for it, and at what they may do"
        ) from None
    except Exception as error:  # each store has exceptions of its own
        raise UnreachableStoreError(
            f"{address}: the store does not answer as it should ({first_line(error)})"
        ) from error


def first_line(error: Exception) -> str:
    """What an exception says, in one line of no more than 200 characters."""
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200]
