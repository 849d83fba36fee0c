"""Write files and folders whole or not at all.

All files that segue stores are written here.  The content is written under a temporary name in the
final folder, and renamed when it is complete: readers see the old file or the new one, whole.
The temporary name has a fixed length, so every final name that the file system allows can be used.
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
"""Prefix and suffix of the name of every temporary file and folder."""

_NAME_BYTES = 255
"""The longest name where the file system does not report it: ext4, XFS, Btrfs, APFS and NTFS."""


# --- Checks before the work ---------------------------------------------------------------------


def check_writable(path: Path) -> None:
    """Check before a long computation that a file can be written at `path`.

    A temporary file is created in the folder and removed: that covers permissions, access lists,
    read-only disks and sandboxes alike.  `path` itself is not touched.

    Raises:
        OutputError: one line; the name is too long, the folder does not exist or is not writable,
            `path` is a folder, or a file that only another user may replace.
    """
    if is_pipe(path):
        return
    path = target_of(path)
    folder = _folder_of(path)
    with explained(path):
        try:
            target = path.lstat()  # raises for a name that is too long
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
    """Check that the folder `path` can be created, with its missing parents.

    Raises:
        OutputError: `path` exists, a name is too long, or the nearest existing parent is not
            writable; one line.
    """
    if os.path.lexists(path):
        raise OutputError(f"{path}: exists already; name a new folder")
    nearest, missing = path.parent, [path.name]
    while not os.path.lexists(nearest):
        missing.append(nearest.name)
        nearest = nearest.parent
    if not os.path.isdir(nearest):  # noqa: PTH112 - as below
        raise OutputError(f"{path}: cannot be written ({nearest} is no folder)")
    with explained(path):
        for name in missing:
            with suppress(FileNotFoundError):
                (nearest / name).lstat()
    _try(nearest, path)


def is_pipe(path: Path) -> bool:
    """Tell whether `path` is a named pipe, which is written to and not replaced."""
    try:
        return path.is_fifo()
    except OSError:  # a name that is too long, an unreadable folder
        return False


def target_of(path: Path) -> Path:
    """Resolve a link, whose target need not exist; return any other `path` as it is.

    Raises:
        OutputError: the link is circular.
    """
    if not os.path.islink(path):  # noqa: PTH114 - Path's own raises where a name is too long
        return path
    end = Path(os.path.realpath(path))
    if end.is_symlink():
        raise OutputError(f"{path}: a link that leads nowhere")
    return end


def name_bytes(folder: Path) -> int:
    """Return the number of bytes that the name of a file in `folder` may have."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return _NAME_BYTES


def shortened(name: str, room: int) -> str:
    """Shorten a file's name to `room` bytes, to whole characters."""
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
        if _folder_vanished(folder, error):
            raise _vanished_error(path) from None
        raise OutputError(
            f"{path}: the folder {folder.absolute()} cannot be written to ({_reason(error)})",
            _reason(error),
        ) from None


# --- Writing ------------------------------------------------------------------------------------


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """As `replacing`, for a user's output: follows a link, and explains errors.

    Raises:
        OutputError: the disk or the folder refuses; one line that names `path`.
    """
    with explained(path), replacing(target_of(path)) as temporary:
        yield temporary


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield an empty temporary file, which replaces `path` at the end of the block.

    If the block raises, it is removed, and `path` is unchanged.  It has the permissions of any new
    file of this user.

    Args:
        path: created or replaced.
        durable: wait until the file and its name are on the disk, so that they survive a power
            cut.

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
        with suppress(OSError):  # the folder may be gone; that error counts
            temporary.unlink(missing_ok=True)


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder, which becomes the new folder `path` at the end of the block.

    Its files are on the disk before it is renamed.  If the block raises, it is removed, with the
    parents that were created for it.

    Raises:
        OutputError: `path` exists, or cannot be written; one line.
    """
    if os.path.lexists(path):
        raise OutputError(f"{path}: exists already; name a new folder")
    created = [folder for folder in path.parents if not os.path.lexists(folder)]
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
            for folder in created:
                with suppress(OSError):  # only empty ones are removed
                    folder.rmdir()


def publish(temporary: Path, final: Path) -> None:
    """Sync a finished file to the disk and rename it.

    Raises:
        OSError: the disk is full, or the folder is gone.
    """
    _sync(temporary)
    temporary.replace(final)
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to the disk, where the file system can."""
    # Some network disks cannot, and some folders are writable, but not readable.
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
    """Turn the system's errors while `path` is written into one line that names it.

    Raises:
        OutputError: from any `OSError`.
    """
    try:
        yield
    except OSError as error:
        if _folder_vanished(path.parent, error):
            raise _vanished_error(path) from None
        reason = _reason(error)
        if isinstance(error.filename, str) and _is_other_file(Path(error.filename), path):
            reason = f"{error.filename}: {reason}"  # such as its source
        raise OutputError(f"{path}: cannot be written ({reason})", reason) from None


def _is_other_file(named: Path, path: Path) -> bool:
    """Whether an error is about a file that is not `path`, its parent, or temporary."""
    return not path.is_relative_to(named) and _PREFIX not in str(named)


def _folder_vanished(folder: Path, error: OSError) -> bool:
    return error.errno in (errno.ENOENT, errno.ESTALE) and _does_not_exist(folder)


def _does_not_exist(folder: Path) -> bool:
    """Whether a folder was removed, also the working folder, which can still be opened."""
    try:
        folder.resolve(strict=True)
    except OSError:
        return True
    return False


def _vanished_error(path: Path) -> OutputError:
    in_working_folder = not path.is_absolute() and _does_not_exist(Path())
    folder = "working folder" if in_working_folder else f"folder {path.parent}"
    reason = f"the {folder} is not there any more"
    return OutputError(f"{path}: cannot be written ({reason})", reason)


def _reason(error: OSError) -> str:
    reason = str(error.strerror or error)
    return f"{reason}; shorten it" if error.errno == errno.ENAMETOOLONG else reason


def _sync(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _new(folder: Path, make: Callable[[Path], object]) -> Path:
    """Create something in a folder under an unused temporary name."""
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(6)}{SUFFIX}"
        try:
            make(path)
        except FileExistsError:
            continue
        return path


def _make_file(path: Path) -> None:
    # Not with `tempfile`, whose files are private; the system applies the user's umask.
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
