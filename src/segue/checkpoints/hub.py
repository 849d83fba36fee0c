"""Find a checkpoint: built in, in a folder, in the Hugging Face cache, at its hub, or in storage.

A checkpoint that is complete in the cache is used as it is, without a request to the hub for a
newer one.  So starting is instant and works without a network; to update, delete and run again.

The cache is the one that transformers, AudioCraft and all other users of huggingface_hub share:
`models--OWNER--NAME/snapshots/COMMIT/FILE`, links to `blobs/HASH`
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache).  It is read here, and written
by `download`, which only this module calls, as it does `addresses`: no other uses the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ..errors import CheckpointError
from ..progress import SILENT, Progress
from ..storage import is_address, plain
from . import addresses, diagnosis
from .catalogue import CATALOGUE
from .files import (
    AUDIOCRAFT_CODEC,
    AUDIOCRAFT_LM,
    CONFIG,
    WHOLE_MODEL,
    FileChoice,
    model_type,
    unreadable,
)

BUILT_IN = "built-in"

_MODEL_TYPES = ("musicgen", "musicgen_melody")  # `model_type` in config.json

# As `huggingface_hub.utils.validate_repo_id`, which takes a tenth of a second to import.
_REPOSITORY = re.compile(r"(\w([\w.-]{0,94}\w)?/)?\w([\w.-]{0,94}\w)?", re.ASCII)


# --- Finding a checkpoint ------------------------------------------------------------------------


def locate(name: str, files: FileChoice = WHOLE_MODEL, progress: Progress = SILENT) -> Path:
    """Find the folder that holds the checkpoint `name`; download it first if necessary.

    Args:
        name: `"built-in"`, a folder, a repository of the hub such as `facebook/musicgen-small`, or
            an address such as `s3://bucket/folder`.  A folder is used as it is, and preferred to a
            repository of the same name.  A store is asked each time whether it has changed.
        files: which files of a repository are needed.
        progress: receives the download as one stage, in bytes over all files.

    Returns:
        The folder.

    Raises:
        CheckpointError: the name is not valid, the hub cannot be reached or refuses, or the disk
            is full; one line.
    """
    name = plain(name)
    if is_address(name):
        return addresses.fetch(name, files, progress, lambda: find_local(name, files))
    if (local := find_local(name, files)) is not None:
        _check_readable(local)
        return local
    _check_repository_name(name)
    with _reaching(name, files):
        from .download import download  # late: its libraries take a while to import

        return download(name, files, _repository(name), progress)


@contextmanager
def _reaching(name: str, files: FileChoice) -> Iterator[None]:
    """Say of a hub that is not to be asked, or does not answer, how much is here without it."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise CheckpointError(
            f"HF_HUB_OFFLINE is set, and {_state(name, files)}; unset it, or name a folder"
        )
    from .download import UnreachableError

    try:
        yield
    except UnreachableError as error:
        raise CheckpointError(
            f"{error}, and {_state(name, files)}; connect and try again, or name a folder"
        ) from error


def size(name: str, files: FileChoice = WHOLE_MODEL) -> tuple[int, int]:
    """Ask the hub how large the repository `name` is: bytes in all, and bytes that are missing.

    Of an address, the store is asked.

    Raises:
        CheckpointError: see `locate`.
    """
    if is_address(name := plain(name)):
        return addresses.sizes(name, files)
    _check_repository_name(name)
    with _reaching(name, files):
        from .download import sizes

        found = sizes(name, files, _repository(name))
    return found.total, found.missing


def find_local(name: str, files: FileChoice = WHOLE_MODEL) -> Path | None:
    """Find the folder that holds the whole checkpoint `name`, without the network; else None."""
    if name == BUILT_IN:
        return built_in_folder()
    if is_address(name := plain(name)):
        return _complete(addresses.copies_of(name), files)
    return _folder(name) or _complete(_snapshots(_repository(name)), files)


def built_in_folder() -> Path | None:
    """Return the folder of segue's own checkpoint; None if this installation has none."""
    folder = Path(str(resources.files("segue"))) / "demo" / "checkpoint"
    return folder if (folder / CONFIG).is_file() else None


@dataclass(frozen=True)
class LocalModel:
    """A MusicGen checkpoint on this machine, whole or in part.

    Attributes:
        name: the name to pass to `locate`.
        path: its folder.
        size_bytes: its size on disk, an unfinished download included.
        complete: whether it can be used without the network.
        missing: names of its missing files; a description of them where the names are not known.
    """

    name: str
    path: Path
    size_bytes: int
    complete: bool
    missing: tuple[str, ...]


def local_models() -> list[LocalModel]:
    """List the built-in checkpoint and every MusicGen checkpoint in the Hugging Face cache."""
    models = []
    if (folder := built_in_folder()) is not None:
        models.append(LocalModel(BUILT_IN, folder, _bytes_in(folder), True, ()))
    for repository in _repositories():
        name = repository.name.removeprefix("models--").replace("--", "/")
        snapshots = _snapshots(repository)
        known = any(name in family for family in CATALOGUE.values())
        try:
            if known or any(map(_looks_like_musicgen, snapshots)):
                path = _complete(snapshots, WHOLE_MODEL) or next(iter(snapshots), repository)
                size = _bytes_in(path) + _bytes_in(repository / "blobs", "*.incomplete")
                closed = () if snapshots else _unreadable_snapshots(repository / "snapshots")
                missing = closed or _missing(path, WHOLE_MODEL)
                models.append(LocalModel(name, path, size, not missing, missing))
        except OSError:  # another user's, unreadable for this process
            if known:
                models.append(LocalModel(name, repository, 0, False, (WHOLE_MODEL.description,)))
    return models


def cache_trouble() -> str | None:
    """Say in one line why the cache cannot be read; None if it can, or does not exist."""
    cache = cache_folder()
    try:
        with os.scandir(cache) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)  # refused where only the names may be seen
                break
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{cache}: the cache of models cannot be read ({error.strerror})"
    return None


# --- Names --------------------------------------------------------------------------------------


def _folder(name: str) -> Path | None:
    try:
        folder = _expanded(name)
        return folder if name and folder.is_dir() else None
    except (OSError, ValueError):  # too long, or with a NUL in it
        return None


def _expanded(path: str) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own raises for an unknown user


def _check_readable(folder: Path) -> None:
    """Refuse a folder without read permission, which is not the same as an empty one."""
    with suppress(OSError, ValueError):  # what else is wrong is found where it matters
        try:
            (folder / CONFIG).stat()
        except PermissionError as error:
            raise unreadable(folder, error) from None


def _check_repository_name(name: str) -> None:
    if name == BUILT_IN:
        raise CheckpointError(
            "this installation came without its built-in checkpoint; "
            "name a folder, or a repository such as 'facebook/musicgen-small'"
        )
    if (problem := diagnosis.diagnose_name(name)) is not None:
        raise CheckpointError(problem)
    if name and (problem := _not_a_folder(name)) is not None:
        raise CheckpointError(problem)
    if name.startswith(("/", ".", "~")) or os.path.lexists(name.partition("/")[0]):
        _check_readable(_expanded(name))
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise CheckpointError(f"there is no folder {name!r}")
    if not _REPOSITORY.fullmatch(name) or "--" in name or ".." in name:
        raise CheckpointError(
            f"{name!r} cannot be a checkpoint; name {BUILT_IN!r}, a folder, "
            "or a repository of the Hugging Face hub such as 'facebook/musicgen-small'"
        )


def _not_a_folder(name: str) -> str | None:
    """Why the path `name` cannot be used as a folder; None if nothing exists there."""
    path = _expanded(name)
    try:
        path.lstat()
    except PermissionError as error:
        # Where nothing can be listed, a name that can only be a path is taken for one.
        is_path = name.startswith(("/", ".", "~")) or name.count("/") > 1
        return str(unreadable(path, error)) if is_path else None
    except (OSError, ValueError):
        return None
    return diagnosis.diagnose_path(Path(name))


# --- The cache ----------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Return the cache's folder by the current environment; huggingface_hub reads it on import."""
    env = os.environ.get
    home = env("HF_HOME") or f"{env('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    cache = env("HF_HUB_CACHE") or env("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return _expanded(os.path.expandvars(cache))


def _repository(name: str) -> Path:
    return cache_folder() / f"models--{name.replace('/', '--')}"


def _repositories() -> list[Path]:
    try:
        return sorted(path for path in cache_folder().iterdir() if path.name.startswith("models--"))
    except OSError:  # it does not exist, or see `cache_trouble`
        return []


def _snapshots(repository: Path) -> list[Path]:
    """The cached commits: first the one that was `main` last, then from the newest."""
    try:
        folders = [path for path in (repository / "snapshots").iterdir() if path.is_dir()]
        reference = repository / "refs" / "main"
        main = reference.read_text().strip() if reference.is_file() else ""
        return sorted(folders, key=lambda s: (s.name == main, s.stat().st_mtime), reverse=True)
    except (OSError, ValueError):  # missing or unreadable
        return []


def _complete(snapshots: list[Path], files: FileChoice) -> Path | None:
    return next((snapshot for snapshot in snapshots if not _missing(snapshot, files)), None)


def _missing(snapshot: Path, files: FileChoice) -> tuple[str, ...]:
    """The files that are missing from `snapshot`, as far as the present ones tell."""

    def read(name: str) -> bytes:
        return (snapshot / name).read_bytes()

    try:
        names = {path.name for path in snapshot.iterdir() if path.is_file()}
        needed = files.select(names, read)
    except PermissionError as error:
        return (_permission_needed(error),)
    except OSError:
        needed = []
    return tuple(n for n in needed if n not in names) if needed else (files.description,)


def _unreadable_snapshots(folder: Path) -> tuple[str, ...]:
    """As `_missing`, for a folder that cannot be listed."""
    try:
        with os.scandir(folder):
            return ()
    except PermissionError as error:
        return (_permission_needed(error),)
    except OSError:
        return ()


def _permission_needed(error: PermissionError) -> str:
    return f"permission to read {error.filename}"


def _state(name: str, files: FileChoice) -> str:
    """How much of the repository `name` is in the cache, for a message."""
    if (trouble := cache_trouble()) is not None:
        return trouble
    if snapshots := _snapshots(_repository(name)):
        missing = ", ".join(_missing(snapshots[0], files))
        return f"{name} is only partly in the cache (no {missing})"
    if closed := _unreadable_snapshots(_repository(name) / "snapshots"):
        return f"{name} may be in the cache, but there is no {closed[0]}"
    return f"{name} is not in the cache ({cache_folder()})"


def _looks_like_musicgen(snapshot: Path) -> bool:
    try:
        if any((snapshot / name).exists() for name in (AUDIOCRAFT_LM, AUDIOCRAFT_CODEC)):
            return True
        return model_type((snapshot / CONFIG).read_bytes()) in _MODEL_TYPES
    except OSError:
        return False


def _bytes_in(folder: Path, pattern: str = "*") -> int:
    total = 0
    with suppress(OSError):  # unreadable
        for path in folder.glob(pattern):
            if path.is_file():
                total += path.stat().st_size
    return total
