"""The kernel `sample`: guidance, top-k, noise and choice, of all codebooks."""

from __future__ import annotations

import mlx.core as mx

from . import runtime
from .product import filled

# MLX's counter-based generator, and noise of its words, as `segue.engine.cpu.sampling` has it.
FUNCTIONS = """
__device__ __forceinline__ float gumbel_noise(
    unsigned seed, unsigned step, unsigned at, unsigned size) {
  constexpr int ROTATIONS[8] = {13, 15, 26, 6, 17, 29, 16, 24};
  unsigned first = (size + 1) / 2;
  unsigned low = at < first ? at : at - first, high = low == size / 2 ? 0 : low + first;
  unsigned keys[3] = {seed, step, seed ^ step ^ 0x1bd11bdau};
  unsigned x = low + keys[0], y = high + keys[1];
#pragma unroll
  for (int n = 0; n < 5; n++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int rotation = ROTATIONS[n % 2 * 4 + i];
      x += y;
      y = (y << rotation | y >> (32 - rotation)) ^ x;
    }
    x += keys[(n + 1) % 3];
    y += keys[(n + 2) % 3] + n + 1;
  }
  float uniform = static_cast<float>(at < first ? x : y) / 4294967296.0f;
  return -logf(-logf(fminf(uniform, 0.99999994f)));
}
"""

# One block has one codebook of one take.  The k-th largest logit is found bit by bit; of several
# that are equal to it, those with the highest numbers take part.  Where a logit is NaN or infinite
# (an exponent of all ones), the token is V; see `Sampler`.
SAMPLE_SOURCE = """
constexpr int EACH = (V + 1023) / 1024;
int t = threadIdx.x, take = blockIdx.x / CODEBOOKS, codebook = blockIdx.x % CODEBOOKS;
const float* own = logits + ((long long)CONDITIONED_PART * CODEBOOKS + codebook) * V;
const float* others = logits + ((long long)UNCONDITIONED_PART * CODEBOOKS + codebook) * V;
int token_known = known[blockIdx.x];
if (token_known != -1) {
  if (t == 0) out[blockIdx.x] = token_known;
  return;
}
float logit[EACH];
unsigned rank[EACH];
bool in[EACH];
bool broken = false;
for (int n = 0; n < EACH; n++) {
  int i = n * 1024 + t;
  in[n] = i < V;
  rank[n] = 0;
  if (!in[n]) continue;
  logit[n] = own[i];
  if (GUIDED) logit[n] = others[i] + (logit[n] - others[i]) * coef[OWN_NUMBERS ? take : 0];
  unsigned bits = __float_as_uint(logit[n] + 0.0f);
  broken |= (bits & 0x7f800000u) == 0x7f800000u;
  rank[n] = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
if (__syncthreads_or(broken)) {
  if (t == 0) out[blockIdx.x] = V;
  return;
}
if (TOP < V) {
  unsigned bound = 0;
  for (int bit = 31; bit >= 0; bit--) {
    unsigned next = bound | 1u << bit;
    int count = 0;
    for (int n = 0; n < EACH; n++) count += __syncthreads_count(in[n] && rank[n] >= next);
    if (count >= TOP) bound = next;
  }
  int above = 0, equal = 0;
  for (int n = 0; n < EACH; n++) {
    above += __syncthreads_count(in[n] && rank[n] > bound);
    equal += __syncthreads_count(in[n] && rank[n] == bound);
  }
  int from = 0, room = TOP - above;
  if (equal > room) {
    int low = 0, high = V;
    while (high - low > 1) {
      int middle = (low + high) / 2, count = 0;
      for (int n = 0; n < EACH; n++)
        count += __syncthreads_count(in[n] && rank[n] == bound && n * 1024 + t >= middle);
      if (count >= room) low = middle; else high = middle;
    }
    from = low;
  }
  for (int n = 0; n < EACH; n++)
    in[n] = in[n] && (rank[n] > bound || (rank[n] == bound && n * 1024 + t >= from));
}
float best = LEAST;
int token = V;
for (int n = 0; n < EACH; n++) {
  int i = n * 1024 + t;
  if (!in[n]) continue;
  float score = logit[n];
  if (NOISY) score = score / temperature[OWN_NUMBERS ? take : 0] + NOISE_PART;
  if (score > best || token == V) { best = score; token = i; }
}
__shared__ float bests[32];
__shared__ int tokens[32];
for (int round = 0; round < 2; round++) {
  for (int apart = 16; apart > 0; apart /= 2) {
    float score = __shfl_xor_sync(0xffffffffu, best, apart);
    int other = __shfl_xor_sync(0xffffffffu, token, apart);
    if (other < V && (token == V || score > best || (score == best && other < token))) {
      best = score;
      token = other;
    }
  }
  if (round == 0) {
    if (t % 32 == 0) { bests[t / 32] = best; tokens[t / 32] = token; }
    __syncthreads();
    if (t >= 32) return;
    best = bests[t];
    token = tokens[t];
  }
}
if (t == 0) out[blockIdx.x] = token;
"""


def sample(
    logits: mx.array,
    noise: mx.array | None,
    known: mx.array,
    temperature: mx.array,
    coef: mx.array,
    top_k: int,
    guided: bool,
    partners: tuple[mx.array, mx.array] | None = None,
) -> mx.array:
    """Tokens `(N, K)` int32: `known` where they are, elsewhere sampled as `Sampler` does.

    Where logits are NaN or infinite it is V, as with `Sampler`; that costs no launch.

    Args:
        logits: `(N, K, V)` float32, or `(2N, K, V)` with the conditioned stream first.
        noise: `(N, K, V)` float32; or `(N, 2)` uint32, each take's seed and step, of which it is
            made; None takes the likeliest token.
        known: `(N, K)` int32, -1 where a token is to be sampled.
        temperature: float32, one or N.
        coef: float32, as many, see `Sampling`.
        top_k: how many take part; 0 or more than V: all.
        guided: whether there are two streams.
        partners: `(N,)` int32 each, the rows of the two streams of each take among `(N, K, V)`.
    """
    (takes, codebooks), entries = known.shape, logits.shape[-1]
    inputs = {"logits": logits, "known": known}
    inputs |= {"temperature": temperature, "coef": coef}
    parts = {"NOISE_PART": "0.0f"}
    if noise is None:
        top_k = 0  # of equal ones the first, as argmax does: so all take part
    elif noise.dtype == mx.uint32:
        inputs["keys"] = noise
        at = "codebook * V + i, CODEBOOKS * V"
        parts["NOISE_PART"] = f"gumbel_noise(keys[2 * take], keys[2 * take + 1], {at})"
    else:
        inputs["noise"] = noise
        parts["NOISE_PART"] = "noise[(long long)blockIdx.x * V + i]"
    parts |= {"UNCONDITIONED_PART": "(TAKES + take)" if guided else "take"}
    parts |= {"CONDITIONED_PART": "take"}
    if partners is not None:
        inputs["conditioned"], inputs["unconditioned"] = partners
        parts["CONDITIONED_PART"] = "conditioned[take]"
        parts["UNCONDITIONED_PART"] = "unconditioned[take]"
    (out,) = runtime.run(
        "sample",
        filled(SAMPLE_SOURCE, tuple(parts.items())),
        inputs,
        {
            "TAKES": takes,
            "CODEBOOKS": codebooks,
            "V": entries,
            "TOP": top_k if 0 < top_k < entries else entries,
            "GUIDED": guided,
            "NOISY": noise is not None,
            "OWN_NUMBERS": temperature.size > 1,
        },
        {"out": ((takes, codebooks), mx.int32)},
        blocks=takes * codebooks,
        threads=1024,
        functions=FUNCTIONS,
    )
    return out
