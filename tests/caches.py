"""Caches of tests' own."""

from pathlib import Path

import pytest

from segue.caching import cache_folder


def use_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have segue keep in `folder` what it compiles and finds, from nothing.

    But for the native library, which would be compiled for half a minute.
    """
    compiled = cache_folder("native")
    (folder / "segue").mkdir(parents=True)
    if compiled is not None:
        (folder / "segue" / "native").symlink_to(compiled.resolve())
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
