"""segue continues music: a MusicGen model plays on from a few seconds of audio.

import segue

model = segue.load("facebook/musicgen-small")
result = model.continue_audio(samples, sample_rate, prompt_seconds=6, seed=1)
result.takes[0].audio.samples
"""

from .audio import Audio
from .continuation import Continuation, Request, Result, Take
from .errors import AudioError, CheckpointError, RequestError, SegueError
from .model import ENGINES, Model, load
from .progress import Progress

__all__ = [
    "ENGINES",
    "Audio",
    "AudioError",
    "CheckpointError",
    "Continuation",
    "Model",
    "Progress",
    "Request",
    "RequestError",
    "Result",
    "SegueError",
    "Take",
    "load",
]
