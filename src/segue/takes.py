"""What `segue continue` and `segue generate` share: load, generate, write the takes, say it."""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from . import again, audio, outputs
from .audio.encode import subtype_of_bits
from .continuation import Request, continue_audio
from .cuts import add_cut_options, audio_of, bars_of, cuts_of, tags_of
from .errors import OutputError, RequestError
from .layout import plan_request
from .model import Model, load
from .options import (
    adapters_of,
    add_activations_option,
    add_adapter_option,
    add_kv_option,
    add_melody_option,
    add_model_options,
    add_request_options,
    add_threads_option,
    report_file_of,
)
from .part_options import add_then_option
from .recipe_options import add_recipe_options, recipe_of
from .take_report import beat_offsets, report_of, show, variant_of, warn
from .terminal import print_json, progress_for
from .time_options import add_bar_options, add_length_options
from .uploads import Upload

_MEASURED = 4
"""Takes whose beats are measured: of more, nobody waits for all."""


def add_options(parser: argparse.ArgumentParser, prompt: bool = True) -> None:
    """Add the options that both commands have.

    Args:
        parser: of the command.
        prompt: whether there is a prompt, whose length and place are options too.
    """
    add_model_options(parser)
    add_adapter_option(parser)
    add_threads_option(parser)
    add_kv_option(parser)
    add_activations_option(parser)
    add_recipe_options(parser)
    add_request_options(parser, prompt, texts=True)
    add_length_options(parser)
    add_then_option(parser)
    add_bar_options(parser, prompt)
    add_melody_option(parser)
    parser.add_argument(
        "--variations",
        type=int,
        help="how many takes, in one batch (default: as many as there are texts, or 1)",
    )
    add_cut_options(parser)


def seeded(request: Request) -> Request:
    """Return a request with a seed, a random one if it had none, so that names can tell it."""
    return replace(request, seed=secrets.randbelow(2**31)) if request.seed is None else request


def files_of(
    options: argparse.Namespace, request: Request, begin: str, prompt: Path | None = None
) -> tuple[list[Path], str | None]:
    """Return the files of a request, each cut of each take, checked before anything long begins.

    Args:
        options: parsed, of `add_options`, and of `-o`.
        request: with a seed.
        begin: of names that tell what is in the files.
        prompt: a file that must stay, if any.

    Returns:
        The files, and a note for the user where a plain name was taken.

    Raises:
        AudioError: a format is not known, or cannot hold the sound.
        OutputError: a file cannot be written there.
        RequestError: options contradict each other.
    """
    cuts, output = cuts_of(options), getattr(options, "output", None)
    if output is not None and options.format is not None:
        raise RequestError(f"-o {output} and --format both say what is written; drop one")
    ending, note = f".{options.format or 'wav'}", None
    if output is not None:
        audio.check_output(output, request.audio)
        paths = outputs.of_cuts(output, request.variations, cuts, request.texts)
    elif request.timing is not None:
        plan, rate = plan_request(request), request.audio.sample_rate
        bars: dict[str, float] = {
            cut: bars_of(plan, cut, request.timing.grid, rate) for cut in cuts
        }
        seeds = [(request.seed or 0) + n for n in range(request.variations)]
        paths = outputs.telling(begin, bars, request.timing.grid.bpm, seeds, ending)
    else:
        if prompt is None:
            plain, note = outputs.next_free(
                Path(f"{begin}{ending}"), request.variations, cuts, request.texts
            )
        else:
            plain, note = outputs.default(prompt, request.variations, cuts, ending, request.texts)
        paths = outputs.of_cuts(plain, request.variations, cuts, request.texts)
    if options.bits is not None:
        for path in paths:
            subtype_of_bits(path, options.bits)
    return outputs.checked(paths, request.audio, prompt), note


class Run:
    """One run of a command, from its options to its exit code.

    Options that cannot be are refused when it is made, before anything long begins.

    Args:
        options: parsed, of `add_options` and `add_output_options`.

    Raises:
        RequestError: options contradict each other.
        OutputError: the report cannot be written where it should be.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._started = time.perf_counter()
        self._options = options
        self._progress = progress_for(not options.no_progress)
        self._recipe, self._adapters = recipe_of(options), adapters_of(options)
        self._report_file = report_file_of(options)

    def __call__(
        self,
        request_for: Callable[[Model], Request],
        paths: Sequence[Path],
        *,
        note: str | None = None,
        codec_prompt: bool = False,
        title: str = "",
        naming: AbstractContextManager[None] | None = None,
        upload: Upload | None = None,
    ) -> int:
        """Load, generate, write, report.

        Args:
            request_for: the request, once the model is loaded.
            paths: of each cut of each take; see `files_of`.
            note: what is to be known of these, for the report.
            codec_prompt: whether the codec's copy of the prompt is written.
            title: of the music, for the files' tags; empty for each take's text.
            naming: what errors of generating are named in.
            upload: what stores the files, where their address was named.

        Returns:
            The exit code.

        Raises:
            OutputError: the files cannot be written, or cannot be stored, and are kept here.
        """
        options, progress = self._options, self._progress
        before = time.perf_counter()
        model = load(
            options.model,
            base_model=options.base_model,
            engine=options.engine,
            threads=options.threads,
            kv_bits=options.kv_bits,
            activations=options.activations,
            cast_dtype=options.cast_dtype,
            recipe=self._recipe,
            adapters=self._adapters,
            progress=progress,
        )
        timings = {"model_load_s": time.perf_counter() - before}
        request = request_for(model)
        with naming or nullcontext():
            result = continue_audio(model.engine, request, progress)
        timings |= result.timings
        before = time.perf_counter()
        made = [(take, cut) for take in result.takes for cut in cuts_of(options)]
        notes = list(result.notes)
        with progress.stage("write", len(paths)) as advance:
            for n, ((take, cut), path) in enumerate(zip(made, paths, strict=True), 1):
                sound = take.played if codec_prompt else audio_of(take, result, cut)
                if options.bits is not None:
                    sound = replace(sound, subtype=subtype_of_bits(path, options.bits))
                named = title or take.text.strip() or "generated"
                tags = tags_of(take, result, cut, named, model.name, take.text)
                for line in audio.write(path, sound, tags):
                    warn(line)
                    notes.append(line)
                advance(n)
        unstored: OutputError | None = None
        if upload is not None:
            try:
                upload.store(progress)
            except OutputError as error:
                unstored = error  # said at the end: there is a report of what is kept here
        stored = upload is not None and unstored is None
        timings["write_s"] = time.perf_counter() - before
        timings["total_s"] = time.perf_counter() - self._started
        report = report_of(model, request, result, timings)
        measured = {
            take.seed: beat_offsets(take, result, progress) for take in result.takes[:_MEASURED]
        }
        report["outputs"] = [
            {
                "path": upload.address_of(path) if upload and stored else str(path),
                "seed": take.seed,
                "cut": cut,
                "seconds": round(audio_of(take, result, cut).seconds, 6),
                "beat_offsets": measured.get(take.seed),
                "text": take.text,
            }
            for (take, cut), path in zip(made, paths, strict=True)
        ]
        report |= variant_of(model, options.cast_dtype, self._recipe)
        report["adapters"] = list(options.adapter)
        report["base_model"], report["kv_bits"] = options.base_model, options.kv_bits
        report["activations"] = options.activations
        report["melody"] = None if options.melody is None else str(options.melody)
        report["notes"] = notes if note is None else [*notes, note]
        if self._report_file is not None:
            outputs.write_json(self._report_file, report)
        again.remember(report)
        if options.json:
            print_json(report)
        else:
            show(report, [note for note in result.notes if note not in request.audio.notes])
        if unstored is not None:
            raise unstored
        return 0
