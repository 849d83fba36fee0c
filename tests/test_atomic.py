"""Files and folders that are written whole or not at all, and what is found out before."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from segue import atomic
from segue.errors import OutputError

from .disks import NOBODY, as_user, fill, small_disk


@pytest.fixture
def path(tmp_path):
    """A file that is there already."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"what was there before")
    return path


def refused(path):
    """Why `path` cannot be written, in one line that names it."""
    with pytest.raises(OutputError) as error:
        atomic.check_writable(path)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(str(path))
    return line


# --- A file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_the_old_file_and_no_other(path, error):
    with pytest.raises(error), atomic.writing(path) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half of")
        raise error
    assert path.read_bytes() == b"what was there before"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("durable", [False, True])
def test_until_it_is_whole_a_file_has_another_name_in_the_same_folder(tmp_path, durable):
    path = tmp_path / "a.wav"
    with atomic.replacing(path, durable) as temporary:
        temporary.write_bytes(b"whole")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["x" * 255, "あ" * 85, "🎵" * 63], ids=["ascii", "kana", "notes"])
def test_the_longest_names_that_a_disk_holds_can_be_written(tmp_path, name):
    path = tmp_path / name
    atomic.check_writable(path)
    with atomic.writing(path) as temporary:
        temporary.write_bytes(b"whole")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"whole"


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
@pytest.mark.parametrize("make", [atomic.writing, atomic.creating])
def test_what_is_written_has_the_permissions_that_the_user_gives_hers(tmp_path, umask, make):
    before = os.umask(umask)
    try:
        with make(tmp_path / "new"):
            pass
    finally:
        os.umask(before)
    all_of_it = 0o777 if make is atomic.creating else 0o666
    assert (tmp_path / "new").stat().st_mode & 0o777 == all_of_it & ~umask


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        path = disk / "a.wav"
        path.write_bytes(b"what was there before")
        fill(disk)
        with (
            pytest.raises(OutputError, match=r"a\.wav: cannot be written \(No space left"),
            atomic.writing(path) as temporary,
        ):
            temporary.write_bytes(bytes(10_000))
        assert path.read_bytes() == b"what was there before"
        assert {file.name for file in disk.iterdir()} == {"a.wav", "filler"}


def test_a_folder_that_vanishes_during_the_work_is_named(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "a.wav"
    gone = f"the folder {folder} is not there any more"
    with pytest.raises(OutputError, match=gone), atomic.writing(path):
        shutil.rmtree(folder)


def test_what_a_file_is_made_from_is_named_where_it_is_the_trouble(path, tmp_path):
    source = tmp_path / "source"
    with (
        pytest.raises(OutputError, match=rf"a\.wav: cannot be written \({source}: No such file"),
        atomic.writing(path),
    ):
        source.read_bytes()


def test_other_users_of_a_name_do_not_get_in_the_way(tmp_path, monkeypatch):
    numbers = iter(["a", "a", "b"])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(numbers))
    with atomic.writing(tmp_path / "x") as one, atomic.writing(tmp_path / "y") as two:
        assert one != two


# --- A folder -------------------------------------------------------------------------------------


def test_a_folder_is_created_whole_or_not_at_all(tmp_path):
    path = tmp_path / "in" / "q"
    with pytest.raises(ValueError, match="half"), atomic.creating(path) as temporary:  # noqa: PT012
        (temporary / "weights").write_bytes(b"half")
        raise ValueError("half")
    assert list(tmp_path.iterdir()) == []
    with atomic.creating(path) as temporary:
        (temporary / "weights").write_bytes(b"whole")
        assert list(path.parent.iterdir()) == [temporary]
    assert (path / "weights").read_bytes() == b"whole"


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_an_existing_path_cannot_become_a_new_folder(tmp_path, make):
    make(tmp_path / "q")
    with pytest.raises(OutputError, match="exists already"):
        atomic.check_new_folder(tmp_path / "q")
    with pytest.raises(OutputError, match="exists already"), atomic.creating(tmp_path / "q"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["q"]


@pytest.mark.parametrize("name", ["x" * 256, f"{'x' * 256}/q", f"a/{'x' * 256}/q"])
def test_a_folder_with_too_long_a_name_is_refused_before_the_work(tmp_path, name):
    with pytest.raises(OutputError, match="File name too long; shorten it"):
        atomic.check_new_folder(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_is_refused_before_the_work(path):
    with pytest.raises(OutputError, match="is no folder"):
        atomic.check_new_folder(path / "q")


# --- Before the work ------------------------------------------------------------------------------


def test_a_check_leaves_no_trace(path):
    atomic.check_writable(path)
    atomic.check_writable(path.with_name("new"))
    atomic.check_new_folder(path.parent / "a" / "b" / "c")
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == b"what was there before"


def test_a_name_that_is_too_long_is_refused(tmp_path):
    assert "File name too long; shorten it" in refused(tmp_path / ("あ" * 86))
    assert "File name too long" in refused(tmp_path / ("x" * 256) / "a.wav")


def test_a_folder_that_is_none_is_refused(path):
    assert f"there is no folder {path.parent / 'b'}" in refused(path.parent / "b" / "a.wav")
    assert "there is no folder" in refused(path / "b.wav")
    assert "a folder; name a file" in refused(path.parent)


def test_a_working_folder_that_was_removed_is_reported(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    gone = "the working folder is not there any more"
    assert gone in refused(Path("a.wav"))
    with pytest.raises(OutputError, match=gone):
        atomic.check_new_folder(Path("reports/1"))
    with pytest.raises(OutputError, match=gone), atomic.writing(Path("a.wav")):
        pass
    monkeypatch.chdir(tmp_path)


def test_a_read_only_disk_is_refused(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        os.system(f"mount -o remount,ro {disk}")
        assert "cannot be written to (Read-only file system)" in refused(disk / "a.wav")
        with pytest.raises(OutputError, match="Read-only file system"):
            atomic.check_new_folder(disk / "a" / "q")


@pytest.fixture
def shared():
    """A folder of root's that every user can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_a_folder_of_another_user_is_refused(shared):
    (shared / "closed").mkdir(0o700)
    with as_user(NOBODY):
        assert f"the folder {shared} cannot be written to (Permission denied)" in refused(
            shared / "a.wav"
        )
        assert "(Permission denied)" in refused(shared / "closed" / "a.wav")
        for path in (shared / "q", shared / "closed" / "q" / "r"):
            with pytest.raises(OutputError, match="Permission denied"):
                atomic.check_new_folder(path)


def test_in_a_sticky_folder_the_file_of_another_user_is_refused(shared):
    shared.chmod(0o1777)
    for name, owner in (("mine.wav", NOBODY), ("other.wav", 12_345)):
        (shared / name).touch(0o666)
        os.chown(shared / name, owner, owner)
    with as_user(NOBODY):
        assert "belongs to another user" in refused(shared / "other.wav")
        with pytest.raises(PermissionError), atomic.replacing(shared / "other.wav"):
            pass  # what the check spares
        for name in ("mine.wav", "new.wav"):
            atomic.check_writable(shared / name)
            with atomic.writing(shared / name):
                pass
    atomic.check_writable(shared / "other.wav")  # root may


def test_an_error_without_words_of_the_system_is_a_line_too(path):
    line = r"a\.wav: cannot be written \(system error\)"
    with pytest.raises(OutputError, match=line), atomic.explained(path):
        raise OSError("system error")


def test_disks_that_cannot_sync_a_folder_do_not_matter(path, monkeypatch):
    def sync(handle):
        if os.fstat(handle).st_mode & 0o040000:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", sync)
    with atomic.replacing(path, durable=True) as temporary:
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
