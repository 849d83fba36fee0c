"""The melody that a model follows, beside what it continues: what each window hears of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .audio import LOUDEST, Audio, resample
from .checkpoints.config import ModelConfig
from .engine.base import check_melody
from .errors import AudioError

MIX_NOTE = (
    "the melody is that of the whole mix: AudioCraft takes drums and bass out of it first "
    "(Demucs), which segue does not; a recording without them is followed best"
)


def melody_at_rate(config: ModelConfig, melody: Audio | None) -> np.ndarray | None:
    """Return a melody `(T, C)` at the codec's rate; None for none.

    Raises:
        AudioError: it is empty, or holds samples that are no sound.
        RequestError: the model follows no melody.
    """
    check_melody(config.lm.melody, None if melody is None else melody.samples)
    if melody is None:
        return None
    if len(melody.samples) == 0 or not (np.abs(melody.samples) < LOUDEST).all():
        raise AudioError("the melody is empty, or holds samples that are no sound")
    return resample(melody.samples, melody.sample_rate, config.codec.sample_rate)


def melody_of_windows(
    config: ModelConfig, melody: np.ndarray, seconds: float, starts: Sequence[int]
) -> list[np.ndarray]:
    """Return what each window follows of a melody, or one for all of them.

    As AudioCraft extends: each its own part, of a short melody again.

    Args:
        config: the model's.
        melody: `(T, C)` at the codec's rate.
        seconds: of prompt and continuation.
        starts: the first frame of each window.
    """
    codec, lm = config.codec, config.lm
    samples = lm.window_frames * codec.hop_length
    if lm.melody is not None and lm.melody.samples is not None:
        samples = lm.melody.samples
    if seconds <= samples / codec.sample_rate:
        return [melody]
    window = np.arange(samples)
    # Rounded as there, which is one sample less now and then.
    at = [int(start / codec.frame_rate * codec.sample_rate) for start in starts]
    return [melody.take(window + sample, axis=0, mode="wrap") for sample in at]
