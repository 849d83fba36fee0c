"""Read a configuration file field by field: each is read, fixed, or without effect.

A configuration is untrusted.  A field is read as its type only: a string "false" would count as
true.  What changes the arithmetic and is not implemented is refused by name.
`hugging_face_fields` and `audiocraft_fields` hold the tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import CheckpointError

Json = Mapping[str, Any]
"""A table of a configuration, as it was parsed."""

LARGEST = 1 << 20
"""The largest size or number in a configuration; vocabularies are the largest, of 32,128."""


class IncompleteConfigError(CheckpointError):
    """A configuration that lacks a required field."""


@dataclass(frozen=True)
class Kind:
    """A type of values.

    Attributes:
        words: a description of such a value, for a message.
        convert: converts a value to this type; raises ValueError if it cannot.
    """

    words: str
    convert: Callable[[Any], Any]


@dataclass(frozen=True)
class Read:
    """A field that segue implements.

    Attributes:
        kind: the type of its values.
        default: its value where it is absent; `REQUIRED` if it must not be.
        name: the name of the attribute that it sets; the field's own name if empty.
    """

    kind: Kind
    default: Any
    name: str = ""


@dataclass(frozen=True)
class Only:
    """A field that changes what a model computes, of which segue implements some values.

    Attributes:
        values: those; the first is what an absent field means.
        why: what the field does, for a message.
    """

    values: tuple[Any, ...]
    why: str


@dataclass(frozen=True)
class Same:
    """Another name of a field, which must have the same value where it is present.

    Attributes:
        field: the field's name in the same table.
    """

    field: str


@dataclass(frozen=True)
class NoEffect:
    """A field that changes nothing of what segue computes.

    Attributes:
        why: the reason.
    """

    why: str


Field = Read | Only | Same | NoEffect
Fields = Mapping[str, Field]

REQUIRED: Any = object()


def read_fields(
    section: Any, fields: Fields, where: str = "", *, closed: bool = False
) -> dict[str, Any]:
    """Read the `Read` fields of `section`.

    Args:
        section: a table of a configuration, as it was parsed.
        fields: how each of its fields is treated.
        where: its dotted name, for messages.
        closed: whether a field that is not among `fields` is refused.  AudioCraft passes whole
            tables to constructors, which refuse it too; transformers ignores it.

    Returns:
        The values by the names of their attributes.

    Raises:
        IncompleteConfigError: a required field is absent.
        CheckpointError: a value has the wrong type, or is one that segue does not implement; the
            line has the field's dotted name and the value.
    """
    if section is None and where:
        raise IncompleteConfigError(f"it lacks {where!r}")
    if not isinstance(section, Mapping):
        raise IncompleteConfigError(f"{where or 'it'} is {shown(section)}, not a table of fields")
    prefix = f"{where}." if where else ""
    if closed:
        for name in section:
            if name not in fields:
                raise CheckpointError(
                    f"{prefix}{name} is a field that segue does not know, and may change what the "
                    "model computes"
                )
    values: dict[str, Any] = {}
    missing = ""
    for name, field in fields.items():
        if isinstance(field, Only) and name in section:
            _check_only(section[name], field, f"{prefix}{name}")
        elif isinstance(field, Read):
            if name in section:
                values[field.name or name] = _converted(section[name], field.kind, prefix + name)
            elif field.default is REQUIRED:
                missing = missing or name
            else:
                values[field.name or name] = field.default
    for name, field in fields.items():
        if isinstance(field, Same) and section.get(name) is not None:
            original = fields[field.field]
            attribute = getattr(original, "name", "") or field.field
            if not _same(section[name], values[attribute]):
                raise CheckpointError(
                    f"{prefix}{name} is {shown(section[name])} and {prefix}{field.field} "
                    f"{shown(values[attribute])}, which are two names of one size"
                )
    if missing:
        raise IncompleteConfigError(f"{where or 'it'} lacks {missing!r}")
    return values


def _check_only(value: Any, field: Only, name: str) -> None:
    # To both libraries an unset flag is null.
    unset = value is None and field.values[0] in (False, None)
    if not unset and not any(_same(value, allowed) for allowed in field.values):
        runs = " and ".join(shown(v) for v in field.values if v is not None) or "null"
        raise CheckpointError(f"{name} is {shown(value)}: {field.why}; segue runs {runs} alone")


def _converted(value: Any, kind: Kind, name: str) -> Any:
    try:
        return kind.convert(value)
    except ValueError:
        raise CheckpointError(f"{name} is {shown(value)}, not {kind.words}") from None


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return set(one) == set(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def shown(value: Any) -> str:
    """Show a value out of a file, shortened to fit into one line."""
    if isinstance(value, Mapping):
        return "a table"
    text = repr(value[:12] if isinstance(value, list | tuple) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


# --- Types --------------------------------------------------------------------------------------


def whole(low: int = 1, high: int = LARGEST) -> Kind:
    """Make the type of whole numbers from `low` to `high`; `4.0` and `"4"` are read as 4."""

    def convert(value: Any) -> int:
        number = _number(value)
        if number != int(number) or not low <= number <= high:
            raise ValueError
        return int(number)

    return Kind(f"a whole number from {low} to {high}", convert)


def number(low: float = 0.0, high: float = float(LARGEST)) -> Kind:
    """Make the type of finite numbers from `low` to `high`."""

    def convert(value: Any) -> float:
        found = _number(value)
        if not low <= found <= high:
            raise ValueError
        return found

    return Kind(f"a number from {low:g} to {high:g}", convert)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    if isinstance(value, int) and abs(value) > 2**53:
        raise ValueError
    found = float(value)
    if not math.isfinite(found):
        raise ValueError
    return found


def _order(value: Any) -> float:
    if value == math.inf:
        return math.inf
    found = _number(value)
    if not 0 < found <= 100:
        raise ValueError
    return found


ORDER = Kind("a number above 0 and at most 100, or infinity", _order)
"""The order p of a norm."""


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError
    return value


FLAG = Kind("true or false", _flag)
"""A boolean.  Neither `"false"` nor 0 is one: read as true, they would go unnoticed."""

TABLE = Kind("a table of fields", _table)
ANYTHING = Kind("anything", lambda value: value)


def one_of(*values: str) -> Kind:
    """Make the type of a choice of strings."""

    def convert(value: Any) -> str:
        if not isinstance(value, str) or value not in values:
            raise ValueError
        return value

    return Kind(f"one of {', '.join(values)}", convert)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


TEXT = Kind("a text", _text)


def several(kind: Kind, least: int = 1, most: int = 64) -> Kind:
    """Make the type of lists of `least` to `most` values of a kind; they become tuples."""

    def convert(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ValueError
        if not least <= len(value) <= most:
            raise ValueError
        return tuple(kind.convert(item) for item in value)

    return Kind(f"a list of {least} to {most} values, each {kind.words}", convert)


def optional(kind: Kind) -> Kind:
    """Make the type of values of a kind, or null."""
    return Kind(f"{kind.words}, or null", lambda v: None if v is None else kind.convert(v))


LAYERS = whole(1, 1024)
CODEBOOKS = whole(1, 64)
KERNEL = whole(1, 1024)
DELAYS = several(whole(0, 1024), 0)
STRIDES = several(whole(1, 1024))
RATE = whole(1, 1_000_000)
FRAMES_PER_WINDOW = 1500
"""Frames of the longest sequence MusicGen was trained on: 30 s at 50 frames a second.

Others say so: AudioCraft's `dataset.segment_duration`, `window_frames` in what segue writes."""

PAD_MODES = one_of("reflect", "constant")
"""Types of fields that both layouts have; how EnCodec pads: `replicate` is not implemented."""
