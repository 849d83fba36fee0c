"""What the figures hear in audio: tempo, key, loudness, silence."""

import librosa
import numpy as np

from training.theory import PROFILES

RATE = 32_000


def tempo(audio: np.ndarray) -> float:
    """Beats a minute of (samples,), by librosa's tempogram over the whole of it."""
    strength = librosa.onset.onset_strength(y=audio, sr=RATE, hop_length=320)
    return float(librosa.feature.tempo(onset_envelope=strength, sr=RATE, hop_length=320)[0])


def same_tempo(first: float, second: float, within: float = 0.04) -> bool:
    """Whether two tempi agree, or one is twice the other (which a beat tracker cannot tell)."""
    return any(abs(second * fold / first - 1) <= within for fold in (0.5, 1.0, 2.0))


def pulse_kept(before: np.ndarray, after: np.ndarray, within: float = 0.04) -> float:
    """How much of the prompt's best pulse is in what follows: a correlation, -1 to 1.

    The autocorrelation of the onset strength of `after`, at its best lag within `within` of the
    lag (0.25 to 2 s) at which that of `before` peaks.
    """
    lags = []
    for audio in (before, after):
        strength = librosa.onset.onset_strength(y=audio, sr=RATE, hop_length=320)
        strength = strength - strength.mean()
        found = librosa.autocorrelate(strength, max_size=260)
        lags.append(found / (found[0] + 1e-9))
    best = 25 + int(np.argmax(lags[0][25:200]))
    reach = max(1, round(best * within))
    return float(lags[1][best - reach : best + reach + 1].max())


def chroma(audio: np.ndarray) -> np.ndarray:
    """Mean energy of the twelve pitch classes, (12,), of what sounds on (drums left out)."""
    tones = librosa.effects.harmonic(audio)
    found = librosa.feature.chroma_cqt(
        y=tones, sr=RATE, hop_length=2048, norm=None, bins_per_octave=36
    )
    return found.mean(axis=1)


def key_fit(classes: np.ndarray, tonic: int, mode: str) -> float:
    """Correlation of pitch classes (12,) with a key's profile."""
    return float(np.corrcoef(np.roll(PROFILES[mode], tonic), classes)[0, 1])


def loudness(audio: np.ndarray) -> float:
    """RMS level in dB below full scale."""
    return float(10 * np.log10(np.mean(np.square(audio)) + 1e-10))


def longest_silence(audio: np.ndarray, below: float = -50.0) -> float:
    """Seconds of the longest run of 50 ms windows that are quieter than `below` dB."""
    windows = audio[: len(audio) // 1600 * 1600].reshape(-1, 1600)
    quiet = 10 * np.log10(np.mean(windows**2, axis=1) + 1e-12) < below
    longest = run = 0
    for silent in quiet:
        run = run + 1 if silent else 0
        longest = max(longest, run)
    return longest * 0.05
