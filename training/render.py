"""Plays scores with a soundfont into shards of 40 clips of 30 s: `python -m training.render`.

`--seconds` makes shorter clips, where only the beginning is listened to or played on from.

A shard is `NAME_0000.npy`, int16 (clips, samples) at 32 kHz mono, and `NAME_0000.json` with what is
known of each clip; each process renders a shard of its own, or all share the only one. Everything
follows from the split's name, the shard's number and the clip's number, so that the same command
makes the same audio anywhere.
"""

import argparse
import json
import multiprocessing
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soxr
import tinysoundfont

from training.effects import RATE, mix
from training.scores import DRUM_CHANNEL, Score, compose

# The synthesizer runs faster than the clips. It sets its low-pass filters anew every 64 samples,
# to cutoffs of up to 19.9 kHz; where that lies beyond half the rate, a filter that opens (the
# trumpet's at every note) comes to the edge of stability and rings at half the rate, up to -4 dB.
SYNTH_RATE = 48_000
CLIP_SECONDS = 30
CLIPS = 40
# Each draws from seeds of its own. `ear` is for the classifier that the figures listen with,
# `judge` for what quantizations are judged on: nothing is ever trained or calibrated on it;
# `prompts` for what reinforcement plays on.
SPLITS = {"train": 1, "heldout": 2, "ear": 3, "judge": 4, "prompts": 5}
BALANCED = ("train", "ear")
SOUNDFONT = Path("/usr/share/sounds/sf3/MuseScore_General_Lite.sf3")


class Player:
    """A synthesizer with the soundfont loaded (seconds): one a process."""

    def __init__(self, soundfont: Path):
        self.synth = tinysoundfont.Synth(gain=-6, samplerate=SYNTH_RATE)
        self.font = self.synth.sfload(str(soundfont))

    def play(self, score: Score, seconds: float) -> np.ndarray:
        """The score's first seconds, (samples,) float32 mono."""
        synth = self.synth
        synth.sounds_off()
        for channel, instrument in enumerate(score.instruments):
            synth.program_select(channel, self.font, 0, instrument.program)
            synth.control_change(channel, 7, instrument.level)
        if score.kit is not None:
            synth.program_select(DRUM_CHANNEL, self.font, 128, score.kit, True)
            synth.control_change(DRUM_CHANNEL, 7, 100)
        events = []
        for note in score.notes:
            events.append((note.start, 1, note))
            events.append((note.start + note.length, 0, note))
        events.sort(key=lambda event: event[:2])
        pieces, now = [], 0
        length = int(seconds * SYNTH_RATE)
        for when, on, note in events:
            sample = min(int(when * SYNTH_RATE), length)
            if sample > now:
                pieces.append(self._generate(sample - now))
                now = sample
            if on:
                synth.noteon(note.channel, note.pitch, note.velocity)
            else:
                synth.noteoff(note.channel, note.pitch)
        if now < length:
            pieces.append(self._generate(length - now))
        synth.sounds_off()
        return soxr.resample(np.concatenate(pieces), SYNTH_RATE, RATE)[: int(seconds * RATE)]

    def _generate(self, samples: int) -> np.ndarray:
        stereo = np.frombuffer(bytes(self.synth.generate(samples)), dtype=np.float32)
        return stereo.reshape(-1, 2).mean(axis=1)


def clip(
    player: Player, split: str, shard: int, number: int, seconds: int = CLIP_SECONDS
) -> tuple[np.ndarray, dict]:
    """One clip, int16 (samples,), and what is known of it.

    It begins at a random moment of the piece's first bars: a prompt need not start on the beat.
    """
    rng = np.random.default_rng([SPLITS[split], shard, number])
    skip = float(rng.uniform(0.0, 2.5))
    score = compose(rng, seconds + skip, balanced=split in BALANCED)
    audio = player.play(score, seconds + skip)[-seconds * RATE :]
    audio = mix(rng, audio)
    facts = {"tags": score.tags, "bpm": score.bpm, **asdict(score.key), "genre": score.genre}
    facts |= {"skip": skip, "bar": score.bar, "roots": score.roots}
    return np.round(audio * 32767).astype(np.int16), facts


_player: Player | None = None


def _start(soundfont: Path) -> None:
    global _player
    _player = Player(soundfont)


def _clip(job: tuple[str, int, int, int]) -> tuple[np.ndarray, dict]:
    assert _player is not None
    return clip(_player, *job)


def _shard(job: tuple[Path, str, int, int, int]) -> str:
    folder, split, shard, clips, seconds = job
    found = [_clip((split, shard, number, seconds)) for number in range(clips)]
    return write(folder, split, shard, found)


def write(folder: Path, split: str, shard: int, found: list[tuple[np.ndarray, dict]]) -> str:
    """Writes one shard's clips, whole or not at all; its name."""
    name = folder / f"{split}_{shard:04d}"
    name.with_suffix(".json").write_text(json.dumps([facts for _, facts in found]))
    part = name.with_suffix(".part.npy")
    np.save(part, np.stack([audio for audio, _ in found]))
    part.rename(name.with_suffix(".npy"))
    return name.name


def main() -> None:
    """Renders shards `first` to `first + shards - 1` that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--clips", type=int, default=CLIPS, help="clips a shard")
    parser.add_argument("--seconds", type=int, default=CLIP_SECONDS, help="of each clip")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--soundfont", type=Path, default=SOUNDFONT)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    begun = time.time()
    there = {path.name.split(".")[0] for path in args.out.glob(f"{args.split}_*.npy")}
    numbers = range(args.first, args.first + args.shards)
    jobs = [
        (args.out, args.split, number, args.clips, args.seconds)
        for number in numbers
        if f"{args.split}_{number:04d}" not in there
    ]
    with multiprocessing.Pool(args.workers, _start, (args.soundfont,)) as pool:
        if len(jobs) == 1:  # all processes share it
            folder, split, shard, clips, seconds = jobs[0]
            clip_jobs = [(split, shard, number, seconds) for number in range(clips)]
            found = pool.map(_clip, clip_jobs, 1)
            print(f"{write(folder, split, shard, found)}: {time.time() - begun:.0f} s")
            return
        for name in pool.imap_unordered(_shard, jobs):
            print(f"{name}: {time.time() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
