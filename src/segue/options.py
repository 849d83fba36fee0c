"""The options that commands share, and what they come to."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import audio
from .checkpoints import hub
from .checkpoints.recipe import POSSIBLE, SCOPES, Recipe
from .continuation import Request
from .errors import AudioError, OutputError, RequestError
from .model import CAST_DTYPES, ENGINES

TEXT_HELP = (
    "a description of the music; of a long one, what the text encoder takes is read (the first 512 "
    "tokens)"
)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Says what an option's default is, where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or isinstance(action.default, bool):
            return action.help
        return super()._get_help_string(action)


def add_model_options(parser: argparse.ArgumentParser, cast: bool = True) -> None:
    """The options that say what plays."""
    parser.add_argument(
        "--model",
        default=hub.BUILT_IN,
        help="'built-in', a folder, or a repository of the Hugging Face hub",
    )
    add_base_option(parser)
    if cast:
        add_cast_option(parser)
    add_engine_option(parser)


def add_engine_option(parser: argparse.ArgumentParser) -> None:
    """`--engine`."""
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="what runs the model")


def add_threads_option(parser: argparse.ArgumentParser) -> None:
    """`--threads`."""
    parser.add_argument(
        "--threads", type=int, help="how many OpenVINO uses (default: as many as there are cores)"
    )


def add_base_option(parser: argparse.ArgumentParser) -> None:
    """`--base-model`."""
    parser.add_argument(
        "--base-model", help="what a fine-tune without config.json was trained from"
    )


def add_cast_option(parser: argparse.ArgumentParser) -> None:
    """`--cast-dtype`."""
    parser.add_argument(
        "--cast-dtype", choices=CAST_DTYPES, help="cast the language model's weights"
    )


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """The options that say what is played."""
    parser.add_argument(
        "--prompt-seconds",
        type=float,
        default=Request.prompt_seconds,
        help="how much of the audio the model hears",
    )
    parser.add_argument(
        "--output-seconds",
        type=float,
        default=Request.output_seconds,
        help="length of prompt and continuation together",
    )
    end = parser.add_mutually_exclusive_group()
    end.add_argument(
        "--prompt-from-start", action="store_true", help="hear the start of the audio (the default)"
    )
    end.add_argument(
        "--prompt-from-end",
        action="store_true",
        help="hear the end of the audio, not its start; everything before it stays",
    )
    parser.add_argument("--text", default=Request.text, help=TEXT_HELP)
    parser.add_argument(
        "--top-k", type=int, default=Request.top_k, help="draw from the k likeliest (0: all)"
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
    parser.add_argument("--seed", type=int, help="0 to 4294967295 (default: a random one)")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """The options that say what is told."""
    parser.add_argument("--no-progress", action="store_true", help="show no bars")
    parser.add_argument(
        "--json", action="store_true", help="print timings, seed and shapes as JSON"
    )


def request_of(options: argparse.Namespace, prompt: Path, variations: int = 1) -> Request:
    """What `add_request_options` were set to, for the audio in the file `prompt`.

    Raises:
        AudioError: the file cannot be read.
        RequestError: an option is out of range.
    """
    return Request(
        audio=audio.read(prompt, None if options.prompt_from_end else options.prompt_seconds),
        prompt_seconds=options.prompt_seconds,
        output_seconds=options.output_seconds,
        prompt_from="end" if options.prompt_from_end else "start",
        text=options.text,
        top_k=options.top_k,
        temperature=options.temperature,
        guidance_coef=options.guidance_coef,
        allow_empty_text_cfg=options.allow_empty_text_cfg,
        seed=options.seed,
        variations=variations,
    )


@contextmanager
def naming(prompt: Path) -> Iterator[None]:
    """Let what is wrong with the audio of a file name the file.

    Raises:
        AudioError: whatever the block said of audio, after the name of `prompt`.
    """
    try:
        yield
    except OutputError:
        raise
    except AudioError as error:
        raise AudioError(f"{prompt}: {error}") from None


def add_recipe_options(parser: argparse.ArgumentParser, switch: bool = True) -> None:
    """The options that say what is quantized, behind the switch `--quantize` if there is one."""
    if switch:
        parser.add_argument(
            "--quantize", action="store_true", help="quantize the weights in memory"
        )
    parser.add_argument(
        "--quant-scope",
        choices=SCOPES,
        help=f"which weights: the layers' and heads', with the embeddings, with the text's "
        f"projection, or all of them (default: {Recipe.scope})",
    )
    parser.add_argument(
        "--q-bits",
        type=int,
        help=f"bits of a weight (default: {Recipe.bits}, or what the mode has)",
    )
    parser.add_argument(
        "--q-group-size",
        type=int,
        help=f"weights that share a scale (default: {Recipe.group_size}, or what the mode has)",
    )
    parser.add_argument("--q-mode", choices=tuple(POSSIBLE), help=f"how (default: {Recipe.mode})")


def recipe_of(options: argparse.Namespace) -> Recipe | None:
    """What `add_recipe_options` were set to; None without `--quantize`.

    Raises:
        RequestError: there is no such quantization, or `--quantize` was forgotten.
    """
    details = {
        "--quant-scope": options.quant_scope,
        "--q-bits": options.q_bits,
        "--q-group-size": options.q_group_size,
        "--q-mode": options.q_mode,
    }
    if getattr(options, "quantize", True):
        return recipe(*details.values())
    for option, value in details.items():
        if value is not None:
            raise RequestError(f"{option} without --quantize quantizes nothing; add --quantize")
    return None


def recipe(
    scope: str | None = None,
    bits: int | None = None,
    group_size: int | None = None,
    mode: str | None = None,
) -> Recipe:
    """A recipe of which some is said; a mode that comes in one size brings it along.

    Raises:
        RequestError: there is no such quantization.
    """
    mode = Recipe.mode if mode is None else mode
    sizes = POSSIBLE.get(mode, {})
    only = len(sizes) == 1
    if bits is None:
        bits = next(iter(sizes)) if only else Recipe.bits
    if group_size is None:
        group_size = sizes[bits][0] if only and bits in sizes else Recipe.group_size
    return Recipe(Recipe.scope if scope is None else scope, bits, group_size, mode)
