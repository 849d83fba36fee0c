"""Compare a small continuation with its known codes: does this machine compute what others do?

    python -m segue.doctor.self_test      # rewrites expected.npz, after the checkpoint changed

The built-in checkpoint continues a synthetic prompt greedily, so that neither sampling nor a
downloaded file matters.  A machine that rounds differently may choose another token where two are
almost equally likely, and its codes differ from there on; so the result depends on the two parts
without feedback: the codes of the prompt, and the likeliest token after each column of the
expected continuation.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from .. import pattern
from ..checkpoints.hub import BUILT_IN
from ..continuation import Request, continue_audio
from ..demo.prompt import band
from ..engine.base import Engine
from ..errors import SegueError
from ..model import load

PROMPT_SECONDS, OUTPUT_SECONDS = 2.0, 3.0
ENOUGH = 0.97
"""The share of the prompt's codes, and of the likeliest tokens, that must be the expected ones.

float32 engines match all of them on every machine tried; float16 on a GPU may miss a few.
"""

EXPECTED = "expected.npz"


@dataclass(frozen=True)
class SelfTest:
    """The result of one engine's self-test.

    Attributes:
        engine: `"mlx"`, `"native"` or `"openvino"`.
        device: the device it ran on.
        dtype: the type that the language model was computed in.
        load_seconds: to load the built-in checkpoint.
        run_seconds: to continue the prompt.
        prompt_codes: share of the prompt's codes that are the expected ones, 0 to 1.
        likeliest_tokens: share of the likeliest tokens that are the expected ones, 0 to 1.
        first_other_frame: the first of the continuation's frames that is not the expected one;
            None if all are.
        error: one line if it failed.
    """

    engine: str
    device: str = ""
    dtype: str = ""
    load_seconds: float = 0.0
    run_seconds: float = 0.0
    prompt_codes: float = 0.0
    likeliest_tokens: float = 0.0
    first_other_frame: int | None = None
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Whether enough codes and tokens are the expected ones."""
        return self.error is None and min(self.prompt_codes, self.likeliest_tokens) >= ENOUGH


def run(engine: str) -> SelfTest:
    """Continue the known prompt on `engine`.

    Returns:
        The result, with `error` set if it failed; nothing is raised.
    """
    try:
        started = time.perf_counter()
        model = load(BUILT_IN, engine=engine)
        loaded = time.perf_counter()
        codes, prompt_frames = _continue(model.engine)
        done = time.perf_counter()
        expected = expected_codes()
        prompt, expected_prompt = codes[:, :prompt_frames], expected[:, :prompt_frames]
        new, expected_new = codes[:, prompt_frames:], expected[:, prompt_frames:]
        other = (new != expected_new).any(axis=0)
        return SelfTest(
            engine,
            model.engine.device,
            model.engine.dtype,
            loaded - started,
            done - loaded,
            float((prompt == expected_prompt).mean()),
            _agreement(model.engine, expected, prompt_frames),
            int(other.argmax()) if other.any() else None,
        )
    except SegueError as error:
        return SelfTest(engine, error=str(error))
    except Exception as error:  # a library that does not load, an old driver, ...
        line = str(error).strip().splitlines()
        return SelfTest(engine, error=f"{type(error).__name__}: {line[0] if line else ''}")


def _continue(engine: Engine) -> tuple[np.ndarray, int]:
    """The codes `(K, F)` of the greedy continuation, and the number of frames of the prompt."""
    request = Request(
        band(),
        prompt_seconds=PROMPT_SECONDS,
        output_seconds=OUTPUT_SECONDS,
        top_k=1,
        seed=0,
    )
    result = continue_audio(engine, request)
    return result.takes[0].codes, result.prompt_frames


def _agreement(engine: Engine, codes: np.ndarray, prompt_frames: int) -> float:
    """The share of the continuation's columns whose likeliest next token is the expected one."""
    lm = engine.config.lm
    sequence = pattern.delay(codes, lm.delays, lm.cardinality)
    likeliest = engine.logits(sequence).argmax(-1).T
    # Column s predicts column s + 1; the continuation consists of the chosen tokens.
    first = prompt_frames + max(lm.delays) + 1
    chosen, predicted = sequence[:, first:], likeliest[:, first - 1 : -1]
    known = chosen != lm.cardinality
    return float((chosen == predicted)[known].mean())


def expected_codes() -> np.ndarray:
    """Load the codes `(K, F)` int32 of prompt and continuation."""
    with resources.files(__package__).joinpath(EXPECTED).open("rb") as file:
        codes: np.ndarray = np.load(file)["codes"]
    return codes.astype(np.int32)


def main() -> None:
    """Write OpenVINO's codes in float32 as the expected ones."""
    codes, _ = _continue(load(BUILT_IN, engine="openvino").engine)
    np.savez_compressed(Path(__file__).with_name(EXPECTED), codes=codes.astype(np.int16))


if __name__ == "__main__":
    main()
