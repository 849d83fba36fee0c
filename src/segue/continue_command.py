"""`segue continue`: read a prompt, load a model, continue, write the takes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from . import outputs, takes
from .errors import RequestError
from .options import HelpFormatter, add_output_options, naming, request_of
from .storage import place
from .take_report import warn
from .uploads import upload_of


def add_parser(commands: Any) -> None:
    """Add `segue continue`."""
    parser = commands.add_parser(
        "continue",
        description="Play on from a piece of audio: its samples stay as they are, the model's "
        "follow.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "prompt",
        metavar="PROMPT",
        type=Path,
        help="an audio file of any format; - is standard input; with --cluster, a folder of them",
    )
    # For the help: what these two stand for is put in their place before anything is parsed.
    parser.add_argument(
        "--again",
        metavar="REPORT",
        nargs="?",
        help="in the place of PROMPT: play on from the end of what was made last, or of what a "
        "report (--report-json) is about, with the same model, text and numbers unless others are "
        "typed",
    )
    parser.add_argument(
        "--take", metavar="N", help="with --again: which take of several (default: 1)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=place,
        help="where to write it: .wav, .flac, .ogg or .mp3, here or at an address such as "
        "s3://bucket/x.wav; several variations are numbered "
        "(default: PROMPT-continued.wav, here, or its next free number; with a tempo, a name that "
        "tells bars, BPM and seed)",
        default=argparse.SUPPRESS,
    )
    takes.add_options(parser)
    parser.add_argument(
        "--codec-prompt",
        action="store_true",
        help="write the codec's copy of the prompt instead of your own samples",
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="continue each file of the folder PROMPT on the machines of a Ray cluster, HOST:PORT "
        "of its head or auto; what is made goes into the folder -o (default: this one), and files "
        "that have a report there are done already",
    )
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run `segue continue`."""
    if options.cluster is not None:
        from .cluster import connect  # which says in one line where Ray is missing
        from .continue_folder import continue_folder

        return continue_folder(options, connect)
    play = takes.Run(options)
    prompt: Path = options.prompt
    if options.codec_prompt and options.only:
        raise RequestError("--codec-prompt writes prompt and new part; drop --only")
    request = takes.seeded(request_of(options, prompt, options.variations))
    for line in request.audio.notes:
        warn(line)
    begin = outputs.begin_of(prompt) or "continued"
    with upload_of(options) as upload:
        with naming(prompt):
            paths, note = takes.files_of(options, request, begin, prompt)
        return play(
            lambda model: request,
            paths,
            note=note,
            codec_prompt=options.codec_prompt,
            title=f"{begin}, continued",
            naming=naming(prompt),
            upload=upload,
        )
