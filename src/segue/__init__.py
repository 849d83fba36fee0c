"""segue continues music: a MusicGen model plays on from a few seconds of audio.

import segue

model = segue.load("facebook/musicgen-small")
result = model.continue_audio(samples, sample_rate, prompt_seconds=6, seed=1)
result.takes[0].audio.samples

for chunk in model.stream(samples, sample_rate, seed=1):  # sound, while it is generated
    ...
"""

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
