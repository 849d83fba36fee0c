"""What segue makes of the same inputs, and how far it is from the reference.  Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from segue import load
from segue.engine.base import Engine, Sampling
from segue.engine.chroma import chroma
from segue.pattern import UNKNOWN, delay, first_unknown, undelay

TEXT = "drums piano fast slow"
ENGINES = ("mlx", "native", "openvino")
GREEDY = Sampling(top_k=1)
GREEDY_GUIDED = Sampling(top_k=1, guidance_coef=3.0)


@dataclass(frozen=True)
class Row:
    """One comparison: what was found, and what it may be at most (or at least, for shares)."""

    what: str
    found: float
    bound: float
    at_least: bool = False

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return self.found >= self.bound if self.at_least else self.found <= self.bound


def compare(folder: Path, reference: Mapping[str, np.ndarray], engine: str = "mlx") -> list[Row]:
    """The whole model in `folder` on an engine beside the reference's outputs."""
    return rows_of(load(str(folder), engine=engine).engine, reference)


def rows_of(engine: Any, reference: Mapping[str, np.ndarray]) -> list[Row]:
    """An engine beside the reference's outputs."""
    conditioning = engine.condition(TEXT)
    sequence = reference["sequence"].astype(np.int32)
    encoder, tokenizer = engine.text_encoder
    ids = tokenizer.encode(TEXT).ids
    hidden = text_hidden(engine, encoder, ids)
    codes = engine.encode(reference["samples"])
    decoded = engine.decode(reference["codes"])
    return [
        Row("token ids that differ", float((np.array(ids) != reference["ids"]).sum()), 0),
        Row("T5, largest difference", _furthest(hidden, reference["text_hidden"]), 1e-4),
        Row(
            "LM with text, prefill",
            _furthest(engine.logits(sequence, conditioning), reference["logits_text"]),
            1e-4,
        ),
        Row(
            "LM with text, stepwise",
            _furthest(stepwise_logits(engine, sequence, conditioning), reference["logits_text"]),
            1e-4,
        ),
        Row(
            "LM without text, prefill",
            _furthest(engine.logits(sequence), reference["logits_no_text"]),
            1e-4,
        ),
        Row(
            "LM without text, stepwise",
            _furthest(stepwise_logits(engine, sequence, None), reference["logits_no_text"]),
            1e-4,
        ),
        Row(
            "greedy codes, guided, that differ",
            _differing(
                play(engine, reference, conditioning, GREEDY_GUIDED), reference["greedy_text"]
            ),
            0,
        ),
        Row(
            "greedy codes, no text, that differ",
            _differing(play(engine, reference, None, GREEDY), reference["greedy_no_text"]),
            0,
        ),
        Row("EnCodec, share of equal codes", _same(codes, reference["audio_codes"]), 0.999, True),
        Row("EnCodec, decoded samples", _furthest(decoded, reference["decoded"]), 1e-4),
    ]


def melody_rows(engine: Any, reference: Mapping[str, np.ndarray]) -> list[Row]:
    """An engine with a melody model beside the reference's outputs."""
    sequence = reference["sequence"].astype(np.int32)
    ids = engine.text_encoder[1].encode(TEXT).ids
    heard = chroma(reference["melody"], 32_000, engine.config.lm.melody).argmax(axis=1)
    rows = [
        Row("token ids that differ", float((np.array(ids) != reference["ids"]).sum()), 0),
        Row("pitch classes that differ", _differing(heard, reference["chroma"]), 0),
    ]
    for name, melody in (("melody", reference["melody"]), ("text", None)):
        conditioning = engine.condition(TEXT, melody)
        logits = engine.logits(sequence, conditioning)
        played = play(engine, reference, conditioning, GREEDY_GUIDED, f"greedy_{name}")
        rows += [
            Row(f"LM with {name}", _furthest(logits, reference[f"logits_{name}"]), 1e-4),
            Row(
                f"greedy codes with {name}, guided, that differ",
                _differing(played, reference[f"greedy_{name}"]),
                0,
            ),
        ]
    return rows


def text_hidden(engine: Engine, encoder, ids: list[int]) -> np.ndarray:
    """The text encoder's output `(L, dim)`."""
    if engine.name != "mlx":
        return encoder(np.array(ids))[0]
    return np.array(encoder(mx.array([ids])))[0]


def play(
    engine: Engine,
    reference: Mapping[str, np.ndarray],
    conditioning,
    sampling: Sampling,
    to: str = "greedy_text",
) -> np.ndarray:
    """Codes `(K, F)` of the reference's prompt continued to its length, greedily."""
    prompt = reference["prompt"]
    K, known = prompt.shape
    codes = np.full((K, reference[to].shape[1]), UNKNOWN, np.int32)
    codes[:, :known] = prompt
    lm = engine.config.lm
    sequence = delay(codes, lm.delays, lm.special_token)
    columns = list(engine.prefill(sequence[None], (0,), sampling, conditioning))
    sequence[:, first_unknown(sequence) :] = np.stack([c[0] for c in columns], axis=1)
    return undelay(sequence, lm.delays)


def stepwise_logits(engine: Any, sequence: np.ndarray, conditioning) -> np.ndarray:
    """Logits `(S, K, V)` of a known sequence, one position at a time."""
    lm = engine.lm
    if engine.name == "openvino":
        run, row = lm.run(conditioning), np.zeros(1, np.int32)
        steps = [run(lm.embed(c[None, None], n), row) for n, c in enumerate(sequence.T)]
        return np.concatenate(steps).reshape(sequence.shape[1], len(sequence), -1)
    if engine.name == "native":
        from segue.engine.native.lm import Cache, Rows  # where there is OpenVINO alone

        text, _ = engine.attended(conditioning)
        cache = Cache(engine.native, sequence.shape[1])
        steps = [
            engine.native.run([Rows(cache, engine.native.embed(c[None], n), text)])
            for n, c in enumerate(sequence.T)
        ]
        return np.concatenate(steps).reshape(sequence.shape[1], len(sequence), -1)
    cache = lm.empty_cache(1, sequence.shape[1])
    found = []
    for n, column in enumerate(sequence.T):
        hidden, cache = lm(mx.array(column)[None, None], n, cache, conditioning)
        found.append(np.array(lm.logits(hidden)[0, 0]))
    return np.stack(found)


def _furthest(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max())


def _differing(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float((ours != theirs).sum()) if ours.shape == theirs.shape else float("inf")


def _same(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float((ours == theirs).mean())
