"""`segue continue FOLDER --cluster`: each file of a folder on a machine of a Ray cluster."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from .atomic import explained, replacing
from .audio.collection import files_in
from .cluster import cards, outcomes, whole_machine
from .errors import OutputError, RequestError
from .storage import Storage, joined
from .uploads import store_content

_OURS = ("--cluster", "-o", "--output")
_REPORT = "report.json"


def continue_folder(options: argparse.Namespace, connect: Callable[[str], None]) -> int:
    """Continue each file that has no report yet; one that fails is told, and others go on.

    Args:
        options: of `segue continue`, and its words.
        connect: joins the cluster.

    Raises:
        RequestError: there is no such folder or cluster, or nothing in it; or a file failed.
    """
    folder: Path = options.prompt
    to = _Place(getattr(options, "output", Path()))
    files = _files(folder)
    if options.json or options.report_json is not None:
        raise RequestError("with --cluster every file has a report, NAME.json; drop --json and all")
    words = _words(options.words, str(folder))
    connect(options.cluster)
    done_before = to.begin()
    console = Console(stderr=True, quiet=options.no_progress, highlight=False, markup=False)
    left = [file for file in files if _report(file) not in done_before]
    if done := len(files) - len(left):
        console.print(f"{done} of {len(files)} files have a report in {to.shown}, and are done")
    resources = {"num_gpus": 1} if cards() >= 1 else whole_machine()
    task = ray.remote(continue_file).options(**resources)
    failed = []
    for file, outcome, line in outcomes(
        left, lambda file: task.remote(words, file.name, file.read_bytes())
    ):
        error, made = (line, {}) if line else outcome
        if error:
            failed.append(file.name)
            console.print(f"{file.name} failed: {error}", soft_wrap=True)
            continue
        report = made.pop(_REPORT)
        try:
            for name, content in made.items():
                console.print(to.write(name, content), soft_wrap=True)
            to.write(_report(file), report)
        except OutputError as error:
            failed.append(file.name)
            console.print(f"{file.name} was made, but is not stored: {error}", soft_wrap=True)
    if failed:
        raise RequestError(f"{len(failed)} of {len(left)} files failed, {failed[0]} among them")
    return 0


class _Place:
    """Where what is made goes.

    Args:
        place: a folder, or an address.

    Attributes:
        shown: the same, as people see it.
    """

    def __init__(self, place: Path | str) -> None:
        self._place, self.shown = place, str(place)

    def begin(self) -> set[str]:
        """Make the folder, if it is one of this machine, and return the names in it."""
        if isinstance(self._place, str):
            storage = Storage(self._place)
            storage.check()
            return set() if storage.is_empty() else set(storage.files())
        with explained(self._place):
            self._place.mkdir(parents=True, exist_ok=True)
            return {path.name for path in self._place.iterdir()}

    def write(self, name: str, content: bytes) -> str:
        """Write a file whole or not at all, and return where.

        Raises:
            OutputError: a store refuses; the line says where the file is kept.
        """
        if isinstance(self._place, str):
            store_content(content, joined(self._place, name))
            return joined(self._place, name)
        with replacing(self._place / name) as temporary:
            temporary.write_bytes(content)
        return str(self._place / name)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise RequestError(f"{folder}: --cluster continues a folder of files; there is no such one")
    files = files_in(folder)
    stems = [file.stem for file in files]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise RequestError(f"{folder}: two files are called {twice}; rename one")
    return files


def _words(words: Sequence[str], folder: str) -> list[str]:
    """The words of the command that are for every file."""
    kept: list[str] = []
    following = iter(words[1:])
    for word in following:
        if word in _OURS:
            next(following, None)
        elif word != folder and word.partition("=")[0] not in _OURS:
            kept.append(word)
    return kept


def _report(file: Path) -> str:
    return f"{file.stem}.json"


def continue_file(
    words: Sequence[str], name: str, content: bytes
) -> tuple[str | None, dict[str, bytes]]:
    """Run `segue continue` on this machine.

    Args:
        words: its options.
        name: of the file.
        content: what is in it.

    Returns:
        One line where it failed, and else what it made, by name, with its report.
    """
    here = Path(tempfile.mkdtemp(prefix="segue-"))
    try:
        music, made = here / "in", here / "out"
        music.mkdir()
        made.mkdir()
        (music / name).write_bytes(content)
        command = [sys.executable, "-P", "-m", "segue", "continue", str(music / name), *words]
        done = subprocess.run(  # noqa: S603 - our own command
            [*command, "--report-json", _REPORT, "--no-progress"],
            cwd=made,
            env={**os.environ, "XDG_STATE_HOME": str(here)},  # `--again` is not of this machine
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            return (lines or ["its process was ended"])[-1].removeprefix("segue: "), {}
        files: dict[str, Any] = {path.name: path.read_bytes() for path in made.iterdir()}
        files[_REPORT] = files[_REPORT].replace(str(made).encode() + b"/", b"")
        files[_REPORT] = files[_REPORT].replace(str(music).encode() + b"/", b"")
        return None, files
    finally:
        shutil.rmtree(here, ignore_errors=True)
