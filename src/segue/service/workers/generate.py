"""Generation, in a process of its own that keeps models loaded."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ... import audio
from ...atomic import replacing, sync_folder
from ...audio import Audio
from ...audio.encode import count_beyond, limited, new_wav
from ...channel import Message
from ...checkpoints.adapters import AdapterChoice
from ...continuation import Continuation
from ...engine.base import Engine
from ...engine.shared import SharedEngine
from ...layout import plan_request
from ...preview import Preview
from ...progress import Progress
from ...result import Result
from ..devices import half_of_memory
from ..jobs.spec import JobSpec
from .model_cache import LoadedModel, ModelCache, ModelSpec, mlx_bytes
from .quantized_cache import QuantizedCache
from .task_loop import TaskChannel

_BLOCK = 1 << 20
"""Frames of a take that are converted and written at a time."""


class Generator:
    """The tasks `generate` and `load`, over models that stay loaded.

    Args:
        settings: `engine` and `threads` (see `segue.load`), `quantized_folder` and
            `max_quantized_bytes` (see `QuantizedCache`), `max_loaded_bytes` of memory for
            models, or None for half of this machine's, of which a task's `room` says what is left
            by other workers; `batch_rows` (see `ModelCache`); and `workers`, which share the
            memory for such rows.

    Several threads may run a task each: those with the same model share its steps.
    """

    def __init__(self, settings: Message) -> None:
        quantized = QuantizedCache(
            Path(settings["quantized_folder"]), settings["max_quantized_bytes"]
        )
        quantized.remove_unfinished()
        budget = settings["max_loaded_bytes"] or half_of_memory()
        self._models = ModelCache(
            settings["engine"],
            settings["threads"],
            quantized,
            budget,
            settings.get("batch_rows", 1),
            budget // 2 // settings.get("workers", 1),
        )
        self._loading = threading.Lock()

    def load(self, task: Message, channel: TaskChannel) -> Message:
        """Load a model, so that the first request need not wait for it.

        Args:
            task: `spec`, a `JobSpec` as JSON; `source`, `base` and `adapters` of its model, see
                `ModelSpec`; `room`, bytes that loaded models may take, where others share the
                memory.
            channel: takes the progress.

        Returns:
            See `LoadedModel.describe`; `held`, see `ModelCache`; and `memory`, see `mlx_bytes`.

        Raises:
            SegueError: one line; the model cannot be used.
        """
        _, model = _read(task)
        loaded, _ = self._load(model, channel, task.get("room"))
        return {**loaded.describe(), "held": self._models.held(), "memory": mlx_bytes()}

    def drop(self, task: Message, channel: TaskChannel) -> Message:
        """Drop a loaded model, to make room for one of another worker.

        Args:
            task: `model`, its tag, see `model_tag`.
            channel: of the task.
        """
        with self._loading:
            self._models.drop(task["model"])
        return {}

    def _load(
        self, model: ModelSpec, channel: TaskChannel, room: int | None
    ) -> tuple[LoadedModel, float | None]:
        """A loaded model, and how many seconds loading it took; None if it was there."""
        started = time.perf_counter()
        while not self._loading.acquire(timeout=0.1):
            channel.check()
        try:
            was_loaded = model in self._models
            loaded = self._models.get(model, channel.progress(), room)
        finally:
            self._loading.release()
        return loaded, None if was_loaded else time.perf_counter() - started

    def generate(self, task: Message, channel: TaskChannel) -> Message:
        """Continue audio, and write the takes.

        Sends `{"generating": true, ...}`, with what `load` returns, when the model is there; and
        `{"preview": samples}` as previews grow on disk, while somebody listens.

        Args:
            task: what `load` takes, and `input`, a WAV of the store's, or, without a prompt,
                `sound`, the rate and the channels of the result; `melody`, another one or None;
                `folder`, where takes and previews go.
            channel: takes the progress.

        Returns:
            What `load` returns, and the takes, how they were made, and how long it took.

        Raises:
            SegueError: one line; the audio or the parameters cannot be used.
        """
        progress = channel.progress()
        spec, model = _read(task)
        loaded, load_s = self._load(model, channel, task.get("room"))
        channel.check()
        channel.send(
            generating=True, **loaded.describe(), held=self._models.held(), memory=mlx_bytes()
        )
        request = spec.request(*_sounds(task, spec))
        folder = Path(task["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob("preview-*"):  # of a worker that was ended
            unfinished.unlink()
        started, fill = time.perf_counter(), _Fill(loaded.engine)
        continuation = Continuation(loaded.engine, request, progress)
        preview = _PreviewFiles(loaded, continuation, request.audio, folder)
        for _ in continuation.frames():
            channel.check()
            if channel.listening.is_set() and (samples := preview.write(continuation.codes)):
                channel.send(preview=samples)
        rows = fill.mean(spec.rows)
        result = continuation.result()
        channel.check()
        takes, limited_notes = _write_takes(folder, result, progress)
        frame_rate = loaded.model.config.codec.frame_rate
        return {
            **loaded.describe(),
            "takes": takes,
            "sample_rate": request.audio.sample_rate,
            "channels": request.audio.channels,
            "join": result.join,
            "first": plan_request(request, frame_rate).first,
            "loop": result.loop,
            "grid": None if result.grid is None else asdict(result.grid),
            "parts": [asdict(part) for part in result.parts],
            "new_seconds": result.new_frames / frame_rate,
            "notes": [*spec.notes, *result.notes, *limited_notes],
            "load_s": load_s,
            "play_s": time.perf_counter() - started,
            "timings_s": {name: round(s, 4) for name, s in result.timings.items()},
            "batch_rows": rows,
            "memory": mlx_bytes(),
        }


class _Fill:
    """How full the steps were that ran since this was made.

    Args:
        engine: that runs them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine if isinstance(engine, SharedEngine) else None
        self._before = self._now()

    def _now(self) -> tuple[int, int]:
        return (self._engine.steps, self._engine.rows_run) if self._engine else (0, 0)

    def mean(self, alone: int) -> float:
        """Rows of a step; `alone` where steps are not shared."""
        (steps, rows), (steps_before, rows_before) = self._now(), self._before
        ran = steps - steps_before
        return (rows - rows_before) / ran if ran else float(alone)


def _read(task: Message) -> tuple[JobSpec, ModelSpec]:
    spec = JobSpec.from_json(task["spec"])
    adapters = tuple(AdapterChoice(*each) for each in task.get("adapters", ()))
    return spec, ModelSpec(task["source"], task["base"], spec.quantization, adapters)


def _sounds(task: Message, spec: JobSpec) -> tuple[Audio, Audio | None]:
    """The audio of a job, of no length without a prompt, and its melody."""
    if spec.prompted:
        prompt = audio.read(task["input"], spec.audio_seconds)
    else:
        sample_rate, channels = task["sound"]
        prompt = Audio(np.zeros((0, channels), np.float32), sample_rate)
    melody = task.get("melody")
    return prompt, None if melody is None else audio.read(
        melody, spec.prompt_seconds + spec.new_seconds
    )


def _write_takes(
    folder: Path, result: Result, progress: Progress
) -> tuple[list[Message], list[str]]:
    """Write all takes; return what the store keeps of each, and notes on their samples."""
    written, notes = [], []
    with progress.stage("write", len(result.takes), "takes") as advance:
        for n, take in enumerate(result.takes):
            path = folder / f"take-{n + 1}.wav"
            beyond = write_take(path, take.audio)
            if beyond:
                notes.append(f"take {n + 1}: {limited(beyond, take.audio.samples.size)}")
            new = folder / f"new-{n + 1}.wav"
            _write_floats(new, take.audio, result.join)
            frames, size = len(take.audio.samples), path.stat().st_size + new.stat().st_size
            written.append(
                {
                    "seed": take.seed,
                    "file": path.name,
                    "new": new.name,
                    "frames": frames,
                    "bytes": size,
                }
            )
            advance(n + 1)
    sync_folder(folder.parent)
    return written, notes


class _PreviewFiles:
    """Sound before all of it is generated: for each take a file of 16-bit samples that grows."""

    def __init__(
        self, loaded: LoadedModel, continuation: Continuation, prompt: Audio, folder: Path
    ) -> None:
        self._preview = Preview(
            loaded.engine,
            continuation.prompt_codes.shape[1],
            prompt.sample_rate,
            prompt.channels,
            prompt.layout,
        )
        self._folder = folder
        self._samples = 0

    def write(self, codes: np.ndarray) -> int:
        """Write what can be decoded by now; return samples per take so far, 0 if none are new."""
        new = self._preview.more(codes)
        if new is None:
            return 0
        for n, take in enumerate(new):
            with (self._folder / f"preview-{n + 1}.s16").open("ab") as file:
                file.write(_int16(take).tobytes())
        self._samples += new.shape[1]
        return self._samples


def write_take(path: Path, take: Audio) -> int:
    """Write a take as a 16-bit WAV, whole or not at all; 16-bit input comes out unchanged.

    Args:
        path: of the file.
        take: samples of any range.

    Returns:
        How many samples were beyond full scale, and are limited to it.

    Raises:
        OSError: it cannot be written.
    """
    beyond = 0
    with (
        replacing(path, durable=True) as temporary,
        new_wav(temporary, take.sample_rate, take.channels, "PCM_16", take.layout) as file,
    ):
        for start in range(0, len(take.samples), _BLOCK):
            block = take.samples[start : start + _BLOCK]
            beyond += count_beyond(block)
            file.write(_int16(block))
    return beyond


def _write_floats(path: Path, take: Audio, start: int) -> None:
    """Write a take from the sample `start` on as a WAV of floats, whole or not at all."""
    with (
        replacing(path, durable=True) as temporary,
        new_wav(temporary, take.sample_rate, take.channels, "FLOAT", take.layout) as file,
    ):
        file.write(take.samples[start:])


def _int16(samples: np.ndarray) -> np.ndarray:
    clipped: np.ndarray = np.clip(np.rint(samples * 32_768), -32_768, 32_767).astype("<i2")
    return clipped
