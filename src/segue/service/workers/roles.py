"""What a worker of each role can do; a role imports what it needs and no more."""

from __future__ import annotations

from ...channel import Message
from .task_loop import Task


def tasks_of(settings: Message) -> dict[str, Task]:
    """Return the tasks of a role by their kind.

    Args:
        settings: `role`, and what the tasks of that role take, see their modules.
    """
    if settings["role"] == "reader":
        from .decode_audio import AudioDecoder

        return {"decode_audio": AudioDecoder(settings["limits"]).decode}
    if settings["role"] == "downloader":
        from .download import download, size

        return {"download": download, "size": size}
    if settings["role"] == "measurer":
        from . import measure

        return {"find_beats": measure.find_beats, "beat_offsets": measure.beat_offsets}
    if settings["role"] == "exporter":
        from .export import export

        return {"export": export}
    from .generate import Generator

    generator = Generator(settings)
    return {"generate": generator.generate, "load": generator.load, "drop": generator.drop}
