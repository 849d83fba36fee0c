"""The bodies of requests to the service's own routes; `requests` has what all have in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidatorFunctionWrapHandler,
)
from pydantic_core import CoreSchema, core_schema

from ....admission import MAX_SEED
from ....bars import MAX_BARS, MAX_BEATS_PER_BAR, MAX_BPM, MIN_BPM
from ....request import Part
from .requests import (
    LENIENT,
    LIMITS,
    LONGEST_PROMPT,
    MAX_NAME,
    TENTH_OF_A_SECOND,
    TEXT,
    Fields,
    Parameters,
)

MOST_PARTS = 8

AUTO = "auto"
"""In the place of a tempo or a downbeat: find it in the audio."""


class _OrAuto:
    """A lenient number, or `auto`."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """See pydantic."""
        return core_schema.no_info_wrap_validator_function(self._validate, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """See pydantic."""
        found: dict[str, Any] = dict(handler(schema))
        return {"anyOf": [*found["anyOf"], {"const": AUTO}]}

    @staticmethod
    def _validate(value: Any, number: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, str) and value.strip().lower() == AUTO:
            return AUTO
        return number(value)


_OR_AUTO = _OrAuto()

_Seconds = Annotated[Annotated[float, Field(ge=0.02, le=LIMITS.output_seconds)] | None, LENIENT]
_Bars = Annotated[Annotated[float, Field(ge=0.001, le=MAX_BARS)] | None, LENIENT]


class PartFields(Fields):
    """What is played after the continuation."""

    text: Annotated[str, Field(max_length=LIMITS.description), TEXT] | None = Field(
        None, alias="description", description="Words that describe the part, for all takes."
    )
    seconds: _Seconds = Field(None, description="Its length; or")
    bars: _Bars = Field(None, description="its length in bars.")
    seed: Annotated[Annotated[int, Field(ge=0, le=MAX_SEED)] | None, LENIENT] = Field(
        None, description="Absent: it follows from the take's."
    )

    def part(self) -> Part:
        """The part of a request."""
        return Part(self.text or "", self.seconds, self.bars, self.seed)


class NativeOptions(Parameters):
    """The service's own, with a prompt and without."""

    texts: (
        Annotated[
            list[Annotated[str, Field(max_length=LIMITS.description), TEXT]],
            Field(max_length=LIMITS.variations),
        ]
        | None
    ) = Field(
        None,
        alias="descriptions",
        description="Words for each take, in the place of description; as many takes are made.",
    )
    adapters: (
        Annotated[
            list[Annotated[str, Field(max_length=MAX_NAME), TEXT]],
            Field(max_length=LIMITS.adapters),
        ]
        | None
    ) = Field(
        None,
        description="LoRA adapters that the service has, each NAME or NAME:SCALE; merged into the "
        "model in their order.",
    )
    output_seconds: Annotated[
        Annotated[float, Field(ge=0.04, le=LIMITS.output_seconds)] | None, LENIENT
    ] = Field(None, description="Prompt and continuation together.  Default: 30.")
    seconds: _Seconds = Field(
        None, description="Length of the new part alone, in the place of output_seconds."
    )
    bpm: Annotated[
        Annotated[Annotated[float, Field(ge=0, le=MAX_BPM)] | None, LENIENT], _OR_AUTO
    ] = Field(
        None,
        description=f"The tempo, {MIN_BPM:g} to {MAX_BPM:g}: lengths become whole bars, so that "
        "takes loop; auto finds it in the audio, with metre and downbeat.  0: none.",
    )
    beats_per_bar: Annotated[
        Annotated[float, Field(ge=0.25, le=MAX_BEATS_PER_BAR)] | None, LENIENT
    ] = Field(None, description="3.5 is 7/8.  Default: 4, or what is found.")
    bars: _Bars = Field(None, description="Length of the new part in bars; wants bpm.")
    snap: Literal["off", "beat", "bar"] | None = Field(
        None,
        description="What lengths in seconds and the prompt's place are rounded to, with a tempo.  "
        "Default: bar.",
    )
    loop_crossfade: bool | None = Field(
        None, description="Fade the last 10 ms into what comes before the loop's first sample."
    )
    parts: Annotated[list[PartFields], Field(max_length=MOST_PARTS)] | None = Field(
        None,
        description="Played one after the other behind the continuation, each with one length.",
    )
    variations: Annotated[Annotated[int, Field(ge=1, le=LIMITS.variations)] | None, LENIENT] = (
        Field(None, description="How many takes.  Default: 1, or as many as descriptions.")
    )
    extend_stride: Annotated[Annotated[float, Field(ge=0.02, le=300)] | None, LENIENT] = Field(
        None,
        description="Seconds by which the model's window moves where the output is longer.  "
        "Default: the model's own, 18 of MusicGen's 30.",
    )
    top_p: Annotated[Annotated[float, Field(ge=0, le=1)] | None, LENIENT] = Field(
        None,
        description="Sample from the likeliest that have this probability together, in the place "
        "of top_k.  0: off, the default.",
    )

    def parameters(self) -> dict[str, Any]:
        """See `Parameters`; a tempo of 0 is none, and `auto` is as it was sent."""
        found = super().parameters()
        if found.get("bpm") == 0:
            found["bpm"] = None
        if self.parts is not None:
            found["parts"] = tuple(part.part() for part in self.parts)
        return found


_MELODY = Field(
    None,
    description="An audio file in base64, whose strongest notes a melody model follows from the "
    "start of the prompt on.",
    examples=[TENTH_OF_A_SECOND],
)


class NativeParameters(NativeOptions):
    """The service's own."""

    prompt_bars: _Bars = Field(
        None, description="Length of the prompt in bars, in the place of prompt_seconds; wants bpm."
    )
    downbeat: Annotated[
        Annotated[Annotated[float, Field(ge=0, le=36_000)] | None, LENIENT], _OR_AUTO
    ] = Field(
        None,
        description="Seconds from the start of the audio to where a bar begins, any of them, or "
        "auto.  Default: 0, or what is found.",
    )

    start: Annotated[Annotated[float, Field(ge=0, le=36_000)] | None, LENIENT] = Field(
        None,
        alias="prompt_start",
        description="Where in the audio the prompt begins, in seconds.  Default: 0.",
    )
    prompt_seconds: Annotated[
        Annotated[float, Field(ge=0.02, le=LONGEST_PROMPT)] | None, LENIENT
    ] = Field(None, description="Seconds of the prompt.  Default: 6.")
    prompt_from: Literal["start", "end"] | None = Field(
        None,
        description="The end of the audio that the prompt is, where prompt_start is absent.  "
        "Default: start, or the end of a take that is played on from.",
    )

    def parameters(self) -> dict[str, Any]:
        """See `Parameters`."""
        found = super().parameters()
        if "start" not in found and self.prompt_from is not None:
            found["start"] = None if self.prompt_from == "end" else 0.0
        return found


class FileName(Fields):
    """A file that is sent."""

    sent_name: Annotated[str, Field(max_length=200), TEXT] | None = Field(
        None, alias="file_name", description="The name of the file, for names and tags of takes."
    )

    @property
    def file_name(self) -> str:
        """The name of the file that is sent along; empty where it is not said."""
        return self.sent_name or ""


class KeptAudio(Fields):
    """Audio that the service has: an input, or a take that is played on from."""

    input_id: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="Of an input that was sent before."
    )
    job: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="Of a job that is done, one of whose takes is played on from."
    )
    take: Annotated[Annotated[int, Field(ge=1, le=LIMITS.variations)] | None, LENIENT] = Field(
        None, description="Which of its takes.  Default: 1."
    )
    until_seconds: Annotated[Annotated[float, Field(ge=0.02, le=36_000)] | None, LENIENT] = Field(
        None, description="Where in the take; what lies behind it is left out.  Default: its end."
    )


class NativeAudio(FileName, NativeParameters):
    """A new job."""

    audio_data: str | None = Field(
        None,
        description="An audio file in base64; or `input`.",
        examples=[TENTH_OF_A_SECOND],
    )
    input: KeptAudio | None = Field(
        None,
        description="Audio that the service has, in the place of audio_data: {input_id}, or "
        "{job, take, until_seconds} to play on from a take.  Then an absent parameter is as in "
        "that job, but for lengths, seed, variations and parts.",
    )
    melody_data: str | None = _MELODY


class NewInput(FileName):
    """Audio for jobs to come."""

    audio_data: str = Field(
        description="An audio file in base64.", min_length=1, examples=[TENTH_OF_A_SECOND]
    )


class Marks(Fields):
    """What people say of a job or of a take."""

    name: Annotated[str, Field(max_length=200), TEXT] | None = Field(
        None, description="Its name, which its files get; empty for none."
    )
    note: Annotated[str, Field(max_length=2000), TEXT] | None = Field(
        None, description="A note; empty for none."
    )
    starred: bool | None = Field(None, description="With a star it is kept until it is removed.")

    def changes(self) -> dict[str, Any]:
        """What the client sent."""
        return self.model_dump(exclude_none=True)


class NativeText(NativeOptions):
    """Music without a prompt."""

    melody_data: str | None = _MELODY
