#!/usr/bin/env bash
# Renders, encodes and trains at the same time, from the checkpoint as it is, and judges what came
# of it: training/at_once.sh DATA STATE SECONDS [CODEC_SECONDS] [JUDGING_SECONDS]
# Two cards or one; DATA holds a few GB, best in memory. Logs lie in STATE. PYTHON names the python.
# With BARE=1 nothing is judged: the states are saved at the end, and `training.figures` may follow.
set -uo pipefail
data=$1 state=$2 seconds=$3 refining=${4:-150} judging=${5:-200}
first=${FIRST:-1000} clips=${CLIPS:-20} kept=${KEEP:-64} bare=${BARE:-}
checkpoint=${CHECKPOINT:-src/segue/demo/checkpoint}
python=${PYTHON:-python} begun=$(date +%s)
cards=$($python -c 'import torch; print(max(1, torch.cuda.device_count()))')
last=$((cards - 1))
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
mkdir -p "$data" "$state"
trap 'kill $(jobs -p) 2>/dev/null' EXIT

log() { echo "$(($(date +%s) - begun)) s: $*" | tee -a "$state/at_once.log"; }
part() { local name=$1; shift; "$python" -m "$@" >>"$state/$name.log" 2>&1 || log "$name FAILED"; }
shards() { find "$data" -name "$1" | wc -l; }
await() { until [ "$(shards "$1")" -ge "$2" ]; do sleep 0.5; done; }

log "$cards cards, $(nproc --all) cores"
nice "$python" -m training.render --out "$data" --first "$first" --shards 6000 --clips "$clips" \
  >"$state/render.log" 2>&1 &
rendering=$!
part heldout training.render --out "$data" --clips "${HELDOUT_CLIPS:-120}" --split heldout &
[ -e "$state.before/lm.json" ] ||
  "$python" -m training.restore --checkpoint "$checkpoint" --state "$state.before" || exit 1
"$python" -m training.tokens --data "$data" --state "$state.before" --splits heldout ear train \
  --follow "$seconds" --keep $((first + kept)) >"$state/tokens.log" 2>&1 &
encoding=$!
await 'heldout_*.codes.npy' 1
log "held-out clips are there"
continuing=
if [ -z "$bare" ]; then
  part before training.continuations --data "$data" --state "$state.before" ${CONTINUED:-} &
  continuing=$!
fi
await 'train_*.codes.npy' "${ENOUGH:-8}"
log "first codes are there"
for _ in $(seq "${PATIENCE:-0}"); do [ -e "$state/lm.json" ] || sleep 0.5; done
[ -e "$state/lm.json" ] ||
  "$python" -m training.restore --checkpoint "$checkpoint" --state "$state" || exit 1
"$python" -m torch.distributed.run --nproc-per-node "$cards" -m training.language_model \
  --data "$data" --state "$state" --until $((begun + seconds - judging)) ${LM_OPTIONS:---compile} \
  >"$state/lm.log" 2>&1 &
learning=$!
part ear training.render --out "$data" --split ear --shards "${EAR_SHARDS:-32}" --clips "$clips" &
await 'train_*.codes.npy' "$kept"
if [ "$refining" -gt 0 ]; then
  log "enough sound for the codec"
  CUDA_VISIBLE_DEVICES=$last part codec training.codec --data "$data" --state "$state" \
    --phase polish --shards "$kept" --seconds "$refining" --lr 5e-4 --lr-end 1e-5 \
    ${CODEC_OPTIONS:-} &
  refined=$!
fi
wait $learning || log "language model FAILED"
kill $rendering $encoding
wait ${refined:-} $continuing
log "trained; $(shards 'train_*.codes.npy') shards"
[ -z "$bare" ] || exit 0
part after training.figures --data "$data" --state "$state" ${FIGURE_OPTIONS:-}
log "judged"
part before training.language_model --data "$data" --state "$state.before" --judge --capacity 1500
part before training.figures --data "$data" --state "$state.before" ${FIGURE_OPTIONS:-}
log "done"
