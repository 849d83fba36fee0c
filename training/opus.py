"""Opus at its lowest rate, the yardstick: through `opusenc` and `opusdec`."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 32_000


def available() -> bool:
    """Whether the two commands (Debian: opus-tools) are here."""
    return bool(shutil.which("opusenc") and shutil.which("opusdec"))


def through(audio: np.ndarray, kbits: float = 6.0) -> np.ndarray:
    """Audio (samples,) float32 at 32 kHz, encoded at `kbits` and decoded again."""
    with tempfile.TemporaryDirectory() as folder:
        wav, small, back = (Path(folder) / name for name in ("a.wav", "a.opus", "b.wav"))
        soundfile.write(wav, audio, RATE)
        command = ["opusenc", "--quiet", "--bitrate", str(kbits), "--music", wav, small]
        subprocess.run(command, check=True)  # noqa: S603 - paths of our own
        command = ["opusdec", "--quiet", "--rate", "48000", small, back]
        subprocess.run(command, check=True)  # noqa: S603
        found, rate = soundfile.read(back, dtype="float32")
    found = soxr.resample(found, rate, RATE)
    found = np.pad(found, (0, max(0, len(audio) - len(found))))
    return found[: len(audio)].astype(np.float32)
