"""Scales, chords, progressions, key profiles: the little harmony that is needed here."""

from dataclasses import dataclass

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
}

# Krumhansl and Kessler's probe-tone profiles: how well each pitch class fits a key, tonic first.
PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}

# Progressions as scale degrees (0 = tonic), one chord a bar, four or eight bars, then again.
PROGRESSIONS = {
    "major": (
        (0, 4, 5, 3),
        (0, 5, 3, 4),
        (0, 3, 4, 0),
        (5, 3, 0, 4),
        (0, 3, 0, 4),
        (0, 1, 4, 0),
        (0, 2, 3, 4),
        (0, 4, 5, 2, 3, 0, 3, 4),
        (0, 0, 3, 3, 4, 3, 0, 4),
    ),
    "minor": (
        (0, 5, 2, 6),
        (0, 3, 4, 0),
        (0, 6, 5, 4),
        (0, 5, 3, 4),
        (0, 3, 6, 2),
        (0, 2, 6, 3),
        (0, 0, 5, 4),
        (0, 6, 5, 6, 0, 3, 4, 4),
        (0, 3, 6, 2, 5, 1, 4, 0),
    ),
}

JAZZ_PROGRESSIONS = {
    "major": ((1, 4, 0, 0), (0, 5, 1, 4), (2, 5, 1, 4), (0, 3, 2, 5, 1, 4, 0, 4)),
    "minor": ((1, 4, 0, 0), (0, 3, 1, 4), (0, 5, 1, 4), (3, 6, 2, 5, 1, 4, 0, 0)),
}


@dataclass(frozen=True)
class Key:
    """A tonic (pitch class, 0 = C) and a mode."""

    tonic: int
    mode: str

    def pitch(self, degree: int, octave: int) -> int:
        """MIDI note of a scale degree; degrees outside 0..6 move on through the octaves."""
        up, step = divmod(degree, 7)
        return 12 * (octave + 1 + up) + self.tonic + SCALES[self.mode][step]

    def chord(self, degree: int, size: int = 3) -> list[int]:
        """Pitch classes of the chord of stacked thirds on a degree.

        The dominant of a minor key gets its major third (harmonic minor), as ears expect.
        """
        tones = [self.pitch(degree + 2 * i, 0) % 12 for i in range(size)]
        if self.mode == "minor" and degree % 7 == 4:
            tones[1] = (tones[1] + 1) % 12
        return tones


def voicing(tones: list[int], near: int) -> list[int]:
    """MIDI notes of the pitch classes, each put at its octave nearest to the note `near`."""
    return sorted(near + (tone - near + 6) % 12 - 6 for tone in tones)
