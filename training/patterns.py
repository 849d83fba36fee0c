"""Rhythms: drum grooves, bass lines and accompaniments as patterns on a bar of sixteen steps.

A groove is written as one string a voice: `X` loud, `x` normal, `.` soft, `-` silent.
"""

from training.instruments import CLAP, CLOSED, KICK, OPEN, PEDAL, RIDE, RIM, SNARE

VELOCITY = {"X": 118, "x": 98, ".": 60}

GROOVES: dict[str, tuple[dict[int, str], ...]] = {
    "rock": (
        {KICK: "X-------X-------", SNARE: "----X-------X---", CLOSED: "x-x-x-x-x-x-x-x-"},
        {KICK: "X-----x-X-------", SNARE: "----X-------X---", CLOSED: "x.x.x.x.x.x.x.x."},
        {KICK: "X-x---x---x-----", SNARE: "----X-------X---", RIDE: "x---x---x---x---"},
        {KICK: "X---X---X---X---", SNARE: "----X-------X-x-", OPEN: "x---x---x---x---"},
    ),
    "pop": (
        {KICK: "X------xX-------", SNARE: "----X-------X---", CLOSED: "x-.-x-.-x-.-x-.-"},
        {KICK: "X-----x---x-----", CLAP: "----X-------X---", CLOSED: "x.x.x.x.x.x.x.x."},
        {KICK: "X--x--x-X--x----", SNARE: "----X-------X---", CLOSED: "x-x-x-x-x-x-x-x-"},
    ),
    "electronic": (
        {KICK: "X---X---X---X---", CLAP: "----X-------X---", OPEN: "--x---x---x---x-"},
        {KICK: "X---X---X---X---", SNARE: "----X-------X---", CLOSED: "x.x.x.x.x.x.x.x."},
        {KICK: "X-----X---X-----", SNARE: "----X-------X---", CLOSED: "xxx.x.xxx.x.x.x."},
        {KICK: "X--X--X-X--X--X-", CLAP: "----X-------X---", CLOSED: "--x---x---x---x-"},
    ),
    "latin": (
        {KICK: "X--xX--xX--xX--x", RIM: "x--x--x---x--x--", CLOSED: "x.x.x.x.x.x.x.x."},
        {KICK: "X--xX--xX--xX--x", RIM: "--x-x---x--x--x-", CLOSED: "x-.-x-.-x-.-x-.-"},
    ),
    # Twelve steps a bar: triplets.
    "jazz": (
        {RIDE: "x--x-xx--x-x", PEDAL: "---x-----x--", KICK: ".-----.-----"},
        {RIDE: "x--x-xx--x-x", PEDAL: "---x-----x--", SNARE: "-----.-----.", KICK: ".-----------"},
    ),
    "waltz": (
        {KICK: "X-----------", SNARE: "----.---.---", CLOSED: "x---x---x---"},
        {KICK: "X-----------", RIM: "----x---x---", RIDE: "x---x-.-x---"},
    ),
}

# Bass: (step, length in steps, chord degree 0 root / 1 third / 2 fifth / 3 octave).
BASS_LINES: dict[str, tuple[tuple[tuple[int, int, int], ...], ...]] = {
    "eighths": (tuple((step, 2, 0) for step in range(0, 16, 2)),),
    "rock": (
        ((0, 4, 0), (4, 4, 0), (8, 4, 0), (12, 4, 2)),
        ((0, 6, 0), (6, 2, 0), (8, 6, 0), (14, 2, 2)),
        tuple((step, 2, 0) for step in range(0, 16, 2)),
    ),
    "pop": (
        ((0, 6, 0), (6, 2, 0), (8, 4, 2), (12, 4, 0)),
        ((0, 8, 0), (8, 8, 2)),
        ((0, 3, 0), (3, 3, 0), (6, 2, 3), (8, 6, 0), (14, 2, 2)),
    ),
    "electronic": (
        tuple((step + 2, 2, 0) for step in range(0, 16, 4)),
        tuple((step, 2, 3 * (step // 2 % 2)) for step in range(0, 16, 2)),
        ((0, 3, 0), (3, 3, 0), (6, 2, 0), (8, 3, 0), (11, 3, 3), (14, 2, 0)),
    ),
    "latin": (
        ((0, 6, 0), (6, 2, 2), (8, 6, 2), (14, 2, 0)),
        ((0, 4, 0), (6, 2, 2), (8, 4, 2), (14, 2, 0)),
    ),
    "long": (((0, 16, 0),), ((0, 8, 0), (8, 8, 2))),
    "jazz": (
        ((0, 3, 0), (3, 3, 1), (6, 3, 2), (9, 3, 3)),
        ((0, 3, 0), (3, 3, 2), (6, 3, 1), (9, 3, 2)),
    ),
    "waltz": (((0, 12, 0),), ((0, 4, 0), (4, 8, 2))),
}

# Accompaniment: (step, length, which note of the voicing from below; -1 is all of them).
CHORDS: dict[str, tuple[tuple[tuple[int, int, int], ...], ...]] = {
    "sustained": (((0, 16, -1),), ((0, 8, -1), (8, 8, -1))),
    "strummed": (
        ((0, 3, -1), (4, 3, -1), (8, 3, -1), (12, 3, -1)),
        ((0, 4, -1), (4, 2, -1), (6, 2, -1), (10, 2, -1), (12, 2, -1), (14, 2, -1)),
        tuple((step, 2, -1) for step in range(0, 16, 2)),
    ),
    "syncopated": (
        ((0, 3, -1), (3, 3, -1), (6, 2, -1), (10, 2, -1), (12, 4, -1)),
        ((2, 2, -1), (6, 2, -1), (10, 2, -1), (14, 2, -1)),
        ((0, 2, -1), (3, 2, -1), (6, 4, -1), (12, 2, -1)),
    ),
    "broken": (
        tuple((2 * i, 2, (0, 2, 1, 2)[i % 4]) for i in range(8)),
        tuple((2 * i, 2, (0, 1, 2, 3, 2, 1, 2, 1)[i]) for i in range(8)),
    ),
    "arpeggio": (
        tuple((i, 1, (0, 1, 2, 3)[i % 4]) for i in range(16)),
        tuple((2 * i, 2, (0, 1, 2, 3)[i % 4]) for i in range(8)),
        tuple((i, 1, (0, 2, 1, 3, 2, 1)[i % 6]) for i in range(16)),
    ),
    "jazz": (((0, 4, -1), (5, 3, -1)), ((2, 4, -1), (8, 3, -1)), ((0, 6, -1), (11, 3, -1))),
    "waltz": (((4, 3, -1), (8, 3, -1)), tuple((2 * i, 2, (0, 1, 2, 3, 2, 1)[i]) for i in range(6))),
    "waltz sustained": (((0, 12, -1),),),
}

# Melody rhythms of one bar: (step, length), by steps a bar.
MELODIES: dict[int, tuple[tuple[tuple[int, int], ...], ...]] = {
    16: (
        ((0, 4), (4, 4), (8, 4), (12, 4)),
        ((0, 6), (6, 2), (8, 8)),
        ((0, 4), (4, 2), (6, 2), (8, 4), (12, 4)),
        ((0, 2), (2, 2), (4, 4), (8, 2), (10, 2), (12, 4)),
        ((0, 8), (8, 4), (12, 2), (14, 2)),
        ((2, 2), (4, 2), (6, 4), (10, 2), (12, 4)),
        ((0, 3), (3, 3), (6, 2), (8, 8)),
        ((0, 16),),
        ((0, 12), (12, 4)),
    ),
    12: (
        ((0, 4), (4, 4), (8, 4)),
        ((0, 8), (8, 4)),
        ((0, 12),),
        ((0, 2), (2, 2), (4, 4), (8, 4)),
        ((0, 6), (6, 2), (8, 4)),
    ),
    # Twelve steps as swung eighths: on the beat and on its last third.
    -12: (
        ((0, 2), (2, 1), (3, 2), (5, 4), (9, 3)),
        ((0, 3), (3, 2), (5, 1), (6, 6)),
        ((2, 1), (3, 2), (5, 1), (6, 2), (8, 1), (9, 3)),
        ((0, 5), (5, 1), (6, 5), (11, 1)),
        ((0, 12),),
    ),
}
