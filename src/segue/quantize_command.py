"""`segue quantize`: write a quantized checkpoint to a new folder."""

from __future__ import annotations

import argparse
import shlex
import time
from importlib.metadata import version
from typing import Any

from .atomic import check_new_folder
from .checkpoints.files import CONFIG
from .checkpoints.opening import open_checkpoint
from .checkpoints.recipe import METHODS
from .errors import RequestError
from .model import calibrated
from .options import (
    HelpFormatter,
    adapters_of,
    add_adapter_option,
    add_base_option,
    add_cast_option,
    add_folders,
    add_output_options,
    report_file_of,
)
from .outputs import write_json
from .recipe_options import add_recipe_options, recipe_of
from .terminal import format_size, print_json, print_line, progress_for
from .uploads import Upload, upload_of


def add_parser(commands: Any) -> None:
    """Add `segue quantize`."""
    parser = commands.add_parser(
        "quantize",
        description="Write a quantized checkpoint: a new folder with all that a run needs, which "
        "loads in a fraction of the time and generates what --recipe with the same name would.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add_folders(parser)
    add_base_option(parser)
    add_adapter_option(parser)
    add_cast_option(parser)
    add_recipe_options(parser, switch=False)
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run `segue quantize`."""
    with upload_of(options) as upload:
        if upload is not None:
            upload.check_new()
        return _run(options, upload)


def _run(options: argparse.Namespace, upload: Upload | None) -> int:
    started = time.perf_counter()
    progress = progress_for(not options.no_progress)
    recipe, report_file = recipe_of(options), report_file_of(options)
    if recipe is None and options.cast_dtype is None:
        raise RequestError("--recipe none quantizes nothing; name another, or a --cast-dtype")
    check_new_folder(options.output)
    checkpoint = open_checkpoint(options.model, options.base_model, progress, adapters_of(options))
    # Imported here, because it is MLX that quantizes, whatever engine runs the result.
    from .checkpoints.quantize import save_quantized

    how: dict[str, Any] = {}
    notes: list[str] = []
    if recipe is not None and METHODS[recipe.method]:
        found = calibrated(checkpoint, recipe, options.cast_dtype, "auto", progress)
        how = {"method": found.method, "details": found.details, "trained": found.trained}
        notes = [*found.notes]
    saved = save_quantized(checkpoint, recipe, options.output, options.cast_dtype, progress, **how)
    where = str(saved.folder)
    if upload is not None:
        upload.store(progress, last=(CONFIG,))
        where = upload.address
    seconds = time.perf_counter() - started
    report = {
        "model": options.model,
        "adapters": list(options.adapter),
        "output": where,
        "recipe": recipe.to_json() if recipe else None,
        "cast_dtype": options.cast_dtype,
        "bytes": saved.bytes,
        "quantized_modules": list(saved.quantized),
        "left_modules": list(saved.left),
        "notes": notes,
        "total_s": round(seconds, 4),
        "version": version("segue"),
    }
    if report_file is not None:
        write_json(report_file, report)
    if options.json:
        print_json(report)
        return 0
    print_line(
        f"{where}: {format_size(saved.bytes)}, {len(saved.quantized)} modules quantized, "
        f"in {seconds:.1f} s"
    )
    if saved.left:
        print_line(f"left as they are, for their rows do not fit: {', '.join(saved.left)}")
    for note in notes:
        print_line(f"note: {note}")
    print_line(f"play with it: segue continue PROMPT --model {shlex.quote(where)}")
    return 0
