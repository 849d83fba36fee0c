"""How fast a variant generates, where its time goes, and what it holds in memory: `segue bench`.

The first run and the steady state are kept apart: the first pays for what is compiled, allocated
and looked up once.  Everything of a run is the product's own `continue_audio`.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from .. import audio
from ..audio import Audio
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.opening import open_checkpoint
from ..continuation import continue_audio
from ..model import Model
from ..progress import SILENT, Progress
from ..result import Result
from .machine import is_busy, machine, peak_memory_bytes, versions
from .modules import modules_of
from .requests import BenchRequest, sampling
from .variant import Variant

SCHEMA = 1

RUN_PARTS = (
    "prompt_encode_s",
    "text_encode_s",
    "prefill_s",
    "token_generate_s",
    "decode_full_s",
)

Timings = dict[str, float]


@dataclass(frozen=True)
class Report:
    """What a bench found.  Seconds, bytes, and bytes per second.

    Attributes:
        created: when, ISO 8601 in UTC.
        model, base_model, prompt: as they were given.
        engine, device, dtype: what ran the language model, and in what it computed.
        variant: as `Variant.to_json`.
        timings_s: `model_load_s` (opening, reading, compiling), `cast_dtype_s`, `quantize_s`; of a
            run `RUN_PARTS`, in the median of the steady runs, or of the first if there are no
            others;
            `decode_cont_for_save_s` (cutting the continuation out, or decoding it alone);
            `total_s`, all of that and what lies between.
        speed: of the same runs; `real_time_factor` is seconds of new music per second of
            generating, as `segue continue` has it, `real_time_factor_whole` per second of a run.
        first_run: `timings_s` and `speed` of the first run.
        steady: how many `runs` followed, and their `median`, `min` and `max`; `each` has what one
            took to generate, in their order.  None for none.
        memory: `process_peak_bytes`; `engine_peak_bytes`, what the engine's library held at most
            (MLX counts it, for others None); `weights_bytes` of the language model as the engine
            holds it; `step_weights_bytes`, what of it every decode step reads.
        bits_per_weight: of the layers' and heads' products on average, scales and biases in float16
            included.
        bandwidth_bytes_per_s: what reading those weights at every step comes to.
        modules: names of the `quantized` ones, and of those in scope that were `left`.
        shapes: of the model, the codes and the audio.
        sampling: what was continued, and how tokens were sampled.
        seed: what they were sampled with.
        codes_sha256: of the codes as little-endian int32; alike means that all tokens are.
        audio: the files that were written, `full` and `continuation`; None for none.
        machine, versions: where, and with what.
        notes: for the reader, one line each.
    """

    created: str
    model: str
    base_model: str | None
    prompt: str
    engine: str
    device: str
    dtype: str
    variant: dict[str, Any]
    timings_s: Timings
    speed: Timings
    first_run: dict[str, Timings]
    steady: dict[str, Any] | None
    memory: dict[str, int | None]
    bits_per_weight: float
    bandwidth_bytes_per_s: float
    modules: dict[str, list[str]]
    shapes: dict[str, Any]
    sampling: dict[str, Any]
    seed: int
    codes_sha256: str
    audio: dict[str, str] | None
    machine: dict[str, Any]
    versions: dict[str, str]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return the report as it is written."""
        return {"schema": SCHEMA, **asdict(self)}


@dataclass(frozen=True, eq=False)
class Measured:
    """What came of a bench.

    Attributes:
        report: the figures.
        full: the first run's audio, everything up to the join being the user's own.
        continuation: what follows the join.
    """

    report: Report
    full: Audio
    continuation: Audio


def measure(wanted: BenchRequest, progress: Progress = SILENT) -> Measured:
    """Load a variant, continue the prompt once and then `runs` times more.

    Args:
        wanted: what is measured.
        progress: shown while it runs.

    Raises:
        SegueError: the checkpoint or the prompt cannot be used.
    """
    model, load = _load(wanted, progress)
    first, runs, hashes = _repeat(model, wanted, progress)
    before = time.perf_counter()
    take = first.takes[0]
    continuation = replace(take.audio, samples=take.audio.samples[first.join :])
    if wanted.decode_continuation:
        continuation = _decoded_alone(model, first)
    cut_s = time.perf_counter() - before

    steady = _steady(runs[1:])
    typical = runs[0] if steady is None else _Run(**steady["median"])
    checkpoint = open_checkpoint(wanted.model, wanted.base_model)
    modules = modules_of(checkpoint, wanted.variant.recipe, model.engine)
    step_bytes = modules.step_bytes(bool(wanted.request.text))
    report = Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=wanted.model,
        base_model=wanted.base_model,
        prompt=wanted.prompt,
        engine=model.engine.name,
        device=model.engine.device,
        dtype=model.engine.dtype,
        variant=wanted.variant.to_json(),
        timings_s={
            **load,
            **{part: typical.timings_s[part] for part in RUN_PARTS},
            "decode_cont_for_save_s": cut_s,
            "total_s": sum(load.values()) + typical.timings_s["total_s"] + cut_s,
        },
        speed=typical.speed,
        first_run=asdict(runs[0]),
        steady=steady,
        memory={
            "process_peak_bytes": peak_memory_bytes(),
            "engine_peak_bytes": getattr(model.engine, "peak_memory_bytes", None),
            "weights_bytes": modules.weights_bytes,
            "step_weights_bytes": step_bytes,
        },
        bits_per_weight=modules.bits_per_weight,
        bandwidth_bytes_per_s=step_bytes * typical.speed["steps_per_s"],
        modules={"quantized": modules.quantized, "left": modules.left},
        shapes=_shapes(model, first),
        sampling=sampling(wanted.request) | {"guided": first.guided},
        seed=take.seed,
        codes_sha256=_hash(first),
        audio=None,
        machine=machine(),
        versions=versions(),
        notes=[
            *first.notes,
            *_notes(model, len(hashes), wanted.runs),
            *_needless(checkpoint, wanted.variant),
        ],
    )
    return Measured(report, take.audio, continuation)


@dataclass(frozen=True)
class _Run:
    """What one run took."""

    timings_s: Timings
    speed: Timings


def _load(wanted: BenchRequest, progress: Progress) -> tuple[Model, Timings]:
    """The loaded model, and the seconds of each part of loading."""
    before = time.perf_counter()
    model = wanted.variant.load(wanted.model, wanted.base_model, wanted.engine, progress)
    model.engine.read_weights()
    load_s = time.perf_counter() - before
    spent = model.engine.load_report.seconds
    cast_s, quantize_s = spent.get("cast", 0.0), spent.get("quantize", 0.0)
    return model, {
        "model_load_s": load_s - cast_s - quantize_s,
        "cast_dtype_s": cast_s,
        "quantize_s": quantize_s,
    }


def _repeat(
    model: Model, wanted: BenchRequest, progress: Progress
) -> tuple[Result, list[_Run], set[str]]:
    """The first result, what each run took, and the hashes of all their codes."""
    runs: list[_Run] = []
    hashes: set[str] = set()
    first: Result | None = None
    with progress.stage("bench", 1 + wanted.runs, "runs") as advance:
        for n in range(1 + wanted.runs):
            before = time.perf_counter()
            result = continue_audio(model.engine, wanted.request, progress)
            whole_s = time.perf_counter() - before
            first = first or result
            runs.append(_timed(result, model, whole_s))
            hashes.add(_hash(result))
            advance(n + 1)
    assert first is not None  # noqa: S101 - there is always a first run
    return first, runs, hashes


def _timed(result: Result, model: Model, whole_s: float) -> _Run:
    """Timings and speed of a run that took `whole_s`."""
    new_s = result.new_frames / model.config.codec.frame_rate
    timings = {part: result.timings.get(part, 0.0) for part in RUN_PARTS} | {"total_s": whole_s}
    generate_s = max(1e-9, timings["token_generate_s"])
    speed = {
        "steps_per_s": result.steps / generate_s,
        "ms_per_step": 1000 * generate_s / result.steps,
        "real_time_factor": new_s / generate_s,
        "real_time_factor_whole": new_s / whole_s,
    }
    return _Run(timings, speed)


def _steady(runs: Sequence[_Run]) -> dict[str, Any] | None:
    """Median, least and most of every figure of some runs, see `Report.steady`."""
    if not runs:
        return None

    def over(statistic: Callable[[Sequence[float]], float]) -> dict[str, Timings]:
        each = [asdict(run) for run in runs]
        return {
            kind: {name: statistic([run[kind][name] for run in each]) for name in each[0][kind]}
            for kind in each[0]
        }

    return {
        "runs": len(runs),
        "median": over(statistics.median),
        "min": over(min),
        "max": over(max),
        "each": {"token_generate_s": [run.timings_s["token_generate_s"] for run in runs]},
    }


def _hash(result: Result) -> str:
    return hashlib.sha256(result.takes[0].codes.astype("<i4").tobytes()).hexdigest()


def _decoded_alone(model: Model, result: Result) -> Audio:
    codec, take = model.config.codec, result.takes[0]
    decoded = model.engine.decode(take.codes[:, result.prompt_frames :])
    at_rate = audio.resample(decoded, codec.sample_rate, take.audio.sample_rate)
    samples = audio.to_channels(at_rate, take.audio.channels, take.audio.layout)
    return replace(take.audio, samples=samples)


def _shapes(model: Model, result: Result) -> dict[str, Any]:
    lm, take = model.config.lm, result.takes[0]
    return {
        "layers": lm.num_layers,
        "dim": lm.dim,
        "heads": lm.num_heads,
        "ffn_dim": lm.ffn_dim,
        "cardinality": lm.cardinality,
        "codes": list(take.codes.shape),
        "prompt_frames": result.prompt_frames,
        "new_frames": result.new_frames,
        "steps": result.steps,
        "streams": 2 if result.guided else 1,
        "samples": list(take.audio.samples.shape),
        "sample_rate": take.audio.sample_rate,
        "join_sample": result.join,
    }


def _notes(model: Model, different: int, runs: int) -> list[str]:
    notes = []
    if model.engine.name == "mlx" and model.engine.device == "CPU":
        notes.append(
            "MLX on the CPU computes in float32, whatever the weights are, and its quantized "
            "kernels are slow: which variant is faster here says nothing about a GPU"
        )
    if is_busy():
        notes.append(
            "other work kept the machine busy: times are longer than they would be, and do not "
            "compare well"
        )
    if runs == 0:
        notes.append("one run: the figures include what only a first run pays for")
    if different > 1:
        notes.append(
            f"the runs generated {different} different results, though the seed is the same"
        )
    return notes


def _needless(checkpoint: Checkpoint, variant: Variant) -> list[str]:
    """That a cast changes nothing, where all weights are of that type already."""
    weights = (
        t for name, t in checkpoint.lm.items() if name.endswith(("fc1.weight", "fc2.weight"))
    )
    cast = variant.cast_dtype
    if cast is None or any(tensor.read().dtype.name != cast for tensor in weights):
        return []
    return [f"the checkpoint is stored in {cast}: the cast changes nothing"]
