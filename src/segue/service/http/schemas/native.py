"""The bodies of requests to the service's own routes; `requests` has what all have in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

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


_MELODY = Field(
    None,
    description="An audio file in base64, whose strongest notes a melody model follows from the "
    "start of the prompt on.",
    examples=[TENTH_OF_A_SECOND],
)


class NativeParameters(NativeOptions):
    """The service's own."""

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


class NativeText(NativeOptions):
    """Music without a prompt."""

    melody_data: str | None = _MELODY
