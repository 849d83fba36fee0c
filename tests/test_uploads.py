"""Outputs at an address: whole, reported by it, and kept here where they cannot be stored."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
import soundfile
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from segue.checkpoints.hub import locate
from segue.checkpoints.opening import open_checkpoint
from segue.cli import main
from segue.errors import OutputError
from segue.storage import Storage, StorageError
from segue.uploads import Upload, store_content, store_folder


class Refusing(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store that may be read and not written."""

    protocol = "refusing"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("refusing://", "memory://"))

    def put_file(self, *arguments, **options):
        raise PermissionError("Access Denied")


class Disk(LocalFileSystem):  # type: ignore[misc]
    """A store with folders, such as one by SFTP."""

    protocol = "disk"


fsspec.register_implementation("refusing", Refusing, clobber=True)
fsspec.register_implementation("disk", Disk, clobber=True)

SHORT = ("--output-seconds", "0.2", "--seed", "1", "--no-progress", "--engine", "openvino")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Temporary folders of a test are its own, and seen."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    MemoryFileSystem.store.clear()
    return tmp_path / "temporary"


def stored(address: str) -> dict[str, bytes]:
    fs, path = fsspec.core.url_to_fs(address)
    return {name.removeprefix(f"{path}/"): fs.cat_file(name) for name in fs.find(path)}


def test_takes_are_stored_and_reported_by_their_addresses(toy, here, capsys):
    to = ["-o", "memory://bucket/out/x.wav", "--report-json", "memory://bucket/out/x.json"]
    words = ["generate", "--model", str(toy), *SHORT, "--variations", "2", "--json", *to]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    names = ["x-1.wav", "x-2.wav"]
    addresses = [f"memory://bucket/out/{name}" for name in names]
    assert [each["path"] for each in report["outputs"]] == addresses
    found = stored("memory://bucket/out")
    assert sorted(found) == [*names, "x.json"]
    assert json.loads(found["x.json"]) == report
    Path("x.wav").write_bytes(found["x-1.wav"])
    assert soundfile.info("x.wav").frames == 6400
    assert not list(here.iterdir())
    assert main(["continue", "--again"]) == 2
    said = capsys.readouterr().err
    assert said == f"segue: {addresses[0]}: in shared storage; fetch it, and name the file\n"


def test_what_cannot_be_stored_is_kept_and_said(toy, here, capsys):
    words = ["generate", "--model", str(toy), *SHORT, "-o", "refusing://bucket/x.wav"]
    assert main([*words, "--report-json", "x.json"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    kept = Path(re.search(r"; what was made is kept in (.*)$", line)[1])
    assert line.startswith("segue: refusing://bucket/x.wav: the store refuses (Access Denied)")
    assert soundfile.info(kept / "x.wav").frames == 6400
    report = json.loads(Path("x.json").read_text())
    assert report["outputs"][0]["path"] == str(kept / "x.wav")


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("memory://bucket/x.txt", "memory://bucket/x.txt: "),
        ("memory://x.wav", "no file is named"),
        ("memory://", "no file is named"),
        ("nothing://bucket/x.wav", "no kind of storage"),
    ],
)
def test_an_output_that_cannot_be_is_one_line_before_anything_long(output, line, here, capsys):
    assert main(["generate", "--model", "no-such-model", *SHORT, "-o", output]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert str(here) not in said
    assert not list(here.iterdir())


def test_a_checkpoint_is_written_to_an_address_and_read_from_there(toy, here, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    address = "memory://bucket/models/merged"
    assert main(["merge", str(toy), address, "--no-progress"]) == 0
    assert f"--model {address}" in capsys.readouterr().out
    assert open_checkpoint(address).config.lm == open_checkpoint(str(toy)).config.lm
    assert locate(address).name == "merged"
    assert main(["merge", str(toy), address, "--no-progress"]) == 2
    assert capsys.readouterr().err == f"segue: {address}: exists already; name a new folder\n"
    assert not list(here.iterdir())


def test_a_folder_is_stored_with_its_subfolders_and_one_file_last(tmp_path, monkeypatch):
    for name in ("a.json", "rows/b.json", "z/c.wav"):
        (tmp_path / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / name).write_text(name)
    order, put = [], MemoryFileSystem.put_file
    monkeypatch.setattr(
        MemoryFileSystem,
        "put_file",
        lambda self, file, to, **options: order.append(to) or put(self, file, to, **options),
    )
    store_folder(tmp_path / "made", "memory://bucket/matrix", last=("a.json",))
    assert stored("memory://bucket/matrix") == {
        name: name.encode() for name in ("a.json", "rows/b.json", "z/c.wav")
    }
    assert order[-1].endswith("a.json")


def test_a_store_with_folders_sees_no_half_of_a_file(tmp_path, here, monkeypatch):
    address = f"disk://{tmp_path}/share/out"
    store_content(b"whole", f"{address}/a.wav")
    store_content(b"anew", f"{address}/a.wav")
    assert [path.name for path in (tmp_path / "share/out").iterdir()] == ["a.wav"]
    assert (tmp_path / "share/out/a.wav").read_bytes() == b"anew"

    def broken(self, file, to, **options):
        Path(to).write_bytes(b"ha")
        raise ConnectionError("gone")

    monkeypatch.setattr(Disk, "put_file", broken)
    with pytest.raises(OutputError, match=r"gone.*; it is kept as ") as caught:
        store_content(b"half", f"{address}/a.wav")
    assert Path(str(caught.value).rpartition("kept as ")[2]).read_bytes() == b"half"
    assert [path.name for path in (tmp_path / "share/out").iterdir()] == ["a.wav"]
    assert (tmp_path / "share/out/a.wav").read_bytes() == b"anew"


def test_what_failed_before_it_was_stored_leaves_nothing(here):
    upload = Upload("refusing://bucket/x.wav")
    upload.path.write_bytes(b"x")
    upload.clean()
    assert not list(here.iterdir())
    with pytest.raises(StorageError, match="no file is named"):
        Upload("memory://bucket")
    assert Storage("memory://bucket/none").is_empty()
