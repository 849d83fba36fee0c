"""segue continues music: a MusicGen model plays on from a few seconds of audio.

import segue

model = segue.load("facebook/musicgen-small")
result = model.continue_audio(samples, sample_rate, prompt_seconds=6, seed=1)
result.takes[0].audio.samples

for chunk in model.stream(samples, sample_rate, seed=1):  # sound, while it is generated
    ...
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .audio import Audio
    from .checkpoints.recipe import PRESETS, Recipe
    from .continuation import Continuation
    from .errors import AudioError, CheckpointError, RequestError, SegueError
    from .model import ENGINES, Model, load
    from .progress import Progress
    from .request import Part, Request
    from .result import Result, Take

__all__ = [
    "ENGINES",
    "PRESETS",
    "Audio",
    "AudioError",
    "CheckpointError",
    "Continuation",
    "Model",
    "Part",
    "Progress",
    "Recipe",
    "Request",
    "RequestError",
    "Result",
    "SegueError",
    "Take",
    "load",
]

_MODULES = {
    "audio": ("Audio",),
    "checkpoints.recipe": ("PRESETS", "Recipe"),
    "continuation": ("Continuation",),
    "errors": ("AudioError", "CheckpointError", "RequestError", "SegueError"),
    "model": ("ENGINES", "Model", "load"),
    "progress": ("Progress",),
    "request": ("Part", "Request"),
    "result": ("Result", "Take"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # to a type checker, there is no other name than those above

    def __getattr__(name: str) -> Any:
        """Import what is asked for when it is: `segue --help` needs none of it."""
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
