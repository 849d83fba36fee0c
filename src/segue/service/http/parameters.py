"""The fields of requests: lenient where clients are, strict where it protects.

Numbers may come as strings, whole numbers with a `.0`; null and blank are absent.  What is out of
range, or is no number, is an error in one line.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from ...admission import MAX_SEED
from ..settings import Limits
from .wav_header import wav_header

_LIMITS = Limits()
_NUMBER = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})(e[+-]?\d{1,3})?", re.IGNORECASE)
_DIGITS = re.compile(r"[+-]?\d+")

MAX_NAME = 300
_TENTH_OF_A_SECOND = base64.b64encode(wav_header(8_000, 1, 1_600) + bytes(1_600)).decode()
LONGEST_PROMPT = 29.0
OUTPUT_SECONDS = 30.0


def _number(value: Any) -> float | None:
    """A number, however it was sent; None if there is none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value.strip()) or not value.isascii():
            raise ValueError("must be a number")
        # Not by way of a float: it would round what has more than 15 digits.
        value = int(value) if _DIGITS.fullmatch(value.strip()) else float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a number")
    return value


def _ranged(low: float, high: float) -> Callable[[Any], float | None]:
    def check(value: Any) -> float | None:
        number = _number(value)
        if number is not None and not low <= number <= high:
            raise ValueError(f"must lie between {low:g} and {high:g}")
        return None if number is None else float(number)

    return check


def _whole(low: int, high: int) -> Callable[[Any], int | None]:
    def check(value: Any) -> int | None:
        number = _number(value)
        if number is None:
            return None
        if number != int(number):
            raise ValueError("must be a whole number")
        if not low <= number <= high:
            raise ValueError(f"must lie between {low} and {high}")
        return int(number)

    return check


def _seed(value: Any) -> int | None:
    """Any whole number, however long; negative ones are no seed."""
    number = _number(value)
    if number is None:
        return None
    if number != int(number):
        raise ValueError("must be a whole number")
    return None if number < 0 else int(number)


def _text(most: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise ValueError("must be text")
        if len(value) > most:
            raise ValueError(f"must not be longer than {most} characters")
        if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise ValueError("holds characters that are none")
        return value

    return check


def _absent_if_blank(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


_DECIMAL = r"^\s*([+-]?\d{1,15}(\.\d{0,15})?)?\s*$"


def _schema(kind: str, low: float, high: float) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "anyOf": [
                {"type": kind, "minimum": low, "maximum": high},
                {"type": "string", "pattern": _DECIMAL},
                {"type": "null"},
            ]
        }
    )


_ANY_INTEGER = WithJsonSchema(
    {
        "anyOf": [
            {"type": "integer"},
            {"type": "string", "pattern": r"^\s*([+-]?\d{1,30})?\s*$"},
            {"type": "null"},
        ]
    }
)


def _real(low: float, high: float) -> Any:
    return Annotated[
        float | None, BeforeValidator(_ranged(low, high)), _schema("number", low, high)
    ]


def _integer(low: int, high: int) -> Any:
    return Annotated[int | None, BeforeValidator(_whole(low, high)), _schema("integer", low, high)]


def _string(most: int) -> Any:
    schema = {"anyOf": [{"type": "string", "maxLength": most}, {"type": "null"}]}
    return Annotated[str | None, BeforeValidator(_text(most)), WithJsonSchema(schema)]


class _Fields(BaseModel):
    """Fields that nobody asked for are left alone: clients of other ages send others."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class Parameters(_Fields):
    """What every way to music takes."""

    model_name: Annotated[_string(MAX_NAME), BeforeValidator(_absent_if_blank)] = Field(  # type: ignore[valid-type]
        None, description="A path of the list of models; else the default model."
    )
    description: _string(_LIMITS.description) = Field(  # type: ignore[valid-type]
        None, description="Words that describe the music."
    )
    top_k: _integer(0, 1_000_000) = Field(  # type: ignore[valid-type]
        None, description="Draw from the k likeliest; 0: all.  Default: 250."
    )
    temperature: _real(0, 100) = Field(  # type: ignore[valid-type]
        None, description="0 takes the likeliest.  Default: 1."
    )
    cfg_coef: _real(-100, 100) = Field(  # type: ignore[valid-type]
        None, description="How much the description counts.  Default: 3."
    )
    seed: _integer(-1, MAX_SEED) = Field(  # type: ignore[valid-type]
        None, description="-1 or absent: a random one."
    )
    quantization_mode: _string(MAX_NAME) = Field(  # type: ignore[valid-type]
        None,
        description="none, q8_decoder_linears, q4_decoder_linears, q4_decoder_linears_emb, and "
        "what people type for them; absent: what the service was started with.",
    )


class PluginParameters(Parameters):
    """The plugin's."""

    seed: Annotated[int | None, BeforeValidator(_seed), _ANY_INTEGER] = Field(
        None,
        description="Negative or absent: a random one.  Beyond 2^32 - 1 it is reduced modulo 2^32; "
        "the answer says what is used.",
    )

    prompt_duration: _real(0.02, LONGEST_PROMPT) = Field(  # type: ignore[valid-type]
        None, description="Seconds that the model hears.  Default: 6."
    )


class PluginAudio(PluginParameters):
    """`process_audio` and `continue_music`."""

    audio_data: str = Field(
        description="An audio file in base64.", min_length=1, examples=[_TENTH_OF_A_SECOND]
    )


class PluginRetry(PluginParameters):
    """`retry_music`."""

    session_id: str = Field(description="Of the session whose input is played on again.")


class NativeParameters(Parameters):
    """The service's own."""

    prompt_start: _real(0, 36_000) = Field(  # type: ignore[valid-type]
        None, description="Where in the audio the prompt begins, in seconds.  Default: 0."
    )
    prompt_seconds: _real(0.02, LONGEST_PROMPT) = Field(  # type: ignore[valid-type]
        None, description="Seconds that the model hears.  Default: 6."
    )
    output_seconds: _real(0.04, _LIMITS.output_seconds) = Field(  # type: ignore[valid-type]
        None, description="Prompt and continuation together.  Default: 30."
    )
    variations: _integer(1, _LIMITS.variations) = Field(  # type: ignore[valid-type]
        None, description="How many takes.  Default: 1."
    )


class NativeAudio(NativeParameters):
    """A new job."""

    audio_data: str = Field(
        description="An audio file in base64.", min_length=1, examples=[_TENTH_OF_A_SECOND]
    )


class ModelName(_Fields):
    """A model."""

    model_name: str = Field(description="A path of the list of models.", max_length=MAX_NAME)


def asked(given: Parameters, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a job shall play: the `request` of `Generator.generate`, but for its seed and its start.

    Args:
        given: the request's parameters.
        before: `asked` of the job that is retried; what `given` leaves open is as it was there.
    """
    known = {} if before is None else before["request"]
    seconds = getattr(given, "prompt_duration", None) or getattr(given, "prompt_seconds", None)

    def first(*values: Any) -> Any:
        return next(value for value in values if value is not None)

    return {
        "prompt_seconds": first(seconds, known.get("prompt_seconds"), 6.0),
        "output_seconds": first(
            getattr(given, "output_seconds", None), known.get("output_seconds"), OUTPUT_SECONDS
        ),
        "text": first(given.description, known.get("text"), ""),
        "top_k": first(given.top_k, known.get("top_k"), 250),
        "temperature": first(given.temperature, known.get("temperature"), 1.0),
        "guidance_coef": first(given.cfg_coef, known.get("guidance_coef"), 3.0),
        "variations": first(getattr(given, "variations", None), known.get("variations"), 1),
    }
