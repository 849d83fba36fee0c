"""`segue generate`: music from text alone, or from nothing."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from . import takes
from .model import Model
from .options import HelpFormatter, add_output_options, request_options_of
from .request import Request
from .storage import place
from .time_options import bar_options_of
from .uploads import upload_of


def add_parser(commands: Any) -> None:
    """Add `segue generate`."""
    parser = commands.add_parser(
        "generate",
        description="Make music from a description, without a prompt: at the model's own rate, "
        "with its channels.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-o",
        "--output",
        type=place,
        help="where to write it: .wav, .flac, .ogg or .mp3, here or at an address such as "
        "s3://bucket/x.wav; several variations are numbered "
        "(default: generated.wav, here, or its next free number)",
        default=argparse.SUPPRESS,
    )
    takes.add_options(parser, prompt=False)
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run `segue generate`."""
    play = takes.Run(options)
    given = request_options_of(options, options.variations)
    given.update(bar_options_of(options))  # type: ignore[typeddict-item]
    request = takes.seeded(Request.without_prompt(**given))
    given["seed"] = request.seed

    def request_for(model: Model) -> Request:
        rate, channels = model.config.codec.sample_rate, model.config.lm.audio_channels
        likewise = Request.without_prompt(rate, channels, **given)
        return replace(request, audio=likewise.audio)

    with upload_of(options) as upload:
        paths, note = takes.files_of(options, request, "generated")
        return play(request_for, paths, note=note, upload=upload)
