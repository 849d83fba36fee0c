"""Where MLX's CUDA library keeps what it compiles."""

import os
from typing import Any

import mlx.core as mx
import pytest

from segue.engine.mlx import compiled_cache
from segue.engine.mlx.compiled_cache import ELF_HEADER, VARIABLE, keep_compiled

ARCHITECTURE, VERSION = "sm_90", str(vars(mx)["__version__"])


@pytest.fixture
def on_cuda(monkeypatch, tmp_path) -> Any:
    monkeypatch.setattr(compiled_cache, "on_cuda", lambda: True)
    monkeypatch.setattr(mx, "device_info", lambda: {"architecture": ARCHITECTURE})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "")  # so that what is set in a test ends with it
    monkeypatch.delenv(VARIABLE)
    return tmp_path / "segue" / "mlx-cuda" / VERSION / ARCHITECTURE


def elf(size):
    """A file with two program headers of 56 bytes at its end."""
    header = bytearray(ELF_HEADER.pack(size - 112, 64, 56, 2, 64, 1))
    header[:4] = b"\x7fELF"
    return bytes(header) + bytes(size - len(header))


def test_it_is_segue_s_folder_for_this_version_and_gpu(on_cuda, monkeypatch):
    keep_compiled()
    assert os.environ[VARIABLE] == str(on_cuda)
    assert on_cuda.is_dir()


def test_a_folder_that_the_user_chose_stays(on_cuda, monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    keep_compiled()
    assert os.environ[VARIABLE] == str(tmp_path)
    assert not on_cuda.exists()


def test_without_cuda_or_a_folder_nothing_is_set(on_cuda, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    with monkeypatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        keep_compiled()
    monkeypatch.setattr(compiled_cache, "on_cuda", lambda: False)
    keep_compiled()
    assert VARIABLE not in os.environ


def test_what_was_cut_off_while_it_was_written_is_compiled_anew(on_cuda):
    (on_cuda / "long").mkdir(parents=True)
    whole = {"whole.ptx": elf(600), "text.ptx": b".version 8.0", "kernel.cu": b""}
    broken = {"cut.ptx": elf(600)[:-1], "header.ptx": elf(600)[:40], "long/empty.ptx": b""}
    for name, code in (whole | broken).items():
        (on_cuda / name).write_bytes(code)
    keep_compiled()
    assert {str(p.relative_to(on_cuda)) for p in on_cuda.rglob("*.*")} == set(whole)
