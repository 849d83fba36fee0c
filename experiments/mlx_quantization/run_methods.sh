#!/usr/bin/env bash
# Make the recipes of methods.toml, then run its matrix.
# Runs on the bash 3.2 that macOS has.
set -euo pipefail

usage() {
  cat >&2 <<'USAGE'
usage: run_methods.sh PROMPT [MODEL] [SEED]

PROMPT  an audio file
MODEL   'built-in' (the default), a folder, or a repository of the Hugging Face hub
SEED    one for all variants; 12345 by default

From the environment: RUNS, JUDGE (full or small), NO_PROGRESS=1, and OUT, a new folder.
Recipes: experiments/mlx_quantization/reports/recipes/; those that are there stay, so delete them to
have them made for another model.  Report: experiments/mlx_quantization/reports/TIMESTAMP/
USAGE
  exit "$1"
}

case "${1:-}" in -h | --help) usage 0 ;; esac
if (($# < 1 || $# > 3)); then usage 2; fi

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
python="$here/../../.venv/bin/python"
if [[ -n "${VIRTUAL_ENV:-}" || ! -x "$python" ]]; then python=python; fi
model=${2:-built-in}
quiet=()
if [[ -n "${NO_PROGRESS:-}" ]]; then quiet=(--no-progress); fi

mkdir -p "$here/reports/recipes"
recipe() {
  local file="$here/reports/recipes/$1.json"
  shift
  if [[ -e "$file" ]]; then
    echo "recipe kept: $file" >&2
  else
    "$python" -m segue recipe "$model" --method gptq -o "$file" ${quiet[@]+"${quiet[@]}"} "$@"
  fi
}
recipe r4.5 --budget-bits 4.5
recipe r5.0 --budget-bits 5
recipe r3.5 --budget-bits 3.5 --cross-bits 2
recipe r5.0-4-8 --budget-bits 5 --widths 4 8

options=(--model "$model" --rows "$here/methods.toml" --seed "${3:-12345}")
options+=(--out "${OUT:-$here/reports/$(date +%Y%m%d-%H%M%S)}")
if [[ -n "${RUNS:-}" ]]; then options+=(--runs "$RUNS"); fi
if [[ -n "${JUDGE:-}" ]]; then options+=(--judge "$JUDGE"); fi
exec "$python" -m segue matrix "${options[@]}" ${quiet[@]+"${quiet[@]}"} -- "$1"
