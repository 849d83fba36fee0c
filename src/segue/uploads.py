"""Outputs at an address of shared storage: written here first, and stored when they are finished.

So nothing half-written is ever seen there, and what cannot be stored is not lost.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError, SegueError
from .progress import SILENT, Progress
from .storage import Storage, StorageError, base_name, joined, parent, plain

PREFIX = "segue-"


class Upload:
    """An output whose address was named, and the folder of this machine that it is written in.

    Args:
        address: of a file, or of a folder that is written as one.

    Attributes:
        address: the same.
        folder: a new one, temporary, for this output alone.
        path: what is written for `address`, in it.
        kept: whether it stays, because what is in it could not be stored.

    Raises:
        StorageError: the address cannot be used, or its store does not answer.
    """

    def __init__(self, address: str) -> None:
        self.address, self._to = plain(address), parent(address)
        Storage(self._to).check()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.path = self.folder / base_name(address)
        self.kept = False

    def address_of(self, path: Path) -> str:
        """Return where a file of the folder is stored."""
        return joined(self._to, path.relative_to(self.folder).as_posix())

    def check_new(self) -> None:
        """Check that nothing is stored at the address yet.

        Raises:
            OutputError: something is.
            StorageError: the store refuses, or does not answer.
        """
        if not Storage(self.address).is_empty():
            raise OutputError(f"{self.address}: exists already; name a new folder")

    def store(self, progress: Progress = SILENT, last: Sequence[str] = ()) -> None:
        """Store what lies in the folder.

        Args:
            progress: receives one stage, in files.
            last: see `store_folder`.

        Raises:
            OutputError: the store refuses; the line says where the files are kept on this machine.
        """
        try:
            store_folder(self.folder, self._to, progress, last)
        except StorageError as error:
            self.kept = True
            raise OutputError(f"{error}; what was made is kept in {self.folder}") from None

    def clean(self) -> None:
        """Remove the folder, unless what is in it could not be stored."""
        if not self.kept:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def upload_of(options: argparse.Namespace) -> Iterator[Upload | None]:
    """Have what `options.output` names by its address written in a folder of this machine.

    In the block `options.output` is a path there, and errors name the address all the same.

    Args:
        options: parsed; `output` may be missing, or a path, and then nothing is done.

    Yields:
        What the block calls `store` of, at its end; None where there is nothing to store.

    Raises:
        StorageError: the address cannot be used, or its store does not answer.
    """
    output = getattr(options, "output", None)
    if not isinstance(output, str):
        yield None
        return
    upload = Upload(output)
    options.output = upload.path
    try:
        yield upload
    except SegueError as error:
        if not upload.kept:  # else it says where
            error.args = (str(error).replace(str(upload.folder), parent(output)), *error.args[1:])
        raise
    finally:
        upload.clean()


def store_folder(
    folder: Path, address: str, progress: Progress = SILENT, last: Sequence[str] = ()
) -> None:
    """Store the files of a folder and its subfolders, each whole or not at all.

    Args:
        folder: on this machine.
        address: of the folder in the store.
        progress: receives one stage, in files.
        last: names of files that come after all others, because they say that all is there.

    Raises:
        StorageError: the store refuses, or does not answer.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files.sort(key=lambda path: path.name in last)
    with progress.stage(f"store in {address}", len(files)) as advance:
        for n, path in enumerate(files, 1):
            inside = path.parent.relative_to(folder).as_posix()
            Storage(address if inside == "." else joined(address, inside)).put(path, path.name)
            advance(n)


def store_content(content: bytes, address: str) -> None:
    """Store a file of which the content is at hand.

    Raises:
        OutputError: the store refuses; the line says where the file is kept on this machine.
    """
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    path = folder / base_name(address)
    path.write_bytes(content)
    try:
        Storage(parent(address)).put(path, path.name)
    except SegueError as error:
        raise OutputError(f"{error}; it is kept as {path}") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
