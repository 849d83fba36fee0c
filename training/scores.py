"""Scores by rule: a seed becomes a piece with a key, a tempo, a form and parts that fit."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from training.instruments import (
    CRASH,
    FAMILIES,
    KITS,
    SNARE,
    TOM_HIGH,
    TOM_LOW,
    TOM_MID,
    Instrument,
)
from training.patterns import BASS_LINES, CHORDS, GROOVES, MELODIES, VELOCITY
from training.theory import JAZZ_PROGRESSIONS, PROGRESSIONS, Key, voicing

Rng = np.random.Generator


@dataclass(frozen=True)
class Style:
    """What a genre allows: tempo range (beats a minute), and families for each role."""

    tempo: tuple[int, int]
    drums: str | None
    groove: str
    bass: tuple[str, ...]
    bass_line: str
    chords: tuple[str, ...]
    chord_patterns: tuple[str, ...]
    melody: tuple[str, ...]
    pad: tuple[str, ...] = ()
    drums_chance: float = 1.0
    chord_size: int = 3
    steps: int = 16
    swing: bool = False

    def role(self, name: str) -> tuple[str, ...]:
        """The families that may play `bass`, `chords`, `pad` or `melody`."""
        families: tuple[str, ...] = getattr(self, name)
        return families


STYLES: dict[str, Style] = {
    "rock": Style(
        (92, 168), "rock", "rock", ("bass",), "rock", ("electric guitar",),
        ("strummed", "sustained"), ("electric guitar", "organ", "saxophone"), ("organ",),
    ),
    "pop": Style(
        (72, 136), "pop", "pop", ("bass", "synth bass"), "pop",
        ("piano", "electric piano", "acoustic guitar"), ("syncopated", "broken", "strummed"),
        ("synth", "flute", "piano", "violin", "trumpet"), ("strings", "pad"),
    ),
    "jazz": Style(
        (84, 176), "jazz", "jazz", ("bass",), "jazz", ("piano", "electric piano", "vibraphone"),
        ("jazz",), ("saxophone", "trumpet", "vibraphone", "piano"), (), 0.8, 4, 12, True,
    ),
    "classical": Style(
        (60, 144), None, "pop", (), "long", ("piano",), ("broken", "arpeggio"),
        ("piano",), (), 0.0,
    ),
    "waltz": Style(
        (84, 168), "pop", "waltz", ("bass", "cello"), "waltz", ("piano", "acoustic guitar", "harp"),
        ("waltz",), ("violin", "flute", "piano"), ("strings",), 0.35, 3, 12,
    ),
    "orchestral": Style(
        (60, 120), None, "pop", ("cello",), "long", ("strings", "pizzicato", "harp"),
        ("sustained", "arpeggio", "broken"), ("violin", "flute", "brass", "trumpet"),
        ("brass", "choir", "strings"), 0.0,
    ),
    "electronic": Style(
        (100, 150), "electronic", "electronic", ("synth bass",), "electronic",
        ("synth", "electric piano"), ("arpeggio", "syncopated"), ("synth", "bells"), ("pad",),
    ),
    "folk": Style(
        (76, 140), "pop", "pop", ("bass",), "pop", ("acoustic guitar",),
        ("strummed", "broken"), ("flute", "violin", "acoustic guitar"), (), 0.25,
    ),
    "latin": Style(
        (92, 140), "pop", "latin", ("bass",), "latin", ("acoustic guitar", "piano"),
        ("syncopated",), ("flute", "trumpet", "saxophone", "vibraphone"), (), 0.9, 4,
    ),
    "ambient": Style(
        (60, 92), None, "pop", ("synth bass", "cello"), "long", ("pad", "choir", "strings"),
        ("sustained",), ("bells", "electric piano", "harp", "piano"), ("strings", "pad"), 0.0,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Note:
    """A note on one channel: start and length in seconds, MIDI pitch and velocity."""

    channel: int
    start: float
    length: float
    pitch: int
    velocity: int


@dataclass
class Score:
    """A piece: its notes, the instrument of each channel, and the words that describe it.

    `bar` is the length of a bar in seconds, `roots` the pitch class of every bar's chord.
    """

    genre: str
    key: Key
    bpm: float
    kit: int | None
    instruments: list[Instrument] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    bar: float = 0.0
    roots: list[int] = field(default_factory=list)

    @property
    def tempo_word(self) -> str:
        """One of slow (under 88 bpm), medium, fast (124 bpm and more)."""
        return "slow" if self.bpm < 88 else "medium" if self.bpm < 124 else "fast"

    @property
    def tags(self) -> list[str]:
        """Every word or pair of words that is true of the piece."""
        names = dict.fromkeys(instrument.tag for instrument in self.instruments)
        drums = "drums" if self.kit is not None else "no drums"
        return [self.genre, drums, *names, self.tempo_word, self.key.mode]


DRUM_CHANNEL = 9


# A part's role, and how often a piece has it where its style allows it.
ROLES = {"bass": 0.92, "chords": 1.0, "pad": 0.4, "melody": 0.85}


def compose(rng: Rng, seconds: float, balanced: bool = False) -> Score:
    """A piece of at least `seconds`, with everything about it drawn from `rng`.

    Left to itself, a saxophone plays in one piece of fourteen. With `balanced`, half of the pieces
    are written around an instrument that is drawn first, each as often as any other.
    """
    if balanced and rng.random() < 0.5:
        family = str(rng.choice(list(FAMILIES)))
        chances = [(g, r) for g, style in STYLES.items() for r in ROLES if family in style.role(r)]
        genre, role = chances[int(rng.integers(len(chances)))]
        return _Composer(rng, genre, seconds, {role: family}).score
    genre = str(rng.choice(list(STYLES)))
    return _Composer(rng, genre, seconds).score


class _Composer:
    """Draws the shared decisions once (key, form, patterns), then writes part after part."""

    def __init__(self, rng: Rng, genre: str, seconds: float, wanted: dict[str, str] | None = None):
        self.rng, self.style, self.wanted = rng, STYLES[genre], wanted or {}
        mode = "minor" if rng.random() < 0.5 else "major"
        key = Key(int(rng.integers(12)), mode)
        bpm = float(np.round(rng.uniform(*self.style.tempo)))
        drums = self.style.drums is not None and rng.random() < self.style.drums_chance
        kit = int(rng.choice(KITS[self.style.drums])) if drums and self.style.drums else None
        self.score = Score(genre, key, bpm, kit)

        waltz = self.style.steps == 12 and not self.style.swing
        self.bar = (3 if waltz else 4) * 60.0 / bpm
        self.step = self.bar / self.style.steps
        self.dynamic = float(rng.uniform(-10.0, 16.0))  # how hard everybody plays
        self.bars = int(np.ceil(seconds / self.bar)) + 1
        table = JAZZ_PROGRESSIONS if self.style.swing else PROGRESSIONS
        verse, bridge = (self._pick(table[mode]) for _ in range(2))
        # Eight bars of one progression, four to eight of another, and so on.
        form = (list(verse) * 2)[:8] + (list(bridge) * 2)[: int(rng.choice([4, 8]))]
        if rng.random() < 0.5:
            form = list(verse)
        self.degrees = [form[bar % len(form)] for bar in range(self.bars)]
        self.score.bar = self.bar
        self.score.roots = [key.chord(degree)[0] for degree in self.degrees]
        self._write()

    def _pick(self, options: Sequence):
        return options[int(self.rng.integers(len(options)))]

    def _write(self) -> None:
        style = self.style
        if self.score.kit is not None:
            self._drums()
        if style.bass and self._has("bass"):
            self._bass(self._channel("bass"))
        self._chords(self._channel("chords"), self._pick(style.chord_patterns), 60)
        if style.pad and self._has("pad"):
            slow = "waltz sustained" if style.steps == 12 else "sustained"
            self._chords(self._channel("pad"), slow, 64, velocity=62)
        if self._has("melody"):
            self._melody(self._channel("melody"))
        if not style.bass:  # a piano alone plays its own bass
            self._bass(0)

    def _has(self, role: str) -> bool:
        drawn = self.rng.random() < ROLES[role]
        return drawn or role in self.wanted

    def _channel(self, role: str) -> int:
        """Gives a part an instrument; returns its MIDI channel (never the drums')."""
        family = self.wanted.get(role) or self._pick(self.style.role(role))
        self.score.instruments.append(self._pick(FAMILIES[family]))
        return len(self.score.instruments) - 1

    def _note(self, channel: int, step: float, length: float, pitch: int, velocity: float) -> None:
        """Adds a note at a step of the whole piece, a few milliseconds from the exact time."""
        start = max(0.0, step * self.step + self.rng.normal(0.0, 0.003))
        loud = int(np.clip(velocity + self.dynamic + self.rng.normal(0.0, 4.0), 20, 127))
        if channel != DRUM_CHANNEL:
            instrument = self.score.instruments[channel]
            while pitch < instrument.low:
                pitch += 12
            while pitch > instrument.high:
                pitch -= 12
        self.score.notes.append(Note(channel, start, length * self.step * 0.95, pitch, loud))

    def _drums(self) -> None:
        groove = self._pick(GROOVES[self.style.groove])
        fills = self.rng.random() < 0.5
        for bar in range(self.bars):
            fill = fills and bar % 4 == 3
            first = bar * self.style.steps
            for voice, line in groove.items():
                for step, mark in enumerate(line[: self.style.steps]):
                    if mark == "-" or (fill and step >= self.style.steps * 3 // 4):
                        continue
                    self._note(DRUM_CHANNEL, first + step, 1, voice, VELOCITY[mark])
            if fill:
                quarter = self.style.steps // 4
                for i in range(quarter):
                    tom = (SNARE, TOM_HIGH, TOM_MID, TOM_LOW)[i * 4 // quarter]
                    step = first + 3 * quarter + i
                    self._note(DRUM_CHANNEL, step, 1, tom, 100 + 4 * i)
            if fills and bar % 8 == 0:
                self._note(DRUM_CHANNEL, first, 4, CRASH, 100)

    def _bass(self, channel: int) -> None:
        line = self._pick(BASS_LINES[self.style.bass_line])
        for bar, degree in enumerate(self.degrees):
            root, third, fifth = self.score.key.chord(degree)[:3]
            low = 36 + (root - 36 + 5) % 12 - 5  # the root nearest to C2
            tones = (low, low + (third - root) % 12, low + (fifth - root) % 12, low + 12)
            for step, length, tone in line:
                self._note(channel, bar * self.style.steps + step, length, tones[tone], 96)

    def _chords(self, channel: int, pattern: str, near: int, velocity: float = 78) -> None:
        line = self._pick(CHORDS[pattern])
        for bar, degree in enumerate(self.degrees):
            notes = voicing(self.score.key.chord(degree, self.style.chord_size), near)
            ladder = [*notes, notes[0] + 12]
            for step, length, which in line:
                for pitch in notes if which < 0 else [ladder[which]]:
                    accent = 8 if step == 0 else 0
                    start = bar * self.style.steps + step
                    self._note(channel, start, length, pitch, velocity + accent)

    def _melody(self, channel: int) -> None:
        """A motif of two bars that comes back, its notes moved onto each bar's chord."""
        rng, key = self.rng, self.score.key
        rhythms = MELODIES[-12 if self.style.swing else self.style.steps]
        motif = [self._pick(rhythms) for _ in range(2)]
        answer = [motif[0], self._pick(rhythms)]
        shape = rng.integers(-2, 3, size=(4, 8))
        octave = 5 if self.score.instruments[channel].high > 80 else 4
        rests = rng.random() < 0.3
        degree = int(rng.integers(0, 5))
        for bar, root in enumerate(self.degrees):
            if rests and bar % 8 >= 6:
                continue
            phrase = (motif if bar % 4 < 2 else answer)[bar % 2]
            for i, (step, length) in enumerate(phrase):
                if i == 0:  # a chord tone on the first beat, the one nearest to where we are
                    tones = [root + 2 * k + 7 * up for k in range(3) for up in (-2, -1, 0, 1)]
                    degree = min(tones, key=lambda tone: abs(tone - degree))
                else:
                    degree += int(shape[bar % 4, i % 8])
                    degree = int(np.clip(degree, -3, 9))
                start = bar * self.style.steps + step
                pitch = key.pitch(degree, octave)
                if key.mode == "minor" and root % 7 == 4 and degree % 7 == 6:
                    pitch += 1  # the leading note over the dominant
                self._note(channel, start, length, pitch, 92)
