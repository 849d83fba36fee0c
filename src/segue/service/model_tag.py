"""One text for what is the same model once it is loaded, which both ends of a worker know."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

from ..checkpoints.adapters import AdapterChoice


def model_tag(source: str, mode: str, adapters: Iterable[AdapterChoice]) -> str:
    """Return the text of a model.

    Args:
        source: name for `hub.locate`.
        mode: of its quantization.
        adapters: that are merged into it, by their names or their folders.
    """
    merged = (f"{PurePath(each.name).name}:{each.scale:g}" for each in adapters)
    return " ".join([source, mode, *merged])
