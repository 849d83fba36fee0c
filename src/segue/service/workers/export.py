"""Writing takes as files for people, in a process of its own: encoding takes time and memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...atomic import replacing
from ...audio import Tags
from ...audio.encode import encode
from ...audio.tags import tagged
from ...channel import Message
from ..jobs.take_files import Stretch, blocks, layout_of
from .task_loop import TaskChannel


def export(task: Message, channel: TaskChannel) -> Message:
    """Write stretches of WAVs as one file, with tags.

    Args:
        task: `stretches`, see `Stretch`; `to`, the file, whose suffix is its format; `subtype`,
            libsndfile's name of the encoding, or None for the format's own; `tags`, see `Tags`.
        channel: stops the task where it was cancelled.

    Returns:
        An empty message.

    Raises:
        AudioError: the format cannot hold it.
        OSError: the disk is full, or a file is gone.
    """
    to = Path(task["to"])
    wanted = [Stretch.of(each) for each in task["stretches"]]
    rate, channels, layout = layout_of(wanted)
    frames = sum(each.stop - each.start for each in wanted)
    samples, at = np.zeros((frames, channels), np.float32), 0
    for block in blocks(wanted):
        channel.check()
        samples[at : at + len(block)] = block
        at += len(block)
    tags = Tags(**task["tags"])
    name = Path(f"take{to.suffix}")  # for the lines that speak of it
    encoded, _ = encode(name, samples[:at], rate, task["subtype"], layout)
    content = tagged(name, encoded, tags)
    with replacing(to) as temporary:
        temporary.write_bytes(content.getbuffer())
    return {}
