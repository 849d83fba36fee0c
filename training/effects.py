"""What a mixing desk does to a clip: tone, room and level."""

import numpy as np
from scipy.signal import fftconvolve, lfilter

RATE = 32_000


def room(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """An impulse response: decaying noise that loses its treble, unit energy, (samples,)."""
    length = int(seconds * RATE)
    decay = np.exp(-6.9 * np.arange(length) / length)
    noise = rng.standard_normal(length) * decay
    noise = lfilter([0.35], [1.0, -0.65], noise)
    noise[: int(0.004 * RATE)] = 0.0
    return (noise / np.sqrt(np.sum(noise**2))).astype(np.float32)


def tilt(audio: np.ndarray, amount: float) -> np.ndarray:
    """Turns the treble up (`amount` > 0) or down by a first-order shelf at about 2 kHz."""
    low = lfilter([0.32], [1.0, -0.68], audio)
    return (audio + amount * (audio - low)).astype(np.float32)


def level(audio: np.ndarray, rms_db: float) -> np.ndarray:
    """Scales to an RMS level in dB below full scale, and rounds off peaks beyond 0.9."""
    rms = np.sqrt(np.mean(audio**2)) + 1e-9
    audio = audio * (10 ** (rms_db / 20) / rms)
    over = np.abs(audio) > 0.9
    return np.where(over, np.sign(audio) * (0.9 + 0.1 * np.tanh(10 * (np.abs(audio) - 0.9))), audio)


def mix(rng: np.random.Generator, audio: np.ndarray) -> np.ndarray:
    """The whole desk, with settings drawn from `rng`; (samples,) float32 in, the same out."""
    audio = tilt(audio, float(rng.uniform(-0.35, 0.35)))
    if rng.random() < 0.6:
        wet = fftconvolve(audio, room(rng, float(rng.uniform(0.4, 1.6))))[: len(audio)]
        audio = audio + float(rng.uniform(0.05, 0.3)) * wet.astype(np.float32)
    return level(audio, float(rng.uniform(-22.0, -16.0))).astype(np.float32)
