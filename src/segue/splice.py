"""The join: the user's own samples up to it, the model's after it, and no click between.

After the join the user's music is carried on for some milliseconds by linear prediction, which
keeps value, slope and spectrum going, and cross-faded into what the model plays.  Up to the join
not a sample is changed, and nothing that the user left out of her prompt is heard.
"""

from __future__ import annotations

import numpy as np

CROSSFADE_SECONDS = 0.010
"""Long enough for no click, too short to be heard as a fade."""

ORDER = 64
CONTEXT_SECONDS = 0.1
"""What the prediction is fitted to: the last tenth of a second."""


def splice(original: np.ndarray, played: np.ndarray, sample_rate: int) -> np.ndarray:
    """`original` untouched, and `played` from where it ends.

    Args:
        original: `(J, C)`, what was there up to the join.
        played: `(T, C)`, what the model makes of all of it and plays on; its sample J is the join.
        sample_rate: of both.

    Returns:
        `(T, C)`, of the type of `original`, whose first J samples are those of `original`.
    """
    join = len(original)
    rest = played[join:].astype(original.dtype)
    fade = min(round(CROSSFADE_SECONDS * sample_rate), len(rest))
    context = original[-round(CONTEXT_SECONDS * sample_rate) :].astype(np.float64)
    order = min(ORDER, (len(context) - 1) // 2)
    if fade > 0 and order > 0:
        predicted = np.stack([extrapolate(channel, fade, order) for channel in context.T], axis=1)
        weight = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, fade + 1) / (fade + 1))
        faded = predicted * (1 - weight[:, None]) + rest[:fade] * weight[:, None]
        rest[:fade] = faded
    return np.concatenate([original, rest])


def extrapolate(signal: np.ndarray, count: int, order: int = ORDER) -> np.ndarray:
    """The next `count` samples of `signal` `(T,)` by linear prediction from `order` before each."""
    coefficients = burg(signal, order)[::-1]
    extended = np.concatenate([signal[-order:], np.zeros(count)])
    for t in range(order, order + count):
        extended[t] = coefficients @ extended[t - order : t]
    return extended[order:]


def burg(signal: np.ndarray, order: int) -> np.ndarray:
    """Prediction coefficients `(order,)`: `x[t] ≈ sum(a[i] * x[t - 1 - i])`.

    Burg's method (J. P. Burg, Maximum entropy spectral analysis, 1975): the reflection coefficient
    of each order minimises the forward and backward errors together, which keeps the predictor
    stable; a prediction dies away and never grows.
    """
    a = np.zeros(0)
    forward, backward = signal[1:], signal[:-1]
    for _ in range(order):
        energy = forward @ forward + backward @ backward
        reflection = 2 * (forward @ backward) / energy if energy > 1e-12 else 0.0
        a = np.append(a - reflection * a[::-1], reflection)
        forward, backward = (
            (forward - reflection * backward)[1:],
            (backward - reflection * forward)[:-1],
        )
    return a
