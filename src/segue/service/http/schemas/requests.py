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

LIMITS = Limits()

MAX_NAME = 300
LONGEST_PROMPT = 29.0
TENTH_OF_A_SECOND = base64.b64encode(wav_header(8_000, 1, 1_600) + bytes(1_600)).decode()

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
    "literal_error": "must be {expected}",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
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
        number = _schema_of(model, first["loc"])["anyOf"][0]
        facts = {"low": number["minimum"], "high": number["maximum"]}
    line = _LINES.get(first["type"])
    return f"{name} {first['msg'] if line is None else line.format(**facts)}"


def inlined_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON schema without references, for a place inside another document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, list):
            return [inlined(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inlined(definitions[part["$ref"].rpartition("/")[2]])
        return {name: inlined(each) for name, each in part.items()}

    found: dict[str, Any] = inlined(schema)
    return found


def _schema_of(model: type[BaseModel], place: tuple[int | str, ...]) -> dict[str, Any]:
    """The JSON schema of a field, or of a field of an object inside it."""
    schema: dict[str, Any] = inlined_schema(model)
    for step in place:
        schema = schema["anyOf"][0] if "anyOf" in schema else schema
        schema = schema["items"] if isinstance(step, int) else schema["properties"][step]
    return schema


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


LENIENT = _Lenient()
TEXT = AfterValidator(_checked)


class Fields(BaseModel):
    """Fields that are not known are left alone: clients of other ages send others."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, protected_namespaces=())


class Parameters(Fields):
    """What every route that makes a job takes.

    An attribute is named as in `JobSpec`, its alias as in the request.
    """

    reduces_seed: ClassVar[bool] = False

    model_name: Annotated[str, Field(max_length=MAX_NAME), TEXT] | None = Field(
        None, description="A path of the list of models; absent or blank: the default model."
    )
    text: Annotated[str, Field(max_length=LIMITS.description), TEXT] | None = Field(
        None, alias="description", description="Words that describe the music."
    )
    top_k: Annotated[Annotated[int, Field(ge=0, le=1_000_000)] | None, LENIENT] = Field(
        None, description="Sample from the k likeliest; 0: all.  Default: 250."
    )
    temperature: Annotated[Annotated[float, Field(ge=0, le=100)] | None, LENIENT] = Field(
        None, description="0 takes the likeliest.  Default: 1."
    )
    guidance_coef: Annotated[Annotated[float, Field(ge=-100, le=100)] | None, LENIENT] = Field(
        None, alias="cfg_coef", description="How much the description counts.  Default: 3."
    )
    seed: Annotated[Annotated[int, Field(ge=-1, le=MAX_SEED)] | None, LENIENT] = Field(
        None, description="-1 or absent: a random one."
    )
    quantization_mode: Annotated[str, Field(max_length=MAX_NAME), TEXT] | None = Field(
        None,
        description="none, q8_decoder_linears, q4_decoder_linears, q4_decoder_linears_emb, and "
        "what people type for them; absent: what the service was started with.",
    )

    @property
    def file_name(self) -> str:
        """The name of the file that is sent along; empty where it is not said."""
        return ""

    def parameters(self) -> dict[str, Any]:
        """The parameters that the client sent, by the names of `JobSpec`."""
        # A number may be `auto`, which its type does not know.
        return self.model_dump(include=set(PARAMETERS), exclude_none=True, warnings=False)


class PluginParameters(Parameters):
    """The plugin's."""

    reduces_seed: ClassVar[bool] = True

    seed: Annotated[int | None, LENIENT] = Field(
        None,
        description="Negative or absent: a random one.  Beyond 2^32 - 1 it is reduced modulo 2^32; "
        "the answer says what is used.",
    )
    prompt_seconds: Annotated[
        Annotated[float, Field(ge=0.02, le=LONGEST_PROMPT)] | None, LENIENT
    ] = Field(None, alias="prompt_duration", description="Seconds of the prompt.  Default: 6.")


class PluginAudio(PluginParameters):
    """`process_audio` and `continue_music`."""

    audio_data: str = Field(
        description="An audio file in base64.", min_length=1, examples=[TENTH_OF_A_SECOND]
    )


class PluginRetry(PluginParameters):
    """`retry_music`."""

    session_id: str = Field(description="Of the session whose input is continued again.")


class ModelName(Fields):
    """A model."""

    model_name: str = Field(description="A path of the list of models.", max_length=MAX_NAME)
