"""The kernel `convolve`: a convolution, plain or transposed, with what comes before and after."""

from __future__ import annotations

from importlib import resources

import mlx.core as mx

from . import runtime
from .product import filled
from .runtime import Constant

THREADS = 256

Tile = tuple[int, int, int]
"""Channels and steps of a block, and the blocks that share a multiprocessor."""

WIDE: Tile = (64, 256, 2)
SQUARE: Tile = (128, 128, 2)
SHORT: Tile = (64, 128, 3)
NARROW: Tile = (32, 256, 3)
"""Each of those measured was the fastest for some layers of EnCodec; see `tile_of`."""

PART = 16
"""Channels that are staged at a time where there is one output."""

FUNCTIONS = (resources.files(__package__) / "convolution.cuh").read_text("utf-8")

SOURCE = """
__shared__ Tiles tiles;
constexpr int TILES_N = (OUT + TILE_N - 1) / TILE_N;
constexpr int APART = THREADS / (DEEP / 4);
constexpr int READS_M = TILE_M / APART, READS_N = (TILE_N + APART - 1) / APART;
int tiles_m = (steps + TILE_M - 1) / TILE_M;
int first_n = blockIdx.x % TILES_N * TILE_N, tile = blockIdx.x / TILES_N;
int first_m = tile % tiles_m * TILE_M;
long long row = tile / tiles_m;
const float* signal = x + row * length * IN;

int read_at = threadIdx.x / (DEEP / 4), read_k = threadIdx.x % (DEEP / 4) * 4;
Four from_m[READS_M], from_n[READS_N];
auto fetch = [&](int k) {
#pragma unroll
  for (int i = 0; i < READS_M; i++)
    from_m[i] =
      read_signal(signal, min(first_m + read_at + i * APART, steps - 1), k + read_k, length);
#pragma unroll
  for (int i = 0; i < READS_N; i++)
    from_n[i] = read_weight(weight, first_n + read_at + i * APART, k + read_k);
};
auto keep = [&](int half) {
#pragma unroll
  for (int j = 0; j < 4; j++) {
#pragma unroll
    for (int i = 0; i < READS_M; i++)
      tiles.left[half][read_k + j][read_at + i * APART] = from_m[i].value[j];
#pragma unroll
    for (int i = 0; i < READS_N; i++)
      if (TILE_N % APART == 0 || read_at < TILE_N)
        tiles.right[half][read_k + j][read_at + i * APART] = from_n[i].value[j];
  }
};

// Warps are 4 threads down by 8 across; a thread has its outputs in halves of four.
int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
constexpr int LANES_ACROSS = ACROSS < 8 ? ACROSS : 8, LANES_DOWN = 32 / LANES_ACROSS;
constexpr int WARPS_ACROSS = ACROSS / LANES_ACROSS;
int across = warp % WARPS_ACROSS * LANES_ACROSS + lane % LANES_ACROSS;
int down = warp / WARPS_ACROSS * LANES_DOWN + lane / LANES_ACROSS;
float sums[TM][TN] = {};
fetch(0);
keep(0);
__syncthreads();
int half = 0;
for (int k = 0; k < KDIM; k += DEEP) {
  bool more = k + DEEP < KDIM;
  if (more) fetch(k + DEEP);
#pragma unroll
  for (int deep = 0; deep < DEEP; deep++) {
    float a[TM], b[TN];
#pragma unroll
    for (int i = 0; i < TM; i += 4) {
      Four read = read_four(&tiles.left[half][deep][i / 4 * (TILE_M / 2) + down * 4]);
#pragma unroll
      for (int j = 0; j < 4; j++) a[i + j] = read.value[j];
    }
#pragma unroll
    for (int i = 0; i < TN; i += 4) {
      Four read = read_four(&tiles.right[half][deep][i / 4 * (TILE_N * 4 / TN) + across * 4]);
#pragma unroll
      for (int j = 0; j < 4; j++) b[i + j] = read.value[j];
    }
#pragma unroll
    for (int i = 0; i < TM; i++) {
#pragma unroll
      for (int j = 0; j < TN; j++) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
    }
  }
  if (more) keep(half ^ 1);
  __syncthreads();
  half ^= 1;
}

// What a transposed convolution makes outside of the signal is cut off.
long long whole = TRANSPOSED ? (long long)(steps - 1) * OUT : (long long)steps * OUT;
#pragma unroll
for (int i = 0; i < TM; i++) {
  int m = first_m + i / 4 * (TILE_M / 2) + down * 4 + i % 4;
  if (m >= steps) continue;
#pragma unroll
  for (int j = 0; j < TN; j += 4) {
    int n = first_n + j / 4 * (TILE_N * 4 / TN) + across * 4;
    long long at = (long long)m * OUT + n - CUT;
    if (n >= OUT || at < 0 || at >= whole) continue;
    Four y = read_four(bias + n % CHANNELS);
#pragma unroll
    for (int l = 0; l < 4; l++) y.value[l] += sums[i][j + l];
    at += row * whole;
    SKIP_PART
    if (ELU_AFTER) {
#pragma unroll
      for (int l = 0; l < 4; l++) y.value[l] = elu(y.value[l]);
    }
    *reinterpret_cast<float4*>(out + at) =
      make_float4(y.value[0], y.value[1], y.value[2], y.value[3]);
  }
}
"""

SKIP_PART = """
    Four skipped = read_four(skip + at);
#pragma unroll
    for (int l = 0; l < 4; l++) y.value[l] += skipped.value[l];
"""

# One output channel: a thread has one step, and a part of the channels is staged at a time.
NARROW_SOURCE = """
constexpr int LONG = THREADS + TAPS - 1;
__shared__ float staged[LONG][PART + 1], weights[TAPS][IN];
int blocks = (steps + THREADS - 1) / THREADS;
int first = blockIdx.x % blocks * THREADS;
long long row = blockIdx.x / blocks;
const float* signal = x + row * length * IN;
for (int i = threadIdx.x; i < KDIM; i += THREADS) weights[i / IN][i % IN] = weight[i];
float sum = 0;
for (int from = 0; from < IN; from += PART) {
  __syncthreads();
  for (int i = threadIdx.x; i < LONG * PART / 4; i += THREADS) {
    int at = i / (PART / 4), channel = i % (PART / 4) * 4;
    // Behind the last step lies what no output needs.
    Four read = read_signal(signal, min(first + at, steps + TAPS - 2), from + channel, length);
#pragma unroll
    for (int j = 0; j < 4; j++) staged[at][channel + j] = read.value[j];
  }
  __syncthreads();
  for (int tap = 0; tap < TAPS; tap++) {
#pragma unroll
    for (int c = 0; c < PART; c++)
      sum = fmaf(staged[threadIdx.x + tap][c], weights[tap][from + c], sum);
  }
}
int m = first + threadIdx.x;
if (m < steps) out[row * steps + m] = sum + bias[0];
"""


def convolution_fits(weight: mx.array, stride: int, plain: bool) -> bool:
    """Whether there is a kernel for a weight `(out, kernel, in)`.

    Args:
        weight: of the convolution.
        stride: between two outputs.
        plain: whether nothing is added behind it.
    """
    out, _, into = weight.shape
    return out % 4 == 0 or (out == 1 and stride == 1 and plain and into % PART == 0)


def transposed_fits(weight: mx.array) -> bool:
    """Whether there is a kernel for a weight `(2 * stride, out, in)`."""
    return all(size % 4 == 0 for size in weight.shape[1:])


def tile_of(channels: int, taps: int, transposed: bool) -> Tile:
    """The tile that was fastest on an H200 for layers like this one.

    It changes no value: each is summed up by one thread, in one order.
    """
    if transposed or channels >= 1024:
        return WIDE
    if channels < 64:
        return NARROW
    return SQUARE if channels >= 128 and taps > 1 else SHORT


def convolve(
    x: mx.array,
    weight: mx.array,
    bias: mx.array,
    *,
    steps: int,
    left: int,
    stride: int = 1,
    dilation: int = 1,
    reflect: bool = True,
    elu_before: bool = False,
    elu_after: bool = False,
    skip: mx.array | None = None,
) -> mx.array:
    """Convolve: `(B, T, in)` to `(B, steps, out)`, float32.

    Args:
        x: the signal.
        weight: `(out, kernel, in)`.
        bias: `(out,)`.
        steps: how many are made.
        left: of padding before the first step; as much as is missing comes behind the last.
        stride: between two outputs.
        dilation: between two taps.
        reflect: whether the padding is a reflection, shorter than the signal, or zeros.
        elu_before: whether the ELU of the signal is convolved.
        elu_after: whether the ELU of the sum is returned.
        skip: what is added, `(B, steps, out)`.
    """
    out, taps, into = weight.shape
    constants: dict[str, Constant] = {"IN": into, "OUT": out, "TAPS": taps, "STEP": stride}
    constants |= {"DILATION": dilation, "LEFT": left, "REFLECT": reflect, "CUT": 0}
    constants |= {"TRANSPOSED": False, "CHANNELS": out, "ELU_BEFORE": elu_before}
    constants["ELU_AFTER"] = elu_after
    inputs = {"x": x, "weight": weight, "bias": bias}
    if out == 1:
        return _launch_narrow(inputs, constants, steps)
    if skip is not None:
        inputs["skip"] = skip
    tile = tile_of(out, taps, transposed=False)
    return _launch("convolve", inputs, constants, out, steps, (len(x), steps, out), tile)


def convolve_transposed(
    x: mx.array, weight: mx.array, bias: mx.array, *, left: int, elu_before: bool = False
) -> mx.array:
    """Convolve, transposed, by half of the kernel: `(B, T, in)` to `(B, T * stride, out)`, float32.

    Args:
        x: the signal.
        weight: `(2 * stride, out, in)`.
        bias: `(out,)`.
        left: steps that are cut off before the first.
        elu_before: whether the ELU of the signal is convolved.
    """
    kernel, out, into = weight.shape
    stride = kernel // 2
    constants: dict[str, Constant] = {"IN": into, "OUT": stride * out, "TAPS": 2, "STEP": 1}
    constants |= {"DILATION": 1, "LEFT": 1, "REFLECT": False, "CUT": left * out}
    constants |= {"TRANSPOSED": True, "CHANNELS": out, "ELU_BEFORE": elu_before}
    constants["ELU_AFTER"] = False
    inputs = {"x": x, "weight": weight, "bias": bias}
    shape = len(x), x.shape[1] * stride, out
    steps = x.shape[1] + 1
    tile = tile_of(stride * out, 2, transposed=True)
    return _launch("convolve_transposed", inputs, constants, stride * out, steps, shape, tile)


def _launch(
    name: str,
    inputs: dict[str, mx.array],
    constants: dict[str, Constant],
    channels: int,
    steps: int,
    shape: tuple[int, int, int],
    tile: Tile,
) -> mx.array:
    x, (wide, long, resident) = inputs["x"], tile
    (y,) = runtime.run(
        name,
        filled(SOURCE, (("SKIP_PART", SKIP_PART if "skip" in inputs else ""),)),
        inputs,
        constants | {"TILE_N": wide, "TILE_M": long, "THREADS": THREADS},
        {"out": (shape, mx.float32)},
        blocks=-(-channels // wide) * -(-steps // long) * len(x),
        threads=THREADS,
        functions=FUNCTIONS,
        scalars={"steps": steps, "length": x.shape[1]},
        resident=resident,
    )
    return y


def _launch_narrow(
    inputs: dict[str, mx.array], constants: dict[str, Constant], steps: int
) -> mx.array:
    x = inputs["x"]
    (y,) = runtime.run(
        "convolve_narrow",
        NARROW_SOURCE,
        inputs,
        constants | {"PART": PART, "TILE_N": 8, "TILE_M": THREADS, "THREADS": THREADS},
        {"out": ((len(x), steps, 1), mx.float32)},
        blocks=-(-steps // THREADS) * len(x),
        threads=THREADS,
        functions=FUNCTIONS,
        scalars={"steps": steps, "length": x.shape[1]},
    )
    return y
