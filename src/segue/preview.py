"""A continuation heard before it is done: decoded window by window while steps go on.

What is heard is not to the sample what the whole is decoded to, because the codec looks further
than a window; it differs by less than anybody hears.
"""

from __future__ import annotations

import numpy as np
import soxr

from .audio import to_channels
from .engine.base import Engine

CONTEXT_FRAMES = 50
"""Frames before a window that are decoded with it: the codec's LSTM remembers about as far."""

LOOKAHEAD_FRAMES = 8
"""Frames behind a window that its last samples depend on."""

FIRST_FRAMES, FRAMES = 50, 100
"""Frames of a window: at first a second, so that something is heard soon; then two."""


class Preview:
    """Turns the codes of a growing continuation into sound.

    Args:
        engine: what decodes.
        prompt_frames: how many frames the prompt has; sound starts behind it.
        sample_rate: of the sound, in Hz.
        channels: of the sound.
        layout: of the channels; see `segue.audio.channels`.
    """

    def __init__(
        self,
        engine: Engine,
        prompt_frames: int,
        sample_rate: int,
        channels: int,
        layout: int | None = None,
    ) -> None:
        self._engine, self._channels, self._rate = engine, channels, sample_rate
        self._layout = layout
        self._first = self._heard = prompt_frames
        self._tails: np.ndarray | None = None
        self._resamplers: list[soxr.ResampleStream] = []

    def more(self, codes: np.ndarray, last: bool = False) -> np.ndarray | None:
        """Decode what has been generated since the last call.

        Args:
            codes: `(N, K, F)` of the prompt and of all that has been generated.
            last: nothing comes after these; what is left is decoded, however short.

        Returns:
            `(N, T, C)` float32 samples, or None while there is less than a window.
        """
        ready = codes.shape[2] - (0 if last else LOOKAHEAD_FRAMES)
        wanted = FIRST_FRAMES if self._heard - self._first < FRAMES else FRAMES
        if ready - self._heard < (1 if last else wanted):
            return None
        hop = self._engine.config.codec.hop_length
        first = max(0, self._heard - CONTEXT_FRAMES)
        decoded = np.stack([self._engine.decode(take[:, first:]) for take in codes])
        new = decoded[:, (self._heard - first) * hop : (ready - first) * hop].copy()
        if self._tails is not None:
            # One frame of what the last window made of this: a step between the two would click.
            weight = np.linspace(0, 1, hop, dtype=np.float32)[:, None]
            new[:, :hop] = self._tails * (1 - weight) + new[:, :hop] * weight
        start = (ready - first) * hop
        self._tails = decoded[:, start : start + hop].copy()
        self._heard = ready
        spread = [to_channels(take, self._channels, self._layout) for take in new]
        return self._resampled(np.stack(spread), last)

    def _resampled(self, takes: np.ndarray, last: bool) -> np.ndarray:
        codec_rate = self._engine.config.codec.sample_rate
        if codec_rate == self._rate:
            return takes
        if not self._resamplers:
            self._resamplers = [
                soxr.ResampleStream(codec_rate, self._rate, self._channels, dtype="float32")
                for _ in takes
            ]
        return np.stack(
            [
                resampler.resample_chunk(np.ascontiguousarray(take, np.float32), last=last)
                for resampler, take in zip(self._resamplers, takes, strict=True)
            ]
        )
