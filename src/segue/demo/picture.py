"""Draw a continuation: waveform and spectrogram, with the join marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..atomic import writing
from ..audio import Audio

COLUMNS = 1100
"""About as many as the picture has pixels across: more would cost time that nobody sees."""

FLOOR_DB = -80.0
WINDOW = 1024


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
    # Not `pyplot`, which looks for windows to show it in, nor a layout that draws it twice.
    from matplotlib.figure import Figure

    mono, highest = audio.samples.mean(axis=1), audio.sample_rate / 2000
    figure = Figure(figsize=(12, 6))
    figure.subplots_adjust(left=0.065, right=0.99, bottom=0.08, top=0.98, hspace=0.08)
    wave, tones = figure.subplots(2, 1, sharex=True)
    bins = np.array_split(mono, min(COLUMNS, len(mono)))
    time = np.linspace(0, audio.seconds, len(bins))
    wave.fill_between(time, [b.min() for b in bins], [b.max() for b in bins], linewidth=0)
    wave.set_ylim(-1, 1)
    wave.set_ylabel("amplitude")
    tones.imshow(
        spectrogram_db(mono),
        origin="lower",
        aspect="auto",
        extent=(0, audio.seconds, 0, highest),
        vmin=FLOOR_DB,
        vmax=0,
        cmap="magma",
    )
    tones.set_ylim(0, min(16, highest))
    tones.set_ylabel("kHz")
    tones.set_xlabel("seconds")
    for axes in (wave, tones):
        axes.axvline(join / audio.sample_rate, color="tab:green", linewidth=1.5)
    wave.annotate(
        "the model plays on", (join / audio.sample_rate, 0.9), (6, 0), textcoords="offset points"
    )
    with writing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, pil_kwargs={"compress_level": 1})


def spectrogram_db(mono: np.ndarray) -> np.ndarray:
    """Compute `(WINDOW // 2 + 1, COLUMNS)` in dB below the loudest, of samples `(T,)`."""
    padded = np.pad(mono, WINDOW // 2).astype(np.float32)
    starts = np.linspace(0, len(mono), COLUMNS).astype(int)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[starts]
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1)).T
    decibels: np.ndarray = 20 * np.log10(
        np.maximum(magnitudes / max(magnitudes.max(), 1e-12), 1e-9)
    )
    return decibels
