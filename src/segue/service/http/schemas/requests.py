"""The bodies of requests: lenient where clients are, strict where it protects.

pydantic's lax mode takes a number as a string, and a whole number with a `.0`; null and blank are
absent.  What is out of range, or is no number, is an error in one line.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema

from ....admission import MAX_SEED
from ...jobs.spec import PARAMETERS
from ...settings import Limits
from ..wav_header import wav_header

_LIMITS = Limits()

MAX_NAME = 300
LONGEST_PROMPT = 29.0
_TENTH_OF_A_SECOND = base64.b64encode(wav_header(8_000, 1, 1_600) + bytes(1_600)).decode()

_LINES = {
    "missing": "is missing",
    "string_type": "must be text",
    "string_unicode": "holds characters that are none",
    "string_too_long": "must not be longer than {max_length} characters",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "int_type": "must be a number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "int_from_float": "must be a whole number",
    "list_type": "must be a list of texts",
    "too_long": "must not hold more than {max_length}",
    "greater_than_equal": "must lie between {low:.15g} and {high:.15g}",
    "less_than_equal": "must lie between {low:.15g} and {high:.15g}",
    "value_error": "{error}",
}
"""What a user reads, for each type of pydantic's errors that the fields below can have."""


def line_of(error: ValidationError, model: type[BaseModel]) -> str:
    """The first of a model's errors as one line.

    Args:
        error: of the validation.
        model: that did not validate; its JSON schema has the range of each number.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(map(str, first["loc"]))
    facts = dict(first.get("ctx", {}))
    if first["type"] in ("greater_than_equal", "less_than_equal"):
        number = model.model_json_schema()["properties"][name]["anyOf"][0]
        facts = {"low": number["minimum"], "high": number["maximum"]}
    line = _LINES.get(first["type"])
    return f"{name} {first['msg'] if line is None else line.format(**facts)}"


class _Lenient:
    """A number or None, which may come as a string; a boolean is no number, a blank is None."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """See pydantic."""
        return core_schema.no_info_before_validator_function(self._guard, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """See pydantic."""
        number, null = handler(schema)["anyOf"]
        pattern = r"^\s*([+-]?\d{1,15}(\.\d{0,15})?)?\s*$"
        if number["type"] == "integer":
            pattern = r"^\s*([+-]?\d{1,30})?\s*$"
        return {"anyOf": [number, {"type": "string", "pattern": pattern}, null]}

    @staticmethod
    def _guard(value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("must be a number")
        if isinstance(value, str) and not value.strip():
            return None
        # pydantic's own conversion ends at 64 bits.
        return int(value) if isinstance(value, float) and value.is_integer() else value


def _checked(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds characters that are none")
    return text


_LENIENT = _Lenient()
_TEXT = AfterValidator(_checked)


class _Fields(BaseModel):
    """Fields that are not known are left alone: clients of other ages send others."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())


class Parameters(_Fields):
    """What every route that makes a job takes.

    An attribute is named as in `JobSpec`, its alias as in the request.
    """

    reduces_seed: ClassVar[bool] = False

    model_name: Annotated[str, Field(max_length=MAX_NAME), _TEXT] | None = Field(
        None, description="A path of the list of models; absent or blank: the default model."
    )
    text: Annotated[str, Field(max_length=_LIMITS.description), _TEXT] | None = Field(
        None, alias="description", description="Words that describe the music."
    )
    top_k: Annotated[Annotated[int, Field(ge=0, le=1_000_000)] | None, _LENIENT] = Field(
        None, description="Sample from the k likeliest; 0: all.  Default: 250."
    )
    temperature: Annotated[Annotated[float, Field(ge=0, le=100)] | None, _LENIENT] = Field(
        None, description="0 takes the likeliest.  Default: 1."
    )
    guidance_coef: Annotated[Annotated[float, Field(ge=-100, le=100)] | None, _LENIENT] = Field(
        None, alias="cfg_coef", description="How much the description counts.  Default: 3."
    )
    seed: Annotated[Annotated[int, Field(ge=-1, le=MAX_SEED)] | None, _LENIENT] = Field(
        None, description="-1 or absent: a random one."
    )
    quantization_mode: Annotated[str, Field(max_length=MAX_NAME), _TEXT] | None = Field(
        None,
        description="none, q8_decoder_linears, q4_decoder_linears, q4_decoder_linears_emb, and "
        "what people type for them; absent: what the service was started with.",
    )

    def parameters(self) -> dict[str, Any]:
        """The parameters that the client sent, by the names of `JobSpec`."""
        return self.model_dump(include=set(PARAMETERS), exclude_none=True)


class PluginParameters(Parameters):
    """The plugin's."""

    reduces_seed: ClassVar[bool] = True

    seed: Annotated[int | None, _LENIENT] = Field(
        None,
        description="Negative or absent: a random one.  Beyond 2^32 - 1 it is reduced modulo 2^32; "
        "the answer says what is used.",
    )
    prompt_seconds: Annotated[
        Annotated[float, Field(ge=0.02, le=LONGEST_PROMPT)] | None, _LENIENT
    ] = Field(None, alias="prompt_duration", description="Seconds of the prompt.  Default: 6.")


class PluginAudio(PluginParameters):
    """`process_audio` and `continue_music`."""

    audio_data: str = Field(
        description="An audio file in base64.", min_length=1, examples=[_TENTH_OF_A_SECOND]
    )


class PluginRetry(PluginParameters):
    """`retry_music`."""

    session_id: str = Field(description="Of the session whose input is continued again.")


class NativeOptions(Parameters):
    """The service's own, with a prompt and without."""

    texts: (
        Annotated[
            list[Annotated[str, Field(max_length=_LIMITS.description), _TEXT]],
            Field(max_length=_LIMITS.variations),
        ]
        | None
    ) = Field(
        None,
        alias="descriptions",
        description="Words for each take, in the place of description; as many takes are made.",
    )
    adapters: (
        Annotated[
            list[Annotated[str, Field(max_length=MAX_NAME), _TEXT]],
            Field(max_length=_LIMITS.adapters),
        ]
        | None
    ) = Field(
        None,
        description="LoRA adapters that the service has, each NAME or NAME:SCALE; merged into the "
        "model in their order.",
    )
    output_seconds: Annotated[
        Annotated[float, Field(ge=0.04, le=_LIMITS.output_seconds)] | None, _LENIENT
    ] = Field(None, description="Prompt and continuation together.  Default: 30.")
    variations: Annotated[Annotated[int, Field(ge=1, le=_LIMITS.variations)] | None, _LENIENT] = (
        Field(None, description="How many takes.  Default: 1, or as many as descriptions.")
    )
    extend_stride: Annotated[Annotated[float, Field(ge=0.02, le=300)] | None, _LENIENT] = Field(
        None,
        description="Seconds by which the model's window moves where the output is longer.  "
        "Default: the model's own, 18 of MusicGen's 30.",
    )
    top_p: Annotated[Annotated[float, Field(ge=0, le=1)] | None, _LENIENT] = Field(
        None,
        description="Sample from the likeliest that have this probability together, in the place "
        "of top_k.  0: off, the default.",
    )


_MELODY = Field(
    None,
    description="An audio file in base64, whose strongest notes a melody model follows from the "
    "start of the prompt on.",
    examples=[_TENTH_OF_A_SECOND],
)


class NativeParameters(NativeOptions):
    """The service's own."""

    start: Annotated[Annotated[float, Field(ge=0, le=36_000)] | None, _LENIENT] = Field(
        None,
        alias="prompt_start",
        description="Where in the audio the prompt begins, in seconds.  Default: 0.",
    )
    prompt_seconds: Annotated[
        Annotated[float, Field(ge=0.02, le=LONGEST_PROMPT)] | None, _LENIENT
    ] = Field(None, description="Seconds of the prompt.  Default: 6.")


class NativeAudio(NativeParameters):
    """A new job."""

    audio_data: str = Field(
        description="An audio file in base64.", min_length=1, examples=[_TENTH_OF_A_SECOND]
    )
    melody_data: str | None = _MELODY


class NativeText(NativeOptions):
    """Music without a prompt."""

    melody_data: str | None = _MELODY


class ModelName(_Fields):
    """A model."""

    model_name: str = Field(description="A path of the list of models.", max_length=MAX_NAME)
