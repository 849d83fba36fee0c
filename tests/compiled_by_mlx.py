"""What MLX's CUDA library compiles, exchanged by the workers of a run.

It writes its files in place, so a folder of its own for each worker is the only safe one; between
two tests of a worker nothing is being written there, and whole files can be exchanged.
"""

import os
import shutil
from pathlib import Path

SUFFIXES = (".txt", ".ptx")
"""MLX looks for the second; so it comes last."""


def exchange(own: Path, whole: Path) -> None:
    """Copy kernels that one of two folders has and the other lacks, each at once or not at all."""
    whole.mkdir(exist_ok=True)
    for source, target in ((own, whole), (whole, own)):
        for path in source.rglob("*.ptx"):
            if not (target / path.relative_to(source)).exists():
                for suffix in SUFFIXES:
                    _copy(path.with_suffix(suffix), source, target)


def _copy(path: Path, source: Path, target: Path) -> None:
    to = target / path.relative_to(source)
    to.parent.mkdir(parents=True, exist_ok=True)
    unfinished = to.with_name(f"{to.name}.{os.getpid()}")
    shutil.copyfile(path, unfinished)
    unfinished.replace(to)
