"""Music, in a process of its own that holds the models ready."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ... import audio
from ...atomic import replacing, sync_folder
from ...audio import Audio
from ...audio.encode import count_beyond, limited, new_wav
from ...continuation import Continuation, Request
from ...preview import Preview
from ..jobs.admission import cut
from .__main__ import Line, Told
from .model_cache import Asked, Loaded, Ready
from .quantized_cache import Variants, unfinished


class Player:
    """The tasks `play` and `warm`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        variants = Path(settings["variants"])
        unfinished(variants)
        self._loaded = Loaded(
            settings["engine"],
            settings["threads"],
            Variants(variants, settings["max_variants_bytes"]),
            settings["max_loaded_bytes"] or _half_of_memory(),
        )

    def warm(self, task: dict[str, Any], line: Line) -> dict[str, Any]:
        """`{source, base, quantization, recipe, demanded}`: load, and say what runs it."""
        ready = self._loaded.get(Asked.of(task), Told(line))
        return _described(ready)

    def play(self, task: dict[str, Any], line: Line) -> dict[str, Any]:
        """As `warm`, with `{input, folder, request}`: play on, and write the takes.

        Args:
            task: `input` is a WAV of the store's; `folder` is where takes and preview go; `request`
                has `start` (seconds, or None for the end), `prompt_seconds`, `output_seconds`,
                `text`, `top_k`, `temperature`, `guidance_coef`, `seed`, `variations`, and
                `notes` on the audio.
            line: told of all that takes time.

        Raises:
            SegueError: one line; the audio or the options do not do.
        """
        progress = Told(line)
        asked = Asked.of(task)
        before = time.perf_counter()
        was_loaded = self._loaded.has(asked)
        ready = self._loaded.get(asked, progress)
        load_s = time.perf_counter() - before
        line.check()
        line.tell(playing=True, **_described(ready))
        request = _request(Path(task["input"]), task["request"])
        folder = Path(task["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        before = time.perf_counter()
        continuation = Continuation(ready.model.engine, request, progress)
        preview = _PreviewFiles(ready, continuation, request.audio, folder)
        for _ in continuation.frames():
            line.check()
            if line.listening.is_set() and (samples := preview.write(continuation.codes)):
                line.tell(preview=samples)
        result = continuation.result()
        line.check()
        takes = []
        notes = [*task["request"].get("notes", ()), *result.notes]
        with progress.stage("write", len(result.takes), "takes") as advance:
            for n, take in enumerate(result.takes):
                path = folder / f"take-{n + 1}.wav"
                beyond = _write(path, take.audio)
                if beyond:
                    said = limited(beyond, take.audio.samples.size)
                    notes.append(f"take {n + 1}: {said}")
                frames, size = len(take.audio.samples), path.stat().st_size
                takes.append(
                    {"seed": take.seed, "file": path.name, "frames": frames, "bytes": size}
                )
                advance(n + 1)
        sync_folder(folder.parent)
        return {
            **_described(ready),
            "takes": takes,
            "sample_rate": request.audio.sample_rate,
            "channels": request.audio.channels,
            "join": result.join,
            "new_seconds": result.new_frames / ready.model.config.codec.frame_rate,
            "notes": notes,
            "load_s": None if was_loaded else load_s,
            "play_s": time.perf_counter() - before,
            "timings_s": {name: round(s, 4) for name, s in result.timings.items()},
        }


def _described(ready: Ready) -> dict[str, Any]:
    engine = ready.model.engine
    return {
        "engine": engine.name,
        "device": engine.device,
        "quantization": ready.quantization,
    }


def _request(path: Path, request: dict[str, Any]) -> Request:
    """What is asked of the audio in a file of the store's.

    Raises:
        RequestError: it ends before the prompt would start.
    """
    file = soundfile.info(path)
    kept = cut(file.frames, file.samplerate, request["start"], request["prompt_seconds"])
    return Request(
        audio.read(path, kept.frames / file.samplerate),
        prompt_seconds=kept.prompt_seconds,
        output_seconds=request["output_seconds"],
        prompt_from=kept.prompt_from,
        text=request["text"],
        top_k=request["top_k"],
        temperature=request["temperature"],
        guidance_coef=request["guidance_coef"],
        seed=request["seed"],
        variations=request["variations"],
    )


class _PreviewFiles:
    """What is heard before it is done: a file of 16-bit samples for each take, which grows."""

    def __init__(
        self, ready: Ready, continuation: Continuation, heard: Audio, folder: Path
    ) -> None:
        self._preview = Preview(
            ready.model.engine,
            continuation.prompt_codes.shape[1],
            heard.sample_rate,
            heard.channels,
            heard.layout,
        )
        self._folder = folder
        self._samples = 0

    def write(self, codes: np.ndarray) -> int:
        """Write what can be heard by now; the samples that there are, 0 if none are new."""
        new = self._preview.more(codes)
        if new is None:
            return 0
        for n, take in enumerate(new):
            with (self._folder / f"preview-{n + 1}.s16").open("ab") as file:
                file.write(_int16(take).tobytes())
        self._samples += new.shape[1]
        return self._samples


def _write(path: Path, take: Audio) -> int:
    """16-bit WAV; what came in with 16 bits goes out as it was.

    Returns:
        How many samples were beyond full scale, and are limited to it.
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


_BLOCK = 1 << 20


def _int16(samples: np.ndarray) -> np.ndarray:
    clipped: np.ndarray = np.clip(np.rint(samples * 32_768), -32_768, 32_767).astype("<i2")
    return clipped


def _half_of_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
