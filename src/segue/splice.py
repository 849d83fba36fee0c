"""Join the user's samples and the model's without a click.

After the join the user's music is extrapolated for some milliseconds by linear prediction, which
continues value, slope and spectrum, and cross-faded into the model's output.  Up to the join no
sample is changed, and no audio that the user left out of the prompt is used.
"""

from __future__ import annotations

import numpy as np

CROSSFADE_SECONDS = 0.010
"""Long enough against clicks, too short to be audible as a fade."""

ORDER = 64
CONTEXT_SECONDS = 0.1
"""The length before the join that the prediction is fitted to."""


def splice(original: np.ndarray, generated: np.ndarray, sample_rate: int) -> np.ndarray:
    """Append the model's output to the user's samples, with a cross-fade after the join.

    Args:
        original: `(J, C)`, the user's samples up to the join.
        generated: `(T, C)`, the model's output for prompt and continuation; sample J is the join.
        sample_rate: of both, in Hz.

    Returns:
        `(T, C)`, of the type of `original`, whose first J samples are those of `original`.
    """
    join = len(original)
    rest = generated[join:].astype(original.dtype)
    fade = min(round(CROSSFADE_SECONDS * sample_rate), len(rest))
    context = original[-round(CONTEXT_SECONDS * sample_rate) :].astype(np.float64)
    order = min(ORDER, (len(context) - 1) // 2)
    if fade > 0 and order > 0:
        predicted = np.stack([extrapolate(channel, fade, order) for channel in context.T], axis=1)
        weight = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, fade + 1) / (fade + 1))
        faded = predicted * (1 - weight[:, None]) + rest[:fade] * weight[:, None]
        rest[:fade] = faded
    return np.concatenate([original, rest])


def close_loop(samples: np.ndarray, start: int, join: int, sample_rate: int) -> np.ndarray:
    """Let the end of `samples` lead back to `start`, so that the loop between has no click.

    The last ten milliseconds are cross-faded into what linear prediction, run backwards, says comes
    before `start`.  Nothing before `join` is changed.

    Args:
        samples: `(T, C)`.
        start: the first sample of the loop.
        join: where the user's own samples end.
        sample_rate: in Hz.

    Returns:
        `(T, C)`, of the type of `samples`.
    """
    fade = min(round(CROSSFADE_SECONDS * sample_rate), len(samples) - join)
    context = samples[start : start + round(CONTEXT_SECONDS * sample_rate)][::-1]
    order = min(ORDER, (len(context) - 1) // 2)
    if fade <= 0 or order <= 0:
        return samples
    context = context.astype(np.float64)
    before = np.stack([extrapolate(channel, fade, order) for channel in context.T], axis=1)[::-1]
    weight = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, fade + 1) / (fade + 1))
    faded = samples[-fade:] * (1 - weight[:, None]) + before * weight[:, None]
    return np.concatenate([samples[:-fade], faded.astype(samples.dtype)])


def extrapolate(signal: np.ndarray, count: int, order: int = ORDER) -> np.ndarray:
    """Predict the next `count` samples of `signal` `(T,)` linearly, each from `order` before it."""
    coefficients = burg(signal, order)[::-1]
    extended = np.concatenate([signal[-order:], np.zeros(count)])
    for t in range(order, order + count):
        extended[t] = coefficients @ extended[t - order : t]
    return extended[order:]


def burg(signal: np.ndarray, order: int) -> np.ndarray:
    """Compute prediction coefficients `(order,)`: `x[t] ≈ sum(a[i] * x[t - 1 - i])`.

    Burg's method (J. P. Burg, Maximum entropy spectral analysis, 1975): the reflection coefficient
    of each order minimises the forward and backward errors together, which keeps the predictor
    stable: a prediction decays and never grows.
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
