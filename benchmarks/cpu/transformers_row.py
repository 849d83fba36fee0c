"""The same by `transformers` on torch: `python -m benchmarks.cpu.transformers_row FOLDER ...`."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from segue.lab.machine import peak_memory_bytes


def main(folder: str, threads: str, runs: str, seconds: str) -> None:
    """Measure and print."""
    started = time.perf_counter()
    import torch
    from transformers import MusicgenForConditionalGeneration

    torch.set_num_threads(int(threads))
    model = MusicgenForConditionalGeneration.from_pretrained(folder).eval()
    start_s = time.perf_counter() - started
    tokens = model.generation_config
    tokens.decoder_start_token_id = tokens.bos_token_id = tokens.pad_token_id = 2048
    tokens.eos_token_id = None
    frames = round(50 * float(seconds))
    random = np.random.default_rng(0)
    samples = torch.tensor(0.1 * random.standard_normal((1, 1, 6 * 32_000)), dtype=torch.float32)
    codes = torch.tensor(random.integers(0, 2048, (1, 1, 4, frames)))
    prompt = codes[0, 0, :, :300]

    def median(run: Callable[[], object]) -> float:
        """Seconds of the middle one of some runs after a first."""
        found = []
        for _ in range(1 + int(runs)):
            before = time.perf_counter()
            run()
            found.append(time.perf_counter() - before)
        return statistics.median(found[1:])

    def generate(length: int) -> float:
        """Time the generation of `length` frames, without decoding, in seconds."""
        spent = []
        decode = model.audio_encoder.decode

        def timed(*args: object, **options: object) -> object:
            before = time.perf_counter()
            decoded = decode(*args, **options)
            spent.append(time.perf_counter() - before)
            return decoded

        model.audio_encoder.decode = timed
        before = time.perf_counter()
        model.generate(
            **model.get_unconditional_inputs(1),
            decoder_input_ids=prompt,
            do_sample=True,
            top_k=250,
            max_length=length + 4,
        )
        model.audio_encoder.decode = decode
        return time.perf_counter() - before - sum(spent)

    with torch.no_grad():
        encode_s = median(lambda: model.audio_encoder.encode(samples))
        prefill_s = median(lambda: generate(301))  # it generates four steps at least
        whole_s = generate(frames)
        decode_s = median(lambda: model.audio_encoder.decode(codes, [None]))
    print(
        json.dumps(
            {
                "second start s": start_s,
                "encode 6 s, s": encode_s,
                "prefill 6 s, s": prefill_s,
                "ms a step": 1000 * (whole_s - prefill_s) / (frames - 301),
                "decode 30 s, s": decode_s * 1500 / frames,
                "peak memory, GB": peak_memory_bytes() / 1e9,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
