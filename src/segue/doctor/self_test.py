"""A small continuation whose codes are known: does this machine compute what others do?

    python -m segue.doctor.self_test      # writes expected.npz anew, after the checkpoint changed

The built-in checkpoint continues a prompt made by rule, greedily, so that neither the sampling nor
a downloaded file is in the way.  A machine that rounds differently may take another token where two
are almost equally likely, and is elsewhere from there on; so the verdict rests on the two parts
that do not feed on themselves: the codes of the prompt, and the likeliest token after each column
of the expected continuation.
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
"""Of the codes of the prompt, and of the likeliest tokens, that must be the expected ones.

float32 engines give all of them on every machine tried; float16 on a GPU may miss a few.
"""

EXPECTED = "expected.npz"


@dataclass(frozen=True)
class SelfTest:
    """What one engine made of the known continuation.

    Attributes:
        engine: `"mlx"` or `"openvino"`.
        device, dtype: what it ran on, and in what type the language model was computed.
        load_seconds, run_seconds: to load the built-in checkpoint, and to continue the prompt.
        prompt_codes: share of the prompt's codes that are the expected ones, 0 to 1.
        likeliest_tokens: share of the likeliest tokens that are the expected ones, 0 to 1.
        first_other_frame: of the continuation's frames the first that is not the expected one;
            None if all are.
        error: one line if it did not run to its end.
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
        """Whether this engine can be relied upon."""
        return self.error is None and min(self.prompt_codes, self.likeliest_tokens) >= ENOUGH


def run(engine: str) -> SelfTest:
    """Continue the known prompt on `engine`; a failure is told in the result, not raised."""
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
    except Exception as error:  # a library that does not load, a driver that is too old, ...
        line = str(error).strip().splitlines()
        return SelfTest(engine, error=f"{type(error).__name__}: {line[0] if line else ''}")


def _continue(engine: Engine) -> tuple[np.ndarray, int]:
    """The codes `(K, F)` of the greedy continuation, and how many frames the prompt has."""
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
    """How often the likeliest token after each column of the continuation is the expected one."""
    lm = engine.config.lm
    sequence = pattern.delay(codes, lm.delays, lm.cardinality)
    likeliest = engine.logits(sequence).argmax(-1).T
    # Column s predicts column s + 1; the tokens of the continuation are those that were chosen.
    first = prompt_frames + max(lm.delays) + 1
    chosen, predicted = sequence[:, first:], likeliest[:, first - 1 : -1]
    known = chosen != lm.cardinality
    return float((chosen == predicted)[known].mean())


def expected_codes() -> np.ndarray:
    """The codes `(K, F)` int32 of the known continuation, its prompt included."""
    with resources.files(__package__).joinpath(EXPECTED).open("rb") as file:
        codes: np.ndarray = np.load(file)["codes"]
    return codes.astype(np.int32)


def main() -> None:
    """Write what OpenVINO gives in float32 as the expected codes."""
    codes, _ = _continue(load(BUILT_IN, engine="openvino").engine)
    np.savez_compressed(Path(__file__).with_name(EXPECTED), codes=codes.astype(np.int16))


if __name__ == "__main__":
    main()
