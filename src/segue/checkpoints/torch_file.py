"""The safe reader for torch .bin files: tensors only, never code.

`torch.save` writes a zip archive (`_save` in torch/serialization.py, torch 1.6 and later):

- `NAME/data.pkl`, a pickle of the object, in which a persistent id stands for every storage;
- `NAME/data/KEY`, the bytes of one storage, uncompressed: they are used where they lie;
- `NAME/byteorder`, `little` or `big`; older versions leave it out, and mean little.

A pickle is a program, and Python's own unpickler gives a hostile one a lot to work with even when
`find_class` is narrow: BUILD sets attributes of anything that can be named, REDUCE calls
anything that can be called, and one memo index can claim gigabytes.  So it never runs here.
`pickletools` splits the pickle into instructions, which runs nothing, and `torch_pickle` carries
out the few that containers, numbers, text and tensors need.  The names of functions and classes
are compared with a short list and stand only for themselves: nothing is ever imported, and
nothing that a file names is ever called.
"""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .diagnosis import diagnose_head
from .files import unreadable
from .torch_archive import ASK, LOCAL_SIGNATURE, Archive, BoundedReader, damaged
from .torch_pickle import Unpickler

# MAGIC_NUMBER in torch/serialization.py, as the pickle of an integer holds it.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
_TAR_MAGIC, _TAR_MAGIC_OFFSET = b"ustar", 257  # POSIX.1-1988, and GNU tar

# What zipfile, pickletools, numpy and the stack machine raise over bytes that make no sense.
_DAMAGE = (
    zipfile.BadZipFile,
    struct.error,
    ArithmeticError,
    EOFError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
)


def load(path: Path) -> Any:
    """Read the object in a file that `torch.save` wrote.

    Dicts (`OrderedDict` too), lists, tuples, text, numbers and `None` are Python's own.
    Tensors, parameters and storages are read-only numpy arrays, bfloat16 through
    `ml_dtypes.bfloat16`.  They are views of the file: nothing is copied, tensors on one storage
    share its memory, and the file must stay as it is while they are in use.

    Raises:
        CheckpointError: the file holds anything else, is damaged, cut short, or in a format of
            torch before 1.6; the line names it.
    """
    try:
        with BoundedReader(io.FileIO(path)) as file:
            _check_format(file)
            return Unpickler(Archive(file)).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except OSError as error:
        raise unreadable(path, error) from error
    except _DAMAGE as error:
        raise damaged(f"{path}: is damaged or cut short") from error


def _check_format(file: io.BufferedReader) -> None:
    """Raise for every format but the zip archive, which torch knows by its first bytes, too."""
    head = file.read(512)
    if head.startswith(LOCAL_SIGNATURE):
        return
    if not head:
        raise damaged("is empty")
    if (problem := diagnose_head(head)) is not None:
        raise CheckpointError(f"is not a zip archive that torch.save wrote: {problem}")
    if head[_TAR_MAGIC_OFFSET:].startswith(_TAR_MAGIC):
        # torch.load(weights_only=True) refuses these too, so there is no safe way to re-save one.
        raise CheckpointError(
            "is in the legacy tar format of the first torch versions, which cannot be read "
            f"safely: {ASK}"
        )
    if _LEGACY_MAGIC in head[:32]:
        raise CheckpointError(
            "is in the legacy pickle format of torch before 1.6, which is not read: re-save it "
            "with a current torch: torch.save(torch.load(old, weights_only=True), new)"
        )
    raise CheckpointError(
        "is not a zip archive that torch.save wrote: check that it is a checkpoint, "
        "and that it was downloaded whole"
    )
