"""Both models play on from the same prompts with the same noise: how alike is what they play?

As codes, for so many frames; and as sound.
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
from .request import Plan

MEASURES = (
    "spectral_distance_db",
    "spectral_convergence",
    "chroma_similarity",
    "onset_similarity",
    "loudness_difference_lu",
)
"""See `distances`; loudness is BS.1770's, the variant's less the baseline's."""

_KEPT = ("codes", "samples", "join", "between_seeds")


def sound_measures(baseline: np.ndarray, variant: np.ndarray, sample_rate: int) -> list[float]:
    """The `MEASURES` of two sounds `(T, C)`, in their order."""
    return [
        distances.spectral_distance(baseline, variant, sample_rate),
        distances.spectral_convergence(baseline, variant),
        distances.chroma_similarity(baseline, variant, sample_rate),
        distances.onset_similarity(baseline, variant, sample_rate),
        distances.loudness(variant, sample_rate) - distances.loudness(baseline, sample_rate),
    ]


def listen(plan: Plan, origin: dict[str, Any], heard: Audio, baseline: Callable[[], Engine]) -> str:
    """Make sure that the cache holds what the baseline plays on from the start of a clip.

    Args:
        plan: what is measured.
        origin: from `baselines.origin_of`.
        heard: the clip.
        baseline: loads it, if need be.

    Returns:
        The key of its takes.
    """
    request = plan.request(heard)
    prompt = heard.samples[: round(request.prompt_seconds * heard.sample_rate)]
    how = (plan.seed, plan.takes, request.output_seconds)
    key = key_of(origin, "takes", prompt, *how)
    if plan.cache.read(key, _KEPT) is None:
        played = _play(plan, baseline(), request)
        plan.cache.write(key, played | {"between_seeds": _between(plan, played)})
    return key


def _play(plan: Plan, engine: Engine, request: Request) -> dict[str, np.ndarray]:
    """New `codes` `(N, K, F)`, `samples` `(N, T, C)` with the prompt, and their `join`."""
    result = continue_audio(engine, request, plan.progress)
    codes = np.stack([take.codes for take in result.takes])
    return {
        "codes": codes[:, :, result.prompt_frames :],
        "samples": np.stack([take.audio.samples for take in result.takes]),
        "join": np.array(result.join),
    }


def _between(plan: Plan, played: Mapping[str, np.ndarray]) -> np.ndarray:
    """The `MEASURES` `(N, 5)` between each take and the next, the last and the first."""
    new = played["samples"][:, int(played["join"]) :]
    rows = []
    with plan.progress.stage("compare sounds", len(new), "takes") as advance:
        for n in range(len(new) if len(new) > 1 else 0):
            rate = plan.config.codec.sample_rate
            rows.append(sound_measures(new[n], new[(n + 1) % len(new)], rate))
            advance(n + 1)
    return np.array(rows).reshape(-1, len(MEASURES))


def compare_takes(plan: Plan, keys: Mapping[int, str], engine: Engine) -> dict[str, Any]:
    """What the variant plays, beside what the baseline did.

    Args:
        plan: what is measured.
        keys: from `listen`, for the clips that are played on from, by their number.
        engine: the variant.

    Returns:
        `free_running` and `audio`; see `segue.lab.quality.measure`.
    """
    free: list[dict[str, Any]] = []
    sounds: list[dict[str, Any]] = []
    between: list[list[float]] = []
    limit = 0
    with plan.progress.stage("play on", len(keys), "prompts") as advance:
        for done, (n, key) in enumerate(keys.items()):
            heard = plan.clips[n].samples(plan.config)
            theirs = plan.cache.entry(key, _KEPT)
            ours = _play(plan, engine, plan.request(heard))
            limit, join = ours["codes"].shape[2], int(theirs["join"])
            between += theirs["between_seeds"].tolist()
            for take in range(plan.takes):
                which = {"prompt": plan.clips[n].name, "seed": plan.seed + take}
                same = frames_until_divergence(theirs["codes"][take], ours["codes"][take])
                free.append(which | {"frames": same, "censored": same == limit})
                pair = [played["samples"][take] for played in (theirs, ours)]
                found = sound_measures(pair[0][join:], pair[1][join:], heard.sample_rate)
                files = _write(plan, n, plan.seed + take, pair)
                sounds.append(which | dict(zip(MEASURES, found, strict=True)) | files)
            advance(done + 1)
    means = _means([[sound[measure] for measure in MEASURES] for sound in sounds])
    return {
        "free_running": _alike(free, limit, plan.takes),
        "audio": means | {"between_seeds": _means(between), "takes": sounds},
    }


def _write(plan: Plan, n: int, seed: int, pair: Sequence[np.ndarray]) -> dict[str, Any]:
    """Write the baseline's and the variant's take of a clip, if there is a folder."""
    if plan.folder is None:
        return {}
    files = {}
    sides = {"baseline": plan.baseline, "variant": plan.variant}
    for (side, variant), samples in zip(sides.items(), pair, strict=True):
        rest = f"-seed{seed}-{variant.name}.wav"
        room = name_bytes(plan.folder) - len(f"{n + 1:02}-{rest}")
        files[side] = f"{n + 1:02}-{shortened(Path(plan.clips[n].name).stem, room)}{rest}"
        audio.write(plan.folder / files[side], Audio(samples, plan.config.codec.sample_rate))
    return {"files": files}


def _means(rows: Sequence[Sequence[float]]) -> dict[str, float]:
    """The mean of each of `MEASURES`; nothing of nothing."""
    if not rows:
        return {}
    table = np.array(rows)
    loudness = MEASURES.index("loudness_difference_lu")
    table[:, loudness] = np.abs(table[:, loudness])  # or louder and softer would cancel out
    return dict(zip(MEASURES, table.mean(axis=0).tolist(), strict=True))


def _alike(rows: list[dict[str, Any]], limit: int, takes: int) -> dict[str, Any]:
    """Frames before the first one in which any codebook differs, over all takes.

    A take that never diverges is censored: it counts as `limit_frames`, its whole length.  So
    `mean_frames` is that of the frames played alike within this length, and a median of the whole
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
