"""Files and folders that are written whole or not at all.

Everything that segue keeps goes through here.  The content is written under a temporary name in
the folder where it shall lie, and renamed when it is complete: who looks sees the old file, or the
new one, and never half of it.  The temporary name has a fixed length, so whatever name the file
system can hold, it can hold while the file is being written.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError

_PREFIX, SUFFIX = ".segue-", ".part"
"""What the name of every temporary file and folder begins and ends with."""

_NAME_BYTES = 255
"""The longest name on a file system that does not say: that of ext4, XFS, Btrfs, APFS and NTFS."""


# --- Before the work ----------------------------------------------------------------------------


def check_writable(path: Path) -> None:
    """Find out now, before work is put into it, whether a file could be written at `path`.

    The folder is tried by making a file in it: that meets permissions, access lists, read-only
    disks and sandboxes alike.  The file is removed at once, and `path` is not touched.

    Raises:
        OutputError: one line; the name is too long, the folder is not there or cannot be written
            to, `path` is a folder, or it is a file that only somebody else may replace.
    """
    if is_pipe(path):
        return
    path = target_of(path)
    folder = _folder_of(path)
    with explained(path):
        try:
            target = path.lstat()  # says of a name that is too long that it is
        except FileNotFoundError:
            target = None
        if target is not None and path.is_dir():
            raise OutputError(f"{path}: a folder; name a file")
        if target is not None and not _may_replace(folder.stat(), target):
            raise OutputError(
                f"{path}: belongs to another user, and in this folder only they may replace it; "
                "name another file"
            )
    _try(folder, path)


def check_new_folder(path: Path) -> None:
    """Find out now whether the folder `path` could be made, with the folders that it lies in.

    Raises:
        OutputError: there is something at `path`, a name is too long, or the nearest folder that
            is there cannot be written to.
    """
    if os.path.lexists(path):
        raise OutputError(f"{path}: exists already; name a new folder")
    there, missing = path.parent, [path.name]
    while not os.path.lexists(there):
        missing.append(there.name)
        there = there.parent
    if not os.path.isdir(there):  # noqa: PTH112 - as below
        raise OutputError(f"{path}: cannot be written ({there} is no folder)")
    with explained(path):
        for name in missing:
            with suppress(FileNotFoundError):
                (there / name).lstat()
    _try(there, path)


def is_pipe(path: Path) -> bool:
    """Whether there is a named pipe at `path`, to be written to and not replaced."""
    try:
        return path.is_fifo()
    except OSError:  # a name that is too long, a folder that is closed
        return False


def target_of(path: Path) -> Path:
    """What a link leads to, be it there or not; `path` itself if it is none.

    Raises:
        OutputError: it leads round in a circle.
    """
    if not os.path.islink(path):  # noqa: PTH114 - Path's own raises where a name is too long
        return path
    end = Path(os.path.realpath(path))
    if end.is_symlink():
        raise OutputError(f"{path}: a link that leads nowhere")
    return end


def name_bytes(folder: Path) -> int:
    """The bytes that the name of a file in `folder` may have."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return _NAME_BYTES


def shortened(name: str, room: int) -> str:
    """As many whole characters of a file's name as `room` bytes hold."""
    while len(os.fsencode(name)) > room:
        name = name[:-1]
    return name


def _folder_of(path: Path) -> Path:
    folder = path.parent
    if not os.path.isdir(folder):  # noqa: PTH112 - Path's own raises where a name is too long
        with explained(path), suppress(FileNotFoundError, NotADirectoryError):
            folder.stat()
        raise OutputError(f"{path}: there is no folder {folder}")
    return folder


def _may_replace(folder: os.stat_result, target: os.stat_result) -> bool:
    """In a folder with the sticky bit, such as /tmp, only a file's or the folder's owner may."""
    sticky = folder.st_mode & stat.S_ISVTX
    return not sticky or os.geteuid() in (0, folder.st_uid, target.st_uid)


def _try(folder: Path, path: Path) -> None:
    try:
        _new(folder, _make_file).unlink()
    except OSError as error:
        if _is_of_a_lost(folder, error):
            raise _gone(path) from None
        raise OutputError(
            f"{path}: the folder {folder.absolute()} cannot be written to ({_reason(error)})",
            _reason(error),
        ) from None


# --- The work -----------------------------------------------------------------------------------


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """As `replacing`, for what a user asked for; of a link, what it leads to is replaced.

    Raises:
        OutputError: one line that names `path`, for whatever the disk may do.
    """
    with explained(path), replacing(target_of(path)) as temporary:
        yield temporary


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """An empty file to write to; it takes the place of `path` at the end of the block.

    If the block raises, it is removed, and `path` is what it was.  It has the permissions that any
    new file of this user has.

    Args:
        path: what is written, or replaced.
        durable: wait until the file and its name are on the disk, so that they are there after a
            power cut, too.

    Raises:
        OSError: the folder is missing or cannot be written to, or the disk is full.
    """
    temporary = _new(path.parent, _make_file)
    try:
        yield temporary
        if durable:
            publish(temporary, path)
        else:
            temporary.replace(path)
    finally:
        with suppress(OSError):  # the folder may be gone, and the error that says so counts
            temporary.unlink(missing_ok=True)


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """An empty folder to write to; it becomes the new folder `path` at the end of the block.

    Its files are on the disk before it has its name.  If the block raises, it is removed,
    and so are the folders that were made for it to lie in.

    Raises:
        OutputError: there is something at `path`, or it cannot be written; one line.
    """
    if os.path.lexists(path):
        raise OutputError(f"{path}: exists already; name a new folder")
    above = [folder for folder in path.parents if not os.path.lexists(folder)]
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _new(path.parent, Path.mkdir)
        try:
            yield temporary
            for file in temporary.iterdir():
                _sync(file)
            sync_folder(temporary)
            temporary.rename(path)
            sync_folder(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            for folder in above:
                with suppress(OSError):  # only an empty one goes
                    folder.rmdir()


def publish(temporary: Path, final: Path) -> None:
    """Give a finished file its name, on the disk for good.

    Raises:
        OSError: the disk is full, or the folder is gone.
    """
    _sync(temporary)
    temporary.replace(final)
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Let the disk know what names a folder holds."""
    # Some network disks cannot, and of some folders one may write names, but not read them.
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of the system while `path` is written, in one line that names it.

    Raises:
        OutputError: from any `OSError`.
    """
    try:
        yield
    except OSError as error:
        if _is_of_a_lost(path.parent, error):
            raise _gone(path) from None
        reason = _reason(error)
        if isinstance(error.filename, str) and _is_another(Path(error.filename), path):
            reason = f"{error.filename}: {reason}"  # what it is made from, say
        raise OutputError(f"{path}: cannot be written ({reason})", reason) from None


def _is_another(named: Path, path: Path) -> bool:
    """Whether an error speaks of a file that is neither `path`, nor above it, nor temporary."""
    return not path.is_relative_to(named) and _PREFIX not in str(named)


def _is_of_a_lost(folder: Path, error: OSError) -> bool:
    return error.errno in (errno.ENOENT, errno.ESTALE) and _is_gone(folder)


def _is_gone(folder: Path) -> bool:
    """Whether a folder was removed: also the one that this process runs in, which still opens."""
    try:
        folder.resolve(strict=True)
    except OSError:
        return True
    return False


def _gone(path: Path) -> OutputError:
    lost = not path.is_absolute() and _is_gone(Path())
    folder = "working folder" if lost else f"folder {path.parent}"
    reason = f"the {folder} is not there any more"
    return OutputError(f"{path}: cannot be written ({reason})", reason)


def _reason(error: OSError) -> str:
    reason = str(error.strerror or error)
    return f"{reason}; shorten it" if error.errno == errno.ENAMETOOLONG else reason


def _sync(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _new(folder: Path, make: Callable[[Path], object]) -> Path:
    """Something new in a folder, of a name that nothing has."""
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(6)}{SUFFIX}"
        try:
            make(path)
        except FileExistsError:
            continue
        return path


def _make_file(path: Path) -> None:
    # Not by `tempfile`, whose files are private; the system itself knows the user's umask.
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
