"""A folder as a matrix leaves it, with made-up figures and music by rule.

`python -m tests.lab.matrix_folder FOLDER` writes one to look at, with its report.
"""

import json
import sys
from pathlib import Path

import numpy as np

from segue import audio
from segue.demo.prompt import SAMPLE_RATE, band
from segue.lab.report.write import write_report

JOIN_SECONDS = 2.5

# name, cast, recipe, ms a step, MB of weights, KL, agreement, perplexity ratio, frames
_LINEARS, _EMBEDDINGS = "decoder-linears", "decoder-linears+emb"
_ROWS = (
    ("baseline", None, None, 11.8, 1681, 0.0, 1.0, 1.0, 250),
    ("float16", "float16", None, 7.9, 841, 2.1e-6, 0.998, 1.0, 181),
    (f"q8-g64-{_LINEARS}", "float16", (_LINEARS, 8), 5.6, 462, 0.0011, 0.981, 1.002, 74),
    (f"q4-g64-{_LINEARS}", "float16", (_LINEARS, 4), 4.1, 251, 0.0312, 0.903, 1.031, 22),
    (f"q4-g64-{_EMBEDDINGS}", "float16", (_EMBEDDINGS, 4), 4.0, 238, 0.0494, 0.881, 1.052, 19),
)


def matrix(**changes):
    """What `matrix.json` holds."""
    found = {
        "schema": 1,
        "created": "2025-01-31T12:00:00+00:00",
        "machine": {"system": "TEST DATA", "processor": "none", "cores": 8, "memory_bytes": 34e9},
        "versions": {"python": "3.11.2", "segue": "0.1.0", "mlx": "0.32.0"},
        "model": "example/test-data",
        "base_model": "facebook/musicgen-small",
        "prompt": "band.wav",
        "seed": 12345,
        "request": {"prompt_seconds": JOIN_SECONDS, "output_seconds": 6, "top_k": 250},
        "max_kl": 0.02,
        "rows": [_row(*row) for row in _ROWS],
        "pick": {
            "name": "q8-g64-decoder-linears",
            "why": "TEST DATA. It is the fastest variant within the budget of 0.02 nats: 2.1 times "
            "as fast as the baseline, at a KL of 0.0011.",
            "environment": [
                "G4L_MLX_QUANTIZE=1",
                "G4L_MLX_Q_BITS=8",
                "G4L_MLX_Q_GROUP_SIZE=64",
                "G4L_MLX_Q_SCOPE=decoder-linears",
            ],
            "command": "segue continue band.wav --model example/test-data --cast-dtype float16 "
            "--quantize --q-bits 8",
        },
    }
    return found | changes


def failed(name="q2-g32-all-quantizable", error="the process was killed: out of memory"):
    """A row without figures."""
    recipe = {"scope": "all-quantizable", "bits": 2, "group_size": 32, "mode": "affine"}
    return {
        "name": name,
        "variant": {"cast_dtype": None, "recipe": recipe},
        "status": "failed",
        "error": error,
        "bench": None,
        "quality": None,
        "audio": None,
    }


def _row(name, cast, recipe, ms, megabytes, kl, agreement, ratio, frames):
    weights = round(megabytes * 1e6)
    quantized = 0 if recipe is None else 1.4
    parts = {
        "model_load_s": 0.9,
        "cast_dtype_s": 0.3 if cast else 0.0,
        "quantize_s": quantized,
        "prompt_encode_s": 0.35,
        "prefill_s": 0.12,
        "token_generate_s": 0.3 * ms,
        "decode_full_s": 0.6,
        "decode_cont_for_save_s": 0.0,
    }
    scope, bits = recipe or (None, None)
    return {
        "name": name,
        "variant": {
            "cast_dtype": cast,
            "recipe": recipe and {"scope": scope, "bits": bits, "group_size": 64, "mode": "affine"},
        },
        "status": "ok",
        "error": None,
        "bench": {
            "timings_s": parts | {"total_s": sum(parts.values()) + 0.2},
            "speed": {"ms_per_step": ms, "real_time_factor": 20 / ms, "steps_per_s": 1000 / ms},
            "engine": "mlx",
            "device": "TEST DATA",
            "dtype": cast or "float32",
            "steady": {
                end: {
                    "speed": {"real_time_factor": 20 / ms * factor},
                    "timings_s": {"total_s": (1.2 + 0.3 * ms) / factor},
                }
                for end, factor in (("min", 0.96), ("median", 1.0), ("max", 1.03))
            },
            "memory": {
                "weights_bytes": weights,
                "engine_peak_bytes": weights + 310_000_000,
                "process_peak_bytes": weights + 620_000_000,
            },
            "bits_per_weight": 16 if bits is None else bits + 0.5,
            "notes": ["TEST DATA: nothing here was measured"],
        },
        "quality": {
            "prompts": [{"name": "band", "seconds": 50.0, "built_in": True}],
            "tokens": {"counted": 9600},
            "kl": {"overall": {"mean": kl, "median": kl / 3, "ci95": [0.72 * kl, 1.35 * kl]}},
            "top1_agreement": {"overall": {"mean": agreement}},
            "perplexity": {"overall": {"ratio": ratio}},
            "free_running": {"median_frames": frames, "limit_frames": 250},
        },
        "audio": {"full": f"{name}_full.wav", "continuation": f"{name}_continuation.wav"},
    }


def write(folder, found=None, seconds=6.0):
    """Write `found`, or `matrix()`, and WAVs for its rows: all alike up to the join."""
    found = matrix() if found is None else found
    folder.mkdir(parents=True, exist_ok=True)
    whole = band(seconds)
    join = round(JOIN_SECONDS * SAMPLE_RATE)
    for n, row in enumerate(found["rows"]):
        if row.get("audio"):
            samples = np.concatenate([whole.samples[:join], _changed(whole.samples[join:], n)])
            for kind, part in (("full", samples), ("continuation", samples[join:])):
                take = audio.Audio(part, SAMPLE_RATE, "PCM_16")
                audio.write(folder / row["audio"][kind], take)
    (folder / "matrix.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


def _changed(samples, n):
    """Something else for every row: duller, noisier and quieter than the one before."""
    noise = np.random.default_rng(n).standard_normal(samples.shape) * 0.004 * n
    width = 1 + 3 * n
    smooth = np.stack(
        [np.convolve(channel, np.ones(width) / width, "same") for channel in samples.T], axis=1
    )
    return ((smooth + noise) * 0.9**n).clip(-1, 1).astype(np.float32)


if __name__ == "__main__":
    folder = write(Path(sys.argv[1]), matrix(rows=[*matrix()["rows"], failed()]))
    write_report(folder)
