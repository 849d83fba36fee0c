"""`segue merge`: write a model with its adapters in the Hugging Face layout."""

from __future__ import annotations

import argparse
import shlex
import time
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from .atomic import check_new_folder
from .checkpoints.files import CONFIG
from .checkpoints.opening import open_checkpoint
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
from .terminal import format_size, print_json, print_line, progress_for
from .uploads import Upload, upload_of


def add_parser(commands: Any) -> None:
    """Add `segue merge`."""
    parser = commands.add_parser(
        "merge",
        description="Write a checkpoint with adapters merged into its weights: a new folder in the "
        "Hugging Face layout, for segue, transformers and all that reads it. Without --adapter, it "
        "turns any layout into that one.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    add_folders(parser)
    add_base_option(parser)
    add_adapter_option(parser)
    add_cast_option(parser)
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run `segue merge`."""
    with upload_of(options) as upload:
        if upload is not None:
            upload.check_new()
        return _run(options, upload)


def _run(options: argparse.Namespace, upload: Upload | None) -> int:
    started = time.perf_counter()
    progress = progress_for(not options.no_progress)
    adapters, report_file = adapters_of(options), report_file_of(options)
    check_new_folder(options.output)
    checkpoint = open_checkpoint(options.model, options.base_model, progress, adapters)
    # Imported here, because MLX takes a while, and most commands do without.
    from .checkpoints.hugging_face import save_hugging_face

    saved = save_hugging_face(checkpoint, options.output, options.cast_dtype, progress)
    where = str(saved.folder)
    if upload is not None:
        upload.store(progress, last=(CONFIG,))
        where = upload.address
    report = {
        "model": options.model,
        "adapters": [asdict(adapter) for adapter in adapters],
        "output": where,
        "cast_dtype": options.cast_dtype,
        "bytes": saved.bytes,
        "total_s": round(time.perf_counter() - started, 4),
        "version": version("segue"),
    }
    if report_file is not None:
        write_json(report_file, report)
    if options.json:
        print_json(report)
        return 0
    print_line(f"{where}: {format_size(saved.bytes)}, in {report['total_s']:.1f} s")
    print_line(f"play with it: segue continue PROMPT --model {shlex.quote(where)}")
    return 0
