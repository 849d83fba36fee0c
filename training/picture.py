"""Pictures to look at while training: `python -m training.picture`.

For some held-out clips, spectrograms of the original, of the codec's copy and of a continuation,
the join marked.
"""

import argparse
from pathlib import Path

import librosa
import matplotlib as mpl
import numpy as np
import torch

from training import dataset
from training.continuations import PROMPT_FRAMES
from training.render import RATE
from training.tokens import load_codec

mpl.use("Agg")
from matplotlib import pyplot as plt


def spectrogram(axes: plt.Axes, audio: np.ndarray, title: str) -> None:
    """Decibels over time and frequency, up to 8 kHz."""
    db = librosa.amplitude_to_db(np.abs(librosa.stft(audio, n_fft=2048, hop_length=512)), ref=1.0)
    span = (0, len(audio) / RATE, 0, RATE / 2)
    axes.imshow(db, origin="lower", aspect="auto", vmin=-60, vmax=30, extent=span)
    axes.set_ylim(0, 8000)
    axes.set_title(title, fontsize=8)


def main() -> None:
    """Draws one row a clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--seconds", type=float, default=18.0)
    args = parser.parse_args()
    codec = load_codec(args.state, torch.device("cpu"))
    paths = dataset.shards(args.data, "heldout", 1)
    clips, facts = np.load(paths[0], mmap_mode="r"), dataset.facts(paths)
    samples = int(args.seconds * RATE) // 640 * 640
    made = args.state / "continuations.npz"
    continued = np.load(made)["continued"] if made.exists() else None
    _, axes = plt.subplots(len(args.clips), 3, figsize=(26, 4.5 * len(args.clips)), squeeze=False)
    for row, number in zip(axes, args.clips, strict=True):
        audio = clips[number, :samples].astype(np.float32) / 32768
        spectrogram(row[0], audio, " ".join(facts[number]["tags"]))
        copy = codec.decode(codec.encode(torch.from_numpy(audio)[None]))[0].numpy()
        spectrogram(row[1], copy, "codec")
        if continued is not None and number < len(continued):
            codes = torch.from_numpy(continued[number : number + 1, :, : samples // 640])
            spectrogram(row[2], codec.decode(codes.long())[0].numpy(), "continuation")
            row[2].axvline(PROMPT_FRAMES / 50, color="white")
    plt.tight_layout()
    plt.savefig(args.out, dpi=60)


if __name__ == "__main__":
    main()
