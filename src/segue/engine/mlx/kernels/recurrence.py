"""The kernel `lstm`: a layer of an LSTM over all of its steps in one launch."""

from __future__ import annotations

from importlib import resources

import mlx.core as mx

from . import runtime

UNITS = 8
"""Hidden units of a block: their gates are a warp's lanes."""

THREADS = 512
TILE = 8
"""Rows of the batch that are computed at a time, at most."""

MAX_ROWS = 32
"""Rows of a launch."""

MAX_DIM = 1024
"""Hidden units of a layer: a thread has a 16th of a row of the weight in its registers."""

ABSENT = -1
"""What hidden states are before they are computed, as integers."""

FUNCTIONS = (resources.files(__package__) / "recurrence.cuh").read_text("utf-8")

SOURCE = """
extern __shared__ float4 shared[];
constexpr int COUNT = TILE * COLUMNS / 4, READS = (COUNT + 31) / 32;
int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
unsigned* hidden = reinterpret_cast<unsigned*>(out);
float* staged = reinterpret_cast<float*>(shared) + warp * TILE * COLUMNS;
float* partial = reinterpret_cast<float*>(shared) + WARPS * TILE * COLUMNS;
int gate = lane / UNITS, unit = blockIdx.x * UNITS + lane % UNITS;

float held[COLUMNS];
const float* from = weight + (long long)(gate * DIM + unit) * DIM + warp * COLUMNS;
#pragma unroll
for (int k = 0; k < COLUMNS; k += 4) {
  Four read = read_four(from + k);
#pragma unroll
  for (int i = 0; i < 4; i++) held[k + i] = read.value[i];
}

float cell[TILES] = {};
int half = 0;
for (int t = 0; t < steps; t++) {
#pragma unroll
  for (int tile = 0; tile < TILES; tile++, half ^= 1) {
    // After the products a warp has the gates of one row.
    int row = tile * TILE + warp;
    bool mine = warp < TILE && row < rows;
    long long at = (long long)row * steps + t;
    float sum = mine ? projected[at * 4 * DIM + gate * DIM + unit] : 0.0f;
    float* room = partial + half * WARPS * TILE * 32;
    if (t > 0) {
      auto place = [&](int i) {
        int r = (i * 32 + lane) / (COLUMNS / 4), column = (i * 32 + lane) % (COLUMNS / 4) * 4;
        long long before = (long long)min(tile * TILE + r, rows - 1) * steps + t - 1;
        return hidden + before * DIM + warp * COLUMNS + column;
      };
      // All that is missing is asked for at once: a way through the L2 cache takes half a step.
      uint4 read[READS];
#pragma unroll
      for (int i = 0; i < READS; i++)
        if (i * 32 + lane < COUNT) read[i] = peek(place(i));
      long long since = clock64();
      for (bool missing = true; missing;) {
        missing = false;
#pragma unroll
        for (int i = 0; i < READS; i++) {
          if (i * 32 + lane >= COUNT || present(read[i])) continue;
          read[i] = peek(place(i));
          missing = true;
        }
        if (clock64() - since > PATIENCE) __trap();
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < READS; i++)
        if (i * 32 + lane < COUNT) reinterpret_cast<uint4*>(staged)[i * 32 + lane] = read[i];
      __syncwarp();
#pragma unroll 4
      for (int r = 0; r < TILE; r++) {
        float sums[4] = {};
#pragma unroll
        for (int k = 0; k < COLUMNS; k += 4) {
          Four h = read_four(staged + r * COLUMNS + k);
#pragma unroll
          for (int i = 0; i < 4; i++) sums[i] = fmaf(h.value[i], held[k + i], sums[i]);
        }
        room[(warp * TILE + r) * 32 + lane] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
      }
    }
    __syncthreads();
    if (warp < TILE) {
      if (t > 0) {
        float others = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) others += room[(w * TILE + warp) * 32 + lane];
        sum += others;
      }
      float opened = gate == 2 ? tanhf(sum) : sigmoid(sum);
      float forgotten = __shfl_down_sync(0xffffffffu, opened, UNITS);
      float candidate = __shfl_down_sync(0xffffffffu, opened, 2 * UNITS);
      float shown = __shfl_down_sync(0xffffffffu, opened, 3 * UNITS);
      cell[tile] = forgotten * cell[tile] + opened * candidate;
      if (mine && gate == 0) hand_over(hidden + at * DIM + unit, shown * tanhf(cell[tile]));
    }
  }
}
"""


def lstm_fits(rows: int, dim: int) -> bool:
    """Whether there is a kernel for a layer of `dim` hidden units.

    Each block keeps its part of the weight in registers, and all blocks have to run at once.
    """
    if not 0 < rows <= MAX_ROWS or dim % 64 or dim > MAX_DIM:
        return False
    gpu = runtime.gpu()
    return dim // UNITS <= gpu.multiprocessors and shared_bytes(TILE, dim) <= gpu.shared_bytes


def shared_bytes(tile: int, dim: int) -> int:
    """Of shared memory for a block: hidden states, and a warp's sums of this tile and the last."""
    return 4 * tile * (dim + 2 * THREADS)


def lstm(projected: mx.array, weight: mx.array) -> mx.array:
    """Hidden states `(B, T, dim)` of a layer of an LSTM that starts from zeros.

    Two launches at once would wait for each other: see `turns`.

    Args:
        projected: the input's share of the gates, with the bias, `(B, T, 4 * dim)` float32, in
            torch's order: input, forget, cell, output.  B is at most `MAX_ROWS`.
        weight: the hidden state's, `(4 * dim, dim)`.
    """
    rows, steps, _ = projected.shape
    dim = weight.shape[1]
    tile = min(TILE, 1 << (rows - 1).bit_length())
    (hidden,) = runtime.run(
        "lstm",
        SOURCE,
        {"projected": projected, "weight": weight},
        {"DIM": dim, "TILE": tile, "TILES": -(-rows // tile), "THREADS": THREADS},
        {"out": ((rows, steps, dim), mx.int32)},
        blocks=dim // UNITS,
        threads=THREADS,
        functions=FUNCTIONS,
        scalars={"rows": rows, "steps": steps},
        shared_bytes=shared_bytes(tile, dim),
        resident=1,
        initial=ABSENT,
    )
    return hidden.view(mx.float32)
