#!/usr/bin/env bash
# Compare the usual five variants of a model: `segue matrix`, by the name that the experiments know it by.
# Runs on the bash 3.2 that macOS has.
set -euo pipefail

usage() {
  cat >&2 <<'USAGE'
usage: run_matrix.sh PROMPT MODEL [BASE] [SEED]

PROMPT  an audio file
MODEL   'built-in', a folder, or a repository of the Hugging Face hub
BASE    what a fine-tune without config.json was trained from; "" for none
SEED    one for all variants; a random one by default

From the environment: TEXT, TOP_K, TEMPERATURE, GUIDANCE_COEF, ALLOW_EMPTY_TEXT_CFG=1,
PROMPT_SECONDS, OUTPUT_SECONDS, RUNS, NO_QUALITY=1, NO_PROGRESS=1.
Reports and WAVs: experiments/mlx_quantization/reports/TIMESTAMP/
USAGE
  exit "$1"
}

case "${1:-}" in -h | --help) usage 0 ;; esac
if (($# < 2 || $# > 4)); then usage 2; fi

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
python="$here/../../.venv/bin/python"
if [[ -n "${VIRTUAL_ENV:-}" || ! -x "$python" ]]; then python=python; fi

options=(--model "$2" --out "$here/reports/$(date +%Y%m%d-%H%M%S)")
add() { if [[ -n "$2" ]]; then options+=("$1=$2"); fi; }
on() { case "$2" in 1 | true | TRUE | yes | YES | on | ON) options+=("$1") ;; esac; }
add --base-model "${3:-}"
add --seed "${4:-}"
add --text "${TEXT:-}"
add --top-k "${TOP_K:-}"
add --temperature "${TEMPERATURE:-}"
add --guidance-coef "${GUIDANCE_COEF:-}"
add --prompt-seconds "${PROMPT_SECONDS:-}"
add --output-seconds "${OUTPUT_SECONDS:-}"
add --runs "${RUNS:-}"
on --allow-empty-text-cfg "${ALLOW_EMPTY_TEXT_CFG:-}"
on --no-quality "${NO_QUALITY:-}"
on --no-progress "${NO_PROGRESS:-}"
exec "$python" -m segue matrix "${options[@]}" -- "$1"
