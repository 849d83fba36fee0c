"""Draw a continuation: waveform and spectrogram, with the join marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..atomic import writing
from ..audio import Audio

FLOOR_DB = -80.0
WINDOW = 2048


def draw(audio: Audio, join: int, path: Path) -> None:
    """Write a PNG of a continuation.

    Args:
        audio: prompt and continuation.
        join: the first sample of the continuation.
        path: of the PNG.

    Raises:
        ImportError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mono = audio.samples.mean(axis=1)
    figure, (wave, tones) = plt.subplots(2, 1, figsize=(12, 6), sharex=True, layout="constrained")
    bins = np.array_split(mono, min(3000, len(mono)))
    time = np.linspace(0, audio.seconds, len(bins))
    wave.fill_between(time, [b.min() for b in bins], [b.max() for b in bins], linewidth=0)
    wave.set_ylim(-1, 1)
    wave.set_ylabel("amplitude")
    tones.imshow(
        spectrogram_db(mono),
        origin="lower",
        aspect="auto",
        extent=(0, audio.seconds, 0, audio.sample_rate / 2000),
        vmin=FLOOR_DB,
        vmax=0,
        cmap="magma",
    )
    tones.set_ylim(0, min(16, audio.sample_rate / 2000))
    tones.set_ylabel("kHz")
    tones.set_xlabel("seconds")
    for axes in (wave, tones):
        axes.axvline(join / audio.sample_rate, color="tab:green", linewidth=1.5)
    wave.annotate(
        "the model plays on", (join / audio.sample_rate, 0.9), (6, 0), textcoords="offset points"
    )
    with writing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    plt.close(figure)


def spectrogram_db(mono: np.ndarray) -> np.ndarray:
    """Compute magnitudes `(WINDOW // 2 + 1, frames)` in dB below the loudest, of samples `(T,)`."""
    hop = WINDOW // 4
    padded = np.pad(mono, (WINDOW // 2, WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[: len(mono) + 1 : hop]
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1)).T
    decibels: np.ndarray = 20 * np.log10(
        np.maximum(magnitudes / max(magnitudes.max(), 1e-12), 1e-9)
    )
    return decibels
