"""What segue makes of AudioCraft's checkpoints, beside what AudioCraft made.  Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from segue import load
from segue.audio import Audio
from segue.checkpoints import hub
from segue.checkpoints.config import HIDDEN_DIMS_OF_T5
from segue.continuation import Continuation, Request
from segue.engine.chroma import features

from .compare import TEXT, Row

WIDTH = 32
"""Of the small text encoders that stand for all of them."""


@contextmanager
def text_encoder_at(folder: Path) -> Iterator[None]:
    """Let segue find the text encoder of every name in `folder`."""
    locate = hub.locate

    def found(name: str, *args: object, **options: object) -> Path:
        return folder if name in HIDDEN_DIMS_OF_T5 else locate(name, *args, **options)  # type: ignore[arg-type]

    with (
        mock.patch.object(hub, "locate", found),
        mock.patch.dict(HIDDEN_DIMS_OF_T5, dict.fromkeys(HIDDEN_DIMS_OF_T5, WIDTH)),
    ):
        yield


def rows(
    folder: Path,
    text_folder: Path,
    reference: Mapping[str, np.ndarray],
    engine_name: str,
) -> list[Row]:
    """A checkpoint on an engine, beside what AudioCraft made of it."""
    with text_encoder_at(text_folder):
        engine = load(str(folder), engine=engine_name).engine
        found = []
        tune = reference.get("melody")
        given: dict[str, tuple[str, np.ndarray | None]]
        given = {"text": (TEXT, None), "no_text": ("", None)}
        if tune is not None:
            given |= {"melody": (TEXT, tune), "melody_alone": ("", tune)}
            heard = features(tune, engine.config.codec.sample_rate, engine.config.lm.melody)
            furthest = float(np.abs(heard - reference["chroma"]).max())
            found.append(Row("features of the melody", furthest, 1e-4))
        for name, (text, melody) in given.items():
            conditioned = bool(text) or melody is not None
            conditioning = engine.condition(text, melody) if conditioned else None
            logits = engine.logits(reference[f"sequence_{name}"].astype(np.int32), conditioning)
            furthest = float(np.abs(logits - reference[f"logits_{name}"]).max())
            found.append(Row(f"logits, {name}", furthest, 1e-4))
            played = _play(engine, reference, text, melody)
            theirs = reference[f"greedy_{name}"]
            differ = float((played != theirs).sum()) if played.shape == theirs.shape else np.inf
            found.append(Row(f"greedy codes that differ, {name}", differ, 0))
    codes = engine.encode(reference["samples"])
    decoded = engine.decode(reference["audio_codes"].astype(np.int32))
    differ = float((codes != reference["audio_codes"]).sum())
    found.append(Row("codes of samples that differ", differ, 0))
    furthest = float(np.abs(decoded - reference["decoded"]).max())
    found.append(Row("decoded samples", furthest, 1e-4))
    return found


def _play(
    engine: Any, reference: Mapping[str, np.ndarray], text: str, melody: np.ndarray | None
) -> np.ndarray:
    """The codes `(K, F)` of the whole request, greedily, with the reference's prompt."""
    codec, prompt = engine.config.codec, reference.get("prompt")
    frames = 0 if prompt is None else prompt.shape[1]
    channels = engine.config.lm.audio_channels
    noise = np.random.default_rng(0).standard_normal((frames * codec.hop_length, channels))
    request = Request(
        Audio(0.1 * noise.astype(np.float32), codec.sample_rate),
        prompt_seconds=frames / codec.frame_rate,
        output_seconds=float(reference["duration"]),
        text=text,
        top_k=1,
        extend_stride=float(reference["extend_stride"]) or None,
        seed=0,
        melody=None if melody is None else Audio(melody, codec.sample_rate),
    )
    known = None if prompt is None else prompt.astype(np.int32)
    with mock.patch.object(engine, "encode", return_value=known):
        continuation = Continuation(engine, request)
        for _ in continuation.frames():
            pass
    return continuation.codes[0]
