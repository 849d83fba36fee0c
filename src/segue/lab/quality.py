"""What a variant costs in quality, beside a baseline.

Three questions, from the model's to the listener's:

- *Teacher-forced*: both hear the codes of real music; how far apart are their next-token
  distributions?  (`divergence`)
- *Free-running*: both play on from the same prompts with the same noise; for how many frames do
  they play the same?
- *Audio*: how different does that sound?  (`distances`)

The baseline's answers are kept (`baselines`): the first variant waits for them, the next ones do
not.  There is one model in memory at a time.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import audio
from ..audio import Audio
from ..checkpoint import open_checkpoint
from ..config import ModelConfig
from ..continuation import MAX_VARIATIONS, Request, continue_audio
from ..engine.base import Engine
from ..errors import AudioError, RequestError
from ..pattern import delay
from ..progress import SILENT, Progress
from . import distances
from .baselines import BaselineCache, key_of, origin_of
from .clips import Clip, find_clips, windows
from .divergence import (
    BLOCK_FRAMES,
    Bootstrap,
    Tokens,
    compare,
    concatenated,
    frames_until_divergence,
    summarise,
)
from .variant import Variant

SCHEMA = 1

CONTEXT_FRAMES = 50
"""Frames at the start of a window that are heard but not counted, or half of a shorter window.
Nobody continues less than a second of music, and what a model guesses without context says more
about its training than about quantization."""

ENGINE = "mlx"
"""Recipes are MLX's, and noise is only shared by one engine."""

TAKES = 2
CONTINUATION_SECONDS = 6.0
MAX_FREE_PROMPTS = 8
"""Prompts that are played on from, spread over all there are, each `TAKES` times.  Distributions
tell more, in less time: on a CPU, decoding this much sound is most of the work already."""

MEASURES = (
    "spectral_distance_db",
    "spectral_convergence",
    "chroma_similarity",
    "onset_similarity",
    "loudness_difference_lu",
)
"""See `distances`; loudness is BS.1770's, the variant's less the baseline's."""

_WINDOW = ("codes", "logits")
_TAKES = ("codes", "samples", "join", "between_seeds")


def measure(
    baseline: Variant,
    variant: Variant,
    model: str,
    base_model: str | None,
    prompts: Sequence[Path],
    seed: int,
    folder: Path | None,
    progress: Progress = SILENT,
    *,
    text: str = "",
    takes: int = TAKES,
    continuation_seconds: float = CONTINUATION_SECONDS,
) -> dict[str, Any]:
    """How far `variant` is from `baseline`; the same on the same machine to the last digit.

    Args:
        baseline: what counts as right, mostly the checkpoint as it is.
        variant: what is measured.
        model: the checkpoint; see `segue.load`.
        base_model: see `segue.load`.
        prompts: files and folders of music that the model was not trained on; none means segue's
            own.
        seed: of the first take of each prompt.
        folder: where what was played is written; None keeps no sound.
        progress: shown while it runs.
        text: a description that both models read.  Logits are compared without guidance; what is
            played has it, as it has for users.
        takes: continuations of each prompt, with the seeds `seed`, `seed + 1` and so on.
        continuation_seconds: their length without the prompt.

    Returns:
        What `json.dump` takes:

        - `schema`, `model`, `baseline`, `variant`, `seed`, `text`: what was measured.
        - `prompts`: `name` and `seconds` heard of each, and whether it is `built_in`.
        - `tokens`: how many were `counted`, in how many `frames`, `codebooks` and `windows`; the
          `context_frames` that were not, and the bootstrap's blocks.
        - `kl`: nats per token, KL(baseline || variant); for `overall`, `codebook_0` and so on
          `mean`, its `ci95`, `median`, `p99` and `max`.
        - `top1_agreement`: the share of tokens, as `mean` and `ci95`.
        - `perplexity`: of the codes that follow: `baseline`, `variant`, their `ratio` and its
          `ci95`.
        - `free_running`: frames played alike, see `_free_running`.
        - `audio`: the mean over takes of each of `MEASURES`, of loudness differences without their
          sign; the same `between_seeds`, that is between the baseline's takes, to compare with;
          and each of the `takes`, with the names of its `files` if there is a folder.

    Raises:
        AudioError: a prompt cannot be used, or what was played cannot be written.
        CheckpointError: there is no such checkpoint, or it cannot be used.
        RequestError: an option is out of range, a recipe for a checkpoint that is quantized
            already, a variant that overflows, or a cache that cannot be written.
    """
    checkpoint = open_checkpoint(model, base_model, progress)
    if checkpoint.config.quantization is not None and (baseline.recipe or variant.recipe):
        raise RequestError(f"{model} is quantized already; measure the checkpoint it came from")
    measurement = _Measurement(
        baseline=baseline,
        variant=variant,
        model=model,
        base_model=base_model,
        config=checkpoint.config,
        clips=find_clips(prompts),
        seed=seed,
        text=text,
        takes=takes,
        continuation_seconds=continuation_seconds,
        folder=folder,
        cache=BaselineCache(),
        progress=progress,
    )
    seconds = measurement.check()
    origin = origin_of(checkpoint, baseline, text, progress)
    del checkpoint
    try:
        kept = measurement.listen_to_baseline(origin)
        found = measurement.compare(kept)
    finally:
        measurement.cache.sweep()
    return {
        "schema": SCHEMA,
        "model": model,
        "baseline": {"name": baseline.name} | baseline.to_json(),
        "variant": {"name": variant.name} | variant.to_json(),
        "seed": seed,
        "text": text,
        "prompts": [
            {"name": clip.name, "seconds": heard, "built_in": not prompts}
            for clip, heard in zip(measurement.clips, seconds, strict=True)
        ],
    } | found


def counted_logits(engine: Engine, codes: np.ndarray, conditioning: object = None) -> np.ndarray:
    """Logits `(F - skipped, K, V)` for those codes of a window `(K, F)` that count.

    The delay is undone: the code of codebook k at frame f stands in column `delays[k] + 1 + f`, so
    it is predicted after the column before.  What is predicted for special tokens does not count.
    """
    lm, (_, F) = engine.config.lm, codes.shape
    logits = engine.logits(delay(codes, lm.delays, lm.special_token), conditioning)
    first = context_of(F)
    return np.stack([logits[late + first : late + F, k] for k, late in enumerate(lm.delays)], 1)


def context_of(frames: int) -> int:
    """How many frames at the start of a window of so many do not count."""
    return min(CONTEXT_FRAMES, frames // 2)


def sound_measures(baseline: np.ndarray, variant: np.ndarray, sample_rate: int) -> list[float]:
    """The `MEASURES` of two sounds `(T, C)`, in their order."""
    return [
        distances.spectral_distance(baseline, variant, sample_rate),
        distances.spectral_convergence(baseline, variant),
        distances.chroma_similarity(baseline, variant, sample_rate),
        distances.onset_similarity(baseline, variant, sample_rate),
        distances.loudness(variant, sample_rate) - distances.loudness(baseline, sample_rate),
    ]


class _Loaded:
    """A variant that is loaded once somebody asks for its engine, and let go at the end."""

    def __init__(self, measurement: _Measurement, variant: Variant) -> None:
        self._measurement, self._variant = measurement, variant
        self._engine: Engine | None = None

    def __enter__(self) -> _Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine = None
        gc.collect()  # an engine refers to itself, and the next one needs its memory

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            asked = self._measurement
            loaded = self._variant.load(asked.model, asked.base_model, ENGINE, asked.progress)
            self._engine = loaded.engine
        return self._engine


@dataclass(frozen=True)
class _Kept:
    """Keys of what the cache holds of a baseline.

    Attributes:
        windows: for each clip, of its windows.
        takes: for the clips that are played on from, by their number.
    """

    windows: list[list[str]]
    takes: dict[int, str]


@dataclass(frozen=True)
class _Measurement:
    """What `measure` was asked for, and its parts."""

    baseline: Variant
    variant: Variant
    model: str
    base_model: str | None
    config: ModelConfig
    clips: Sequence[Clip]
    seed: int
    text: str
    takes: int
    continuation_seconds: float
    folder: Path | None
    cache: BaselineCache
    progress: Progress

    def check(self) -> list[float]:
        """The seconds of each clip.  What is wrong with the input is found before anything long."""
        if not self.continuation_seconds >= 0.1:
            raise RequestError("continuation-seconds must be 0.1 or more")
        if not 1 <= self.takes <= MAX_VARIATIONS:
            raise RequestError(f"takes must lie between 1 and {MAX_VARIATIONS}, not {self.takes}")
        seconds = []
        with self.progress.stage("read the prompts", len(self.clips)) as advance:
            for n, clip in enumerate(self.clips):
                heard = clip.samples(self.config)
                self._request(heard)
                seconds.append(heard.seconds)
                advance(n + 1)
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise AudioError(f"{self.folder}: cannot be made ({error.strerror})") from None
        return seconds

    def _request(self, heard: Audio) -> Request:
        """To play on from the start of a clip."""
        hop = self.config.codec.hop_length
        wanted = round(Request.prompt_seconds * heard.sample_rate)
        prompt_seconds = min(wanted, len(heard.samples)) // hop * hop / heard.sample_rate
        return Request(
            audio=heard,
            prompt_seconds=prompt_seconds,
            output_seconds=prompt_seconds + self.continuation_seconds,
            text=self.text,
            seed=self.seed,
            variations=self.takes,
        )

    def _played_on_from(self) -> set[int]:
        """Numbers of the clips that are."""
        count = min(len(self.clips), MAX_FREE_PROMPTS)
        return {n * len(self.clips) // count for n in range(count)}

    # --- The baseline ---------------------------------------------------------------------------

    def listen_to_baseline(self, origin: dict[str, Any]) -> _Kept:
        """Make sure that the cache holds all that the baseline has to say."""
        kept, free = _Kept([], {}), self._played_on_from()
        with (
            _Loaded(self, self.baseline) as loaded,
            self.progress.stage("listen to the baseline", len(self.clips), "prompts") as advance,
        ):
            for n, clip in enumerate(self.clips):
                heard = clip.samples(self.config)
                kept.windows.append([])
                for piece in windows(heard.samples, self.config.codec.hop_length):
                    key = key_of(origin, "window", piece)
                    if self.cache.read(key, _WINDOW) is None:
                        codes = loaded.engine.encode(piece)
                        logits = self._logits(loaded.engine, codes, self.baseline)
                        self.cache.write(key, {"codes": codes, "logits": logits})
                    kept.windows[-1].append(key)
                if n in free:
                    request = self._request(heard)
                    prompt = heard.samples[: round(request.prompt_seconds * heard.sample_rate)]
                    how = (self.seed, self.takes, request.output_seconds)
                    key = key_of(origin, "takes", prompt, *how)
                    if self.cache.read(key, _TAKES) is None:
                        played = self._play(loaded.engine, request)
                        self.cache.write(key, played | {"between_seeds": self._between(played)})
                    kept.takes[n] = key
                advance(n + 1)
        return kept

    def _logits(self, engine: Engine, codes: np.ndarray, variant: Variant) -> np.ndarray:
        conditioning = engine.condition(self.text) if self.text else None
        logits = counted_logits(engine, codes, conditioning)
        if not np.isfinite(logits).all():
            raise RequestError(
                f"{variant.name}: the model overflows, its logits are no numbers; choose another "
                "type or quantization"
            )
        return logits

    def _play(self, engine: Engine, request: Request) -> dict[str, np.ndarray]:
        """New `codes` `(N, K, F)`, `samples` `(N, T, C)` with the prompt, and their `join`."""
        result = continue_audio(engine, request, self.progress)
        codes = np.stack([take.codes for take in result.takes])
        return {
            "codes": codes[:, :, result.prompt_frames :],
            "samples": np.stack([take.audio.samples for take in result.takes]),
            "join": np.array(result.join),
        }

    def _between(self, played: dict[str, np.ndarray]) -> np.ndarray:
        """The `MEASURES` `(N, 5)` between each take and the next, the last and the first."""
        new = played["samples"][:, int(played["join"]) :]
        rows = []
        with self.progress.stage("compare sounds", len(new), "takes") as advance:
            for n in range(len(new) if len(new) > 1 else 0):
                rate = self.config.codec.sample_rate
                rows.append(sound_measures(new[n], new[(n + 1) % len(new)], rate))
                advance(n + 1)
        return np.array(rows).reshape(-1, len(MEASURES))

    # --- The variant ----------------------------------------------------------------------------

    def compare(self, kept: _Kept) -> dict[str, Any]:
        """All that is said of the variant."""
        with _Loaded(self, self.variant) as loaded:
            tokens = self._compare_tokens(kept, loaded.engine)
            return tokens | self._compare_takes(kept, loaded.engine)

    def _entry(self, key: str, names: Sequence[str]) -> dict[str, np.ndarray]:
        entry = self.cache.read(key, names)
        if entry is None:
            raise RequestError(f"{self.cache.folder}: was emptied in the meantime; run it again")
        return entry

    def _compare_tokens(self, kept: _Kept, engine: Engine) -> dict[str, Any]:
        parts: list[Tokens] = []
        frames: list[list[int]] = []
        count = sum(map(len, kept.windows))
        with self.progress.stage("compare distributions", count, "windows") as advance:
            for keys in kept.windows:
                frames.append([])
                for key in keys:
                    theirs = self._entry(key, _WINDOW)
                    codes = theirs["codes"]
                    logits = self._logits(engine, codes, self.variant)
                    counted = codes.T[context_of(codes.shape[1]) :]
                    parts.append(compare(theirs["logits"], logits, counted))
                    frames[-1].append(len(counted))
                    advance(len(parts))
        tokens, bootstrap = concatenated(parts), Bootstrap(frames)
        counts = {
            "counted": tokens.kl.size,
            "frames": len(tokens),
            "codebooks": tokens.kl.shape[1],
            "windows": count,
            "context_frames": CONTEXT_FRAMES,
            "bootstrap_blocks": bootstrap.blocks,
            "bootstrap_block_frames": BLOCK_FRAMES,
        }
        return {"tokens": counts} | summarise(tokens, bootstrap)

    def _compare_takes(self, kept: _Kept, engine: Engine) -> dict[str, Any]:
        free: list[dict[str, Any]] = []
        sounds: list[dict[str, Any]] = []
        between: list[list[float]] = []
        limit = 0
        with self.progress.stage("play on", len(kept.takes), "prompts") as advance:
            for done, (n, key) in enumerate(kept.takes.items()):
                heard = self.clips[n].samples(self.config)
                theirs, ours = self._entry(key, _TAKES), self._play(engine, self._request(heard))
                limit, join = ours["codes"].shape[2], int(theirs["join"])
                between += theirs["between_seeds"].tolist()
                for take in range(self.takes):
                    which = {"prompt": self.clips[n].name, "seed": self.seed + take}
                    same = frames_until_divergence(theirs["codes"][take], ours["codes"][take])
                    free.append(which | {"frames": same, "censored": same == limit})
                    pair = [played["samples"][take] for played in (theirs, ours)]
                    found = sound_measures(pair[0][join:], pair[1][join:], heard.sample_rate)
                    files = self._write(n, self.seed + take, pair)
                    sounds.append(which | dict(zip(MEASURES, found, strict=True)) | files)
                advance(done + 1)
        means = _means([[sound[measure] for measure in MEASURES] for sound in sounds])
        return {
            "free_running": _free_running(free, limit, self.takes),
            "audio": means | {"between_seeds": _means(between), "takes": sounds},
        }

    def _write(self, n: int, seed: int, pair: Sequence[np.ndarray]) -> dict[str, Any]:
        """Write the baseline's and the variant's take of a clip, if there is a folder."""
        if self.folder is None:
            return {}
        files = {}
        sides = {"baseline": self.baseline, "variant": self.variant}
        for (side, variant), samples in zip(sides.items(), pair, strict=True):
            stem = Path(self.clips[n].name).stem
            files[side] = f"{n + 1:02}-{stem}-seed{seed}-{variant.name}.wav"
            audio.write(self.folder / files[side], Audio(samples, self.config.codec.sample_rate))
        return {"files": files}


def _means(rows: Sequence[Sequence[float]]) -> dict[str, float]:
    """The mean of each of `MEASURES`; nothing of nothing."""
    if not rows:
        return {}
    table = np.array(rows)
    loudness = MEASURES.index("loudness_difference_lu")
    table[:, loudness] = np.abs(table[:, loudness])  # or louder and softer would cancel out
    return dict(zip(MEASURES, table.mean(axis=0).tolist(), strict=True))


def _free_running(rows: list[dict[str, Any]], limit: int, takes: int) -> dict[str, Any]:
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
