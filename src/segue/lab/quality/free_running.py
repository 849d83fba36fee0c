"""Both models continue the same prompts with the same noise: how alike are the continuations?

As codes, until the first frame that differs; and as sound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ... import audio
from ...atomic import name_bytes, shortened
from ...audio import Audio
from ...continuation import Request, continue_audio
from ...engine.base import Engine
from . import distances
from .baselines import key_of
from .divergence import Bootstrap, frames_until_divergence
from .request import Measurement

MEASURES = (
    "spectral_distance_db",
    "spectral_convergence",
    "chroma_similarity",
    "onset_similarity",
    "loudness_difference_lu",
)
"""See `distances`; loudness is BS.1770's, the variant's less the baseline's."""

_STORED = ("codes", "samples", "join", "between_seeds")


def sound_measures(baseline: np.ndarray, variant: np.ndarray, sample_rate: int) -> list[float]:
    """Return the `MEASURES` of two sounds `(T, C)`, in their order."""
    return [
        distances.spectral_distance(baseline, variant, sample_rate),
        distances.spectral_convergence(baseline, variant),
        distances.chroma_similarity(baseline, variant, sample_rate),
        distances.onset_similarity(baseline, variant, sample_rate),
        distances.loudness(variant, sample_rate) - distances.loudness(baseline, sample_rate),
    ]


def cache_takes(
    work: Measurement, origin: dict[str, Any], clip: Audio, baseline: Callable[[], Engine]
) -> str:
    """Make sure that the cache holds the baseline's continuations of the start of a clip.

    Args:
        work: what is measured.
        origin: from `baselines.origin_of`.
        clip: at the codec's rate, with the model's channels.
        baseline: loads it, if need be.

    Returns:
        The key of its takes.
    """
    request = work.continue_from(clip)
    prompt = clip.samples[: round(request.prompt_seconds * clip.sample_rate)]
    how = (request.seed, request.variations, request.output_seconds)
    key = key_of(origin, "takes", prompt, *how)
    if work.cache.read(key, _STORED) is None:
        takes = _generate(work, baseline(), request)
        work.cache.write(key, takes | {"between_seeds": _between(work, takes)})
    return key


def _generate(work: Measurement, engine: Engine, request: Request) -> dict[str, np.ndarray]:
    """New `codes` `(N, K, F)`, `samples` `(N, T, C)` with the prompt, and their `join`."""
    result = continue_audio(engine, request, work.progress)
    codes = np.stack([take.codes for take in result.takes])
    return {
        "codes": codes[:, :, result.prompt_frames :],
        "samples": np.stack([take.audio.samples for take in result.takes]),
        "join": np.array(result.join),
    }


def _between(work: Measurement, takes: Mapping[str, np.ndarray]) -> np.ndarray:
    """The `MEASURES` `(N, 5)` between each take and the next, the last and the first."""
    new = takes["samples"][:, int(takes["join"]) :]
    rows = []
    with work.progress.stage("compare sounds", len(new), "takes") as advance:
        for n in range(len(new) if len(new) > 1 else 0):
            rate = work.config.codec.sample_rate
            rows.append(sound_measures(new[n], new[(n + 1) % len(new)], rate))
            advance(n + 1)
    return np.array(rows).reshape(-1, len(MEASURES))


def compare_takes(work: Measurement, n: int, key: str, engine: Engine) -> dict[str, Any]:
    """Compare the variant's continuations of a clip with the baseline's.

    Args:
        work: what is measured.
        n: the clip's number.
        key: from `cache_takes`.
        engine: the variant.

    Returns:
        The rows of `free_running` and of `audio` in a `QualityReport`, as `free` and `sounds`; the
        `MEASURES` `between` the baseline's takes; and the `limit` of frames, of JSON all.
    """
    request = work.continue_from(work.clips[n].samples(work.config))
    stored = work.cache.entry(key, _STORED)
    found = _generate(work, engine, request)
    limit, join = found["codes"].shape[2], int(stored["join"])
    free, sounds = [], []
    for take in range(request.variations):
        seed = work.request.seed + take
        which = {"prompt": work.clips[n].name, "seed": seed}
        same = frames_until_divergence(stored["codes"][take], found["codes"][take])
        free.append(which | {"frames": same, "censored": same == limit})
        pair = [takes["samples"][take] for takes in (stored, found)]
        measures = sound_measures(pair[0][join:], pair[1][join:], work.config.codec.sample_rate)
        files = _write(work, n, seed, pair)
        sounds.append(which | dict(zip(MEASURES, measures, strict=True)) | files)
    between = stored["between_seeds"].tolist()
    return {"free": free, "sounds": sounds, "between": between, "limit": limit}


def summarise_takes(work: Measurement, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise what was compared.

    Args:
        work: what is measured.
        found: of each clip that was continued, from `compare_takes`.

    Returns:
        `free_running` and `audio` of a `QualityReport`.
    """
    free, sounds, between = (
        [row for of_a_clip in found for row in of_a_clip[name]]
        for name in ("free", "sounds", "between")
    )
    means = _means([[sound[measure] for measure in MEASURES] for sound in sounds])
    return {
        "free_running": _summary(free, found[-1]["limit"], work.request.takes),
        "audio": means | {"between_seeds": _means(between), "takes": sounds},
    }


def _write(work: Measurement, n: int, seed: int, pair: Sequence[np.ndarray]) -> dict[str, Any]:
    """Write the baseline's and the variant's take of a clip, if there is a folder."""
    folder = work.request.folder
    if folder is None:
        return {}
    files = {}
    sides = {"baseline": work.request.baseline, "variant": work.request.variant}
    for (side, variant), samples in zip(sides.items(), pair, strict=True):
        rest = f"-seed{seed}-{variant.name}.wav"
        room = name_bytes(folder) - len(f"{n + 1:02}-{rest}")
        files[side] = f"{n + 1:02}-{shortened(Path(work.clips[n].name).stem, room)}{rest}"
        audio.write(folder / files[side], Audio(samples, work.config.codec.sample_rate))
    return {"files": files}


def _means(rows: Sequence[Sequence[float]]) -> dict[str, float]:
    """The mean of each of `MEASURES`; nothing of nothing."""
    if not rows:
        return {}
    table = np.array(rows)
    loudness = MEASURES.index("loudness_difference_lu")
    table[:, loudness] = np.abs(table[:, loudness])  # or louder and softer would cancel out
    return dict(zip(MEASURES, table.mean(axis=0).tolist(), strict=True))


def _summary(rows: list[dict[str, Any]], limit: int, takes: int) -> dict[str, Any]:
    """Frames before the first one in which any codebook differs, over all takes.

    A take that never diverges is censored: it counts as `limit_frames`, its whole length.  So
    `mean_frames` is that of the equal frames within this length, and a median of the whole
    length means "at least".
    """
    frames = np.array([row["frames"] for row in rows], np.float64)
    mean, interval = Bootstrap([[takes]] * (len(rows) // takes), block=1).mean(frames)
    return {
        "limit_frames": limit,
        "mean_frames": mean,
        "ci95": interval,
        "median_frames": float(np.median(frames)),
        "censored": sum(row["censored"] for row in rows),
        "takes": rows,
    }
