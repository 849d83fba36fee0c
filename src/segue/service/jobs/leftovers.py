"""Files in the store's folder that no row names: what an end without warning leaves."""

from __future__ import annotations

import fcntl
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from ...errors import SegueError

SHARED_SECONDS = 24 * 3600.0
"""How old a file without a row must be where other fronts may be about to write its row."""

ID = re.compile(r"[0-9a-f-]{36}")


def remove(
    inputs: Path,
    jobs: Path,
    known: set[str],
    attempts: Mapping[str, int | None],
    age_seconds: float | None,
) -> None:
    """Remove what no row names.

    Args:
        inputs: the folder of the inputs.
        jobs: the folder of the results.
        known: the ids of the inputs that there are.
        attempts: the attempt that completed each job that there is; None where none has.
        age_seconds: how old it must be, where others, or this service, may be about to write its
            row.
    """
    before = None if age_seconds is None else time.time() - age_seconds
    # What is not named as the store names things is somebody else's: Finder's, say.
    for path in filter(_is_ours, inputs.iterdir()):
        known_file = path.name.removesuffix(".wav") in known
        if not known_file and not path.is_dir() and _is_older(path, before):
            path.unlink(missing_ok=True)
    for folder in filter(_is_ours, jobs.iterdir()):
        if not folder.is_dir() or folder.is_symlink():
            continue
        kept = attempts.get(folder.name)
        for attempt in folder.iterdir():
            if attempt.name != str(kept) and _is_older(attempt, before):
                shutil.rmtree(attempt, ignore_errors=True)
        if kept is None and _is_older(folder, before):
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    return ID.fullmatch(path.name.partition(".")[0]) is not None


def _is_older(path: Path, before: float | None) -> bool:
    try:
        return before is None or path.stat().st_mtime < before
    except OSError:  # another front has removed it
        return False


def lock(path: Path, shared: bool) -> BinaryIO:
    """Lock a folder for as long as the process lives, however it ends.

    Args:
        path: of the file in it that is locked.
        shared: whether others may have it at the same time, who share it, too.

    Raises:
        SegueError: another process holds it.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise SegueError(
            f"{path.parent}: another segue serve uses it; stop that one, "
            "or name another folder with --state-dir"
        ) from None
    except OSError:
        if not shared:  # some network file systems have no locks
            raise
    return file
