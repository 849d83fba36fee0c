"""The options that commands share: each name means the same everywhere."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import audio
from .admission import variations_for
from .atomic import check_writable
from .checkpoints import hub
from .checkpoints.adapters import AdapterChoice
from .errors import AudioError, OutputError, RequestError
from .model import ACTIVATIONS, CAST_DTYPES, ENGINES, KV_BITS
from .part_options import BeforeParts, OfPart, parts_of
from .request import Request, RequestOptions
from .storage import Storage, parent, place
from .time_options import bar_options_of, length_of, seconds, with_found_bars

JUDGES = ("full", "small")
"""What of segue's own music quality is measured on: forty pieces as codes, or six prompts."""

TEXT_HELP = (
    "a description of the music; of a long one, what the text encoder takes is read (the first 512 "
    "tokens)"
)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds an option's default to its help, where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, "", []) or isinstance(action.default, bool):
            return action.help
        return super()._get_help_string(action)


def add_model_options(parser: argparse.ArgumentParser, cast: bool = True) -> None:
    """Add `--model`, `--base-model`, `--engine` and, unless rows decide it, `--cast-dtype`."""
    parser.add_argument(
        "--model",
        default=hub.BUILT_IN,
        help="'built-in', a folder, a repository of the Hugging Face hub, or an address such as "
        "s3://bucket/folder",
    )
    add_base_option(parser)
    if cast:
        add_cast_option(parser)
    add_engine_option(parser)


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add `MODEL`, which is read, and `OUT`, a folder that is made of it."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="'built-in', a folder, a repository of the hub, or an address such as s3://bucket/x",
    )
    parser.add_argument(
        "output",
        metavar="OUT",
        type=place,
        help="a folder that is not there yet, here or at an address such as s3://bucket/x",
    )


def add_engine_option(parser: argparse.ArgumentParser) -> None:
    """Add `--engine`."""
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="what runs the model")


def add_threads_option(parser: argparse.ArgumentParser) -> None:
    """Add `--threads`."""
    parser.add_argument(
        "--threads",
        type=int,
        help="how many a processor's engine uses (default: as many as there are cores)",
    )


def add_kv_option(parser: argparse.ArgumentParser) -> None:
    """Add `--kv-bits`."""
    parser.add_argument(
        "--kv-bits",
        type=int,
        choices=KV_BITS,
        help="bits of a key or value that is kept of each column, on processors: less memory, and "
        "faster steps late in long music (default: 32, and 16 on the engine 'native' for narrower "
        "weights)",
    )


def add_activations_option(parser: argparse.ArgumentParser) -> None:
    """Add `--activations`."""
    parser.add_argument(
        "--activations",
        choices=ACTIVATIONS,
        help="what quantized weights are multiplied with on the engine 'native': int8 takes less "
        "time, above all for a prompt, and is less exact (default: int16)",
    )


def add_base_option(parser: argparse.ArgumentParser) -> None:
    """Add `--base-model`."""
    parser.add_argument(
        "--base-model", help="what a fine-tune without config.json was trained from"
    )


def add_adapter_option(parser: argparse.ArgumentParser) -> None:
    """Add `--adapter`; see `adapters_of`."""
    parser.add_argument(
        "--adapter",
        metavar="NAME[:SCALE]",
        action="append",
        default=[],
        help="a LoRA adapter in PEFT's layout, a folder, a repository of the hub or an address, "
        "merged into the weights; may be repeated",
    )


def adapters_of(options: argparse.Namespace) -> list[AdapterChoice]:
    """Return the adapters of `add_adapter_option`.

    Raises:
        CheckpointError: one has no name, or a scale out of range.
    """
    return [AdapterChoice.parse(typed) for typed in options.adapter]


def add_cast_option(parser: argparse.ArgumentParser) -> None:
    """Add `--cast-dtype`."""
    parser.add_argument(
        "--cast-dtype", choices=CAST_DTYPES, help="cast the language model's weights"
    )


def add_judge_option(parser: argparse.ArgumentParser) -> None:
    """Add `--judge`."""
    parser.add_argument(
        "--judge",
        choices=JUDGES,
        help="what of segue's own music distributions are compared on: forty pieces of 10 s, with "
        "and without the words for them, or six prompts (default: full where the checkpoint has "
        "the built-in one's codec, else small)",
    )


def add_request_options(
    parser: argparse.ArgumentParser, prompt: bool = True, texts: bool = False
) -> None:
    """Add the options of a `Request`, but its audio and variations.

    Args:
        parser: of the command.
        prompt: whether there is a prompt, whose length and place are options too.
        texts: whether `--text` may be repeated, once for each take.
    """
    if prompt:
        _add_prompt_place(parser)
    parser.add_argument(
        "--output-seconds",
        metavar="TIME",
        type=seconds,
        help=("length of prompt and continuation together" if prompt else "length of the music")
        + f" (default: {Request.output_seconds:g})",
    )
    if texts:
        more = "; may be repeated, for takes with texts of their own"
        parser.add_argument("--text", action=BeforeParts, default=[], help=TEXT_HELP + more)
    else:
        parser.add_argument("--text", action=BeforeParts, default=Request.text, help=TEXT_HELP)
    parser.add_argument(
        "--top-k", type=int, default=Request.top_k, help="draw from the k likeliest (0: all)"
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=Request.top_p,
        help="draw from the likeliest that have this probability together, in the place of --top-k "
        "(0: off)",
    )
    parser.add_argument(
        "--temperature", type=float, default=Request.temperature, help="0 takes the likeliest"
    )
    parser.add_argument(
        "--guidance-coef",
        type=float,
        default=Request.guidance_coef,
        help="how much the text counts",
    )
    parser.add_argument(
        "--allow-empty-text-cfg",
        action="store_true",
        help="run guidance without text, at twice the work",
    )
    parser.add_argument(
        "--extend-stride",
        type=seconds,
        metavar="TIME",
        help="by how much the model's window moves where the output is longer (default: the "
        "model's own, 18 of MusicGen's 30 s)",
    )
    parser.add_argument(
        "--seed", action=OfPart, type=int, help="0 to 4294967295 (default: a random one)"
    )


def _add_prompt_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompt-seconds",
        metavar="TIME",
        type=seconds,
        help=f"how much of the audio the model continues (default: {Request.prompt_seconds:g})",
    )
    end = parser.add_mutually_exclusive_group()
    end.add_argument(
        "--prompt-from-start",
        action="store_true",
        help="continue the start of the audio (the default)",
    )
    end.add_argument(
        "--prompt-from-end",
        action="store_true",
        help="continue the end of the audio, not its start; everything before it stays",
    )


def add_output_options(parser: argparse.ArgumentParser, report_file: bool = True) -> None:
    """Add `--no-progress`, `--json` and, where there is no other file, `--report-json`."""
    parser.add_argument("--no-progress", action="store_true", help="show no bars")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    if report_file:
        parser.add_argument(
            "--report-json",
            metavar="FILE",
            type=place,
            help="write the report there, as JSON; a file, or an address such as s3://bucket/x.json",
        )


def report_file_of(options: argparse.Namespace) -> Path | str | None:
    """Return the file of `--report-json`, or its address, checked before anything long begins.

    Raises:
        OutputError: it cannot be written.
        StorageError: the address cannot be used, or its store does not answer.
    """
    path: Path | str | None = options.report_json
    if isinstance(path, str):
        Storage(parent(path)).check()
    elif path is not None:
        check_writable(path)
    return path


def add_prompt_option(parser: argparse.ArgumentParser) -> None:
    """Add `PROMPT`, which may be named with `--prompt` too; see `prompt_of`."""
    parser.add_argument(
        "prompt", metavar="PROMPT", type=Path, nargs="?", help="an audio file of any format"
    )
    parser.add_argument(
        "--prompt", metavar="PROMPT", dest="named_prompt", type=Path, help="the same, by name"
    )


def prompt_of(options: argparse.Namespace) -> Path:
    """Return the prompt of `add_prompt_option`.

    Raises:
        RequestError: there is none, or there are two.
    """
    given: Path | None = options.prompt
    named: Path | None = options.named_prompt
    if given is not None and named is not None:
        raise RequestError(f"{given} and --prompt {named} are two prompts; drop one")
    prompt = named if given is None else given
    if prompt is None:
        raise RequestError("name a prompt, an audio file")
    return prompt


def request_of(options: argparse.Namespace, prompt: Path, variations: int | None = 1) -> Request:
    """Return the request of `add_request_options`, for the audio in a file.

    Args:
        options: parsed.
        prompt: the file.
        variations: how many takes; None for as many as there are texts.

    Raises:
        AudioError: the file cannot be read.
        RequestError: an option is out of range.
    """
    if options.prompt_seconds == 0:  # nothing would be read, and nothing continued
        raise RequestError("prompt-seconds must be more than 0, not 0; `segue generate` needs none")
    given = request_options_of(options, variations)
    timing = bar_options_of(options)
    if options.prompt_seconds is not None:
        given["prompt_seconds"] = options.prompt_seconds
    given["prompt_from"] = "end" if options.prompt_from_end else "start"
    all_of_it = options.prompt_from_end or "bpm" in timing
    sound = audio.read(
        prompt, None if all_of_it else given.get("prompt_seconds", Request.prompt_seconds)
    )
    sound = with_found_bars(sound, timing, options.prompt_from_end)
    given.update(timing)  # type: ignore[typeddict-item]
    return Request(sound, **given)


def add_melody_option(parser: argparse.ArgumentParser) -> None:
    """Add `--melody`."""
    parser.add_argument(
        "--melody",
        metavar="FILE",
        type=Path,
        help="what a melody model follows: the strongest note of the whole mix, from the beginning",
    )


def request_options_of(options: argparse.Namespace, variations: int | None = 1) -> RequestOptions:
    """Return the options of `add_request_options` that do not speak of a prompt.

    Args:
        options: parsed.
        variations: how many takes; None for as many as there are texts.

    Raises:
        AudioError: the file of `--melody` cannot be read.
        RequestError: there are neither one text nor as many as takes.
    """
    texts = [options.text] if isinstance(options.text, str) else options.text
    variations = variations_for(texts, variations)
    melody: Path | None = getattr(options, "melody", None)
    length = length_of(options)
    most = length.get("output_seconds", None if length else Request.output_seconds)
    given: RequestOptions = {
        "melody": None if melody is None else audio.read(melody, most),
        "text": texts[0] if len(texts) == 1 else Request.text,
        "texts": texts if len(texts) > 1 else (),
        "top_k": options.top_k,
        "temperature": options.temperature,
        "guidance_coef": options.guidance_coef,
        "allow_empty_text_cfg": options.allow_empty_text_cfg,
        "seed": options.seed,
        "variations": variations,
        "extend_stride": options.extend_stride,
        "top_p": options.top_p,
    }
    given.update(length)  # type: ignore[typeddict-item]
    given["parts"] = parts_of(options)
    return given


@contextmanager
def naming(prompt: Path) -> Iterator[None]:
    """Let errors in the audio of a file begin with the file's name.

    Raises:
        AudioError: the block's own, after the name of `prompt`.
    """
    try:
        yield
    except OutputError:
        raise
    except AudioError as error:
        raise AudioError(f"{prompt}: {error}") from None
