"""Compare trackers of beats on pieces whose beats are known: `python -m benchmarks.beats DATA`.

DATA holds a shard of `training.render`, such as `heldout_0000`. A tracker that is not installed is
left out: `segue[beats]` brings madmom-infer; librosa, essentia, aubio-ledfx and madmom are for this
comparison alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from segue import beats
from segue.audio import from_array, resample

RATE = 32_000
TOLERANCE_SECONDS = 0.07
"""Within which a beat is found, as the field counts (S. Dixon, 2007)."""

Found = tuple[np.ndarray, np.ndarray]
NONE = np.zeros(0)


def infer(samples: np.ndarray) -> Found:
    """madmom-infer, as segue uses it."""
    found = beats.track(from_array(samples, RATE))
    return found.times, found.times[found.counts == 1]


def madmom(samples: np.ndarray) -> Found:
    """Madmom itself, whose networks madmom-infer runs."""
    from madmom.audio.signal import Signal
    from madmom.features.downbeats import DBNDownBeatTrackingProcessor, RNNDownBeatProcessor

    heard = Signal(resampled(samples, 44_100), 44_100, num_channels=1)
    decoder = DBNDownBeatTrackingProcessor(beats_per_bar=[3, 4], fps=100)
    found = decoder(RNNDownBeatProcessor()(heard))
    return found[:, 0], found[found[:, 1] == 1, 0]


def librosa(samples: np.ndarray) -> Found:
    """Librosa's dynamic programming; it knows no downbeats."""
    from librosa import beat, onset

    heard = resampled(samples, 22_050)
    strength = onset.onset_strength(y=heard, sr=22_050, hop_length=256, aggregate=np.median)
    _, found = beat.beat_track(
        onset_envelope=strength, sr=22_050, hop_length=256, units="time", trim=False
    )
    return found, NONE


def essentia(samples: np.ndarray) -> Found:
    """Essentia's RhythmExtractor2013; it knows no downbeats."""
    from essentia import standard

    extractor = standard.RhythmExtractor2013(method="multifeature")
    return np.array(extractor(resampled(samples, 44_100))[1]), NONE


def aubio(samples: np.ndarray) -> Found:
    """Aubio's tempo; it knows no downbeats."""
    from aubio import tempo

    heard, tracker, found = resampled(samples, 44_100), tempo("default", 1024, 512, 44_100), []
    for start in range(0, len(heard) - 512, 512):
        if tracker(heard[start : start + 512]):
            found.append(tracker.get_last_s())
    return np.array(found), NONE


TRACKERS: dict[str, Callable[[np.ndarray], Found]] = {
    each.__name__: each for each in (infer, madmom, librosa, essentia, aubio)
}


def resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples `(T,)` at another rate."""
    return resample(samples[:, None], RATE, rate)[:, 0]


def truth(facts: dict[str, Any], seconds: float) -> Found:
    """Beats and downbeats of a clip; `skip` is what of the piece lies before it."""
    found = []
    for step in (60 / facts["bpm"], facts["bar"]):
        times = np.arange(int((seconds + 5) / step) + 2) * step - facts["skip"]
        found.append(times[(times >= 0) & (times < seconds)])
    return found[0], found[1]


def f_measure(found: np.ndarray, known: np.ndarray) -> float:
    """Harmonic mean of precision and recall; a beat counts once."""
    left, hits = list(found), 0
    for time_ in known:
        near = min(left, key=lambda each: abs(each - time_), default=None)
        if near is not None and abs(near - time_) <= TOLERANCE_SECONDS:
            left.remove(near)
            hits += 1
    return 2 * hits / max(1, len(found) + len(known))


def main() -> None:
    """Print a line for each tracker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--only", choices=TRACKERS, action="append")
    options = parser.parse_args()
    clips = np.load(options.data / "heldout_0000.npy", mmap_mode="r")[: options.clips]
    facts = json.loads((options.data / "heldout_0000.json").read_text())
    for name in options.only or TRACKERS:
        rows, errors, began = [], list[float](), time.process_time()
        try:
            for clip, about in zip(clips, facts, strict=False):
                samples = clip[: round(options.seconds * RATE)].astype(np.float32) / 32768
                known, known_down = truth(about, options.seconds)
                found, down = TRACKERS[name](samples)
                tempo = 60 / np.median(np.diff(found)) if len(found) > 2 else 0.0
                score = f_measure(found, known)
                rows.append(
                    (score, f_measure(down, known_down), abs(tempo / about["bpm"] - 1) < 0.04)
                )
                if score > 0.9:
                    errors += [float(np.abs(known - each).min()) for each in found]
        except ImportError as error:
            print(f"{name}: not installed ({error})")
            continue
        score, downbeats, right = np.mean(np.array(rows, float), axis=0)
        median = 1000 * np.median(errors) if errors else np.nan
        print(
            f"{name}: F of beats {score:.2f}, of downbeats {downbeats:.2f}, tempo right "
            f"{right:.0%}, off by {median:.0f} ms in the median where F > 0.9; "
            f"{(time.process_time() - began) / len(rows):.1f} s of CPU a clip",
            flush=True,
        )


if __name__ == "__main__":
    main()
