"""A continuation's sound before it is complete: decoded window by window while steps go on.

It is not equal, sample by sample, to the sound of the whole, because the codec's receptive field is
longer than a window; the difference is inaudible.
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
"""Frames of a window: at first a second, so that there is sound soon; then two."""


class Preview:
    """Turns the codes of a growing continuation into sound.

    Args:
        engine: what decodes.
        prompt_frames: of the prompt; sound starts behind it.
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
        self._first = self._decoded = prompt_frames
        self._tails: np.ndarray | None = None
        self._resamplers: list[soxr.ResampleStream] = []

    def more(self, codes: np.ndarray, last: bool = False) -> np.ndarray | None:
        """Decode the windows that have become complete since the last call.

        Only what a window needs is decoded at a time: it, `CONTEXT_FRAMES` before it and
        `LOOKAHEAD_FRAMES` behind it.  Where windows begin and end does not depend on when this is
        called, so neither does the sound.

        Args:
            codes: `(N, K, F)` of the prompt and of all that has been generated.
            last: nothing comes after these; the rest is decoded, however short.

        Returns:
            `(N, T, C)` float32 samples, or None while there is less than a window.
        """
        decoded = []
        total = codes.shape[2]
        while self._decoded < total:
            window = FIRST_FRAMES if self._decoded - self._first < FRAMES else FRAMES
            stop = self._decoded + window
            if last and stop + LOOKAHEAD_FRAMES >= total:
                stop = total
            elif stop + LOOKAHEAD_FRAMES > total:
                break
            decoded.append(self._window(codes, stop))
        if not decoded:
            return None
        return self._resampled(np.concatenate(decoded, axis=1), last)

    def _window(self, codes: np.ndarray, stop: int) -> np.ndarray:
        """Samples `(N, T, C)` of the frames from where the last window ended to `stop`."""
        hop = self._engine.config.codec.hop_length
        first = max(0, self._decoded - CONTEXT_FRAMES)
        needed = codes[:, :, first : stop + LOOKAHEAD_FRAMES]
        decoded = self._engine.decode(needed)
        new = decoded[:, (self._decoded - first) * hop : (stop - first) * hop].copy()
        if self._tails is not None:
            # One frame of what the last window made of this: a step between the two would click.
            weight = np.linspace(0, 1, hop, dtype=np.float32)[:, None]
            new[:, :hop] = self._tails * (1 - weight) + new[:, :hop] * weight
        start = (stop - first) * hop
        self._tails = decoded[:, start : start + hop].copy()
        self._decoded = stop
        return np.stack([to_channels(take, self._channels, self._layout) for take in new])

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
