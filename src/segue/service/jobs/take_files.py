"""The sound of a take: what lies before the join is its input's own, all behind it the model's.

A take's own file has 16 bits, as the plugin wants them.  What is exported, and what is played on
from, comes from where nothing was rounded: from the input, and from the continuation in floats.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic import publish
from ...audio.decode import Source, open_source
from ...audio.encode import new_wav


@dataclass(frozen=True)
class Stretch:
    """Samples of a file, one after the other.

    Attributes:
        path: of a WAV of the store's.
        start, stop: which of its samples, per channel.
    """

    path: Path
    start: int
    stop: int

    def to_json(self) -> dict[str, Any]:
        """The same for a worker's task."""
        return {"path": str(self.path), "start": self.start, "stop": self.stop}

    @classmethod
    def of(cls, sent: dict[str, Any]) -> Stretch:
        """The stretch that `to_json` wrote."""
        return cls(Path(sent["path"]), sent["start"], sent["stop"])


def stretches(
    result: dict[str, Any], number: int, folder: Path, input_: Path, start: int, stop: int
) -> list[Stretch]:
    """Where the samples of a take lie.

    Args:
        result: of the job, completed.
        number: of the take, from 1.
        folder: that its files lie in.
        input_: the job's audio.
        start: the first sample of the take that is wanted, per channel.
        stop: the one behind the last.

    Returns:
        What is there of them, in their order; of a job that an earlier version completed, in 16
        bits.
    """
    take = result["takes"][number - 1]
    stop = min(stop, take["frames"])
    if "new" not in take:
        return [Stretch(folder / take["file"], start, stop)]
    join, first = result["join"], result["first"]
    found = []
    if start < join:
        found.append(Stretch(input_, first + start, first + min(join, stop)))
    if stop > join:
        found.append(Stretch(folder / take["new"], max(0, start - join), stop - join))
    return found


def blocks(wanted: list[Stretch]) -> Iterator[np.ndarray]:
    """The samples `(n, C)` of stretches, as float32.

    Raises:
        AudioError: a file cannot be read.
        OSError: there is no such file.
    """
    for each in wanted:
        at = 0
        with each.path.open("rb", buffering=0) as file, open_source(file) as source:
            for block in source.blocks("float32"):
                if at >= each.stop:
                    break
                yield block[max(0, each.start - at) : each.stop - at]
                at += len(block)


def layout_of(wanted: list[Stretch]) -> tuple[int, int, int | None]:
    """Sample rate, channels and speakers of stretches; see `segue.audio.channels`."""
    with ExitStack() as stack:
        file = stack.enter_context(wanted[0].path.open("rb", buffering=0))
        source: Source = stack.enter_context(open_source(file))
        return source.sample_rate, source.channels, source.layout


def copy(wanted: list[Stretch], to: Path) -> tuple[int, int]:
    """Write stretches into a new WAV of floats, whole or not at all.

    Args:
        wanted: of one rate, with the same channels.
        to: the file.

    Returns:
        Its samples per channel, and its bytes.

    Raises:
        AudioError: see `blocks`.
        OSError: see there; or the disk is full.
    """
    rate, channels, layout = layout_of(wanted)
    temporary, frames = to.with_suffix(".part"), 0
    try:
        with new_wav(temporary, rate, channels, "FLOAT", layout) as file:
            for block in blocks(wanted):
                file.write(block)
                frames += len(block)
        publish(temporary, to)
    finally:
        temporary.unlink(missing_ok=True)
    return frames, to.stat().st_size
