"""The instruments: which General MIDI programs stand for which words of the text."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """A General MIDI program, the words that name it, and its range.

    `level` is the MIDI channel volume (0..127) that puts it beside the others.
    """

    program: int
    tag: str
    low: int
    high: int
    level: int = 96


def _all(programs: dict[int, int], tag: str, low: int, high: int) -> list[Instrument]:
    return [Instrument(program, tag, low, high, level) for program, level in programs.items()]


FAMILIES: dict[str, list[Instrument]] = {
    "piano": _all({0: 104, 1: 98}, "piano", 33, 96),
    "electric piano": _all({4: 104, 5: 98}, "electric piano", 36, 92),
    "organ": _all({16: 84, 18: 80, 19: 84}, "organ", 36, 88),
    "acoustic guitar": _all({24: 112, 25: 106}, "acoustic guitar", 40, 80),
    "electric guitar": _all({27: 104, 29: 82, 30: 76}, "electric guitar", 40, 84),
    "bass": _all({32: 116, 33: 112, 34: 106}, "bass", 28, 52),
    "synth bass": _all({38: 104, 39: 100}, "bass", 28, 50),
    "strings": _all({48: 94, 49: 96}, "strings", 36, 90),
    "pizzicato": _all({45: 112}, "strings", 36, 86),
    "violin": _all({40: 96}, "violin", 55, 96),
    "cello": _all({42: 104}, "cello", 36, 72),
    "choir": _all({52: 90}, "choir", 48, 79),
    "trumpet": _all({56: 88}, "trumpet", 55, 82),
    "brass": _all({60: 96, 61: 84}, "brass", 41, 77),
    "saxophone": _all({65: 92, 66: 92}, "saxophone", 50, 80),
    "flute": _all({73: 98, 74: 98}, "flute", 60, 94),
    "synth": _all({80: 74, 81: 72, 90: 84}, "synth", 40, 90),
    "pad": _all({89: 92, 50: 84}, "pad", 40, 84),
    "vibraphone": _all({11: 110}, "vibraphone", 53, 88),
    "bells": _all({9: 90, 10: 108, 8: 102}, "bells", 60, 96),
    "harp": _all({46: 112}, "harp", 36, 92),
}

# Drum kits are programs of bank 128 on their own channel.
KITS = {"rock": (0, 8, 16), "pop": (0, 8, 24), "jazz": (32, 40), "electronic": (24, 25)}

KICK, RIM, SNARE, CLAP = 36, 37, 38, 39
CLOSED, PEDAL, OPEN, RIDE, CRASH = 42, 44, 46, 51, 49
TOM_LOW, TOM_MID, TOM_HIGH = 45, 47, 50
