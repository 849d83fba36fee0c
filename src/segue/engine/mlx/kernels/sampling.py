"""The kernel `sample`: guidance, top-k, noise and choice, of all codebooks."""

from __future__ import annotations

import mlx.core as mx

from . import runtime

# One block has one codebook of one take.  The k-th largest logit is found bit by bit; of several
# that are equal to it, those with the highest numbers take part.  Where a logit is NaN or infinite
# (an exponent of all ones), the token is V; see `Sampler`.
SAMPLE_SOURCE = """
constexpr int EACH = (V + 1023) / 1024;
int t = threadIdx.x;
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
  logit[n] = logits[(long long)blockIdx.x * V + i];
  if (GUIDED) {
    float other = logits[((long long)TAKES * CODEBOOKS + blockIdx.x) * V + i];
    logit[n] = other + (logit[n] - other) * coef[0];
  }
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
  float score = logit[n] / temperature[0] + noise[(long long)blockIdx.x * V + i];
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
) -> mx.array:
    """Tokens `(N, K)` int32: `known` where they are, elsewhere sampled as `Sampler` does.

    Where logits are NaN or infinite it is V, as with `Sampler`; that costs no launch.

    Args:
        logits: `(N, K, V)` float32, or `(2N, K, V)` with the conditioned stream first.
        noise: `(N, K, V)` float32; None takes the likeliest token.
        known: `(N, K)` int32, -1 where a token is to be sampled.
        temperature: float32.
        coef: float32, see `Sampling`.
        top_k: how many take part; 0 or more than V: all.
        guided: whether there are two streams.
    """
    (takes, codebooks), entries = known.shape, logits.shape[-1]
    if noise is None:
        # Of equal ones the first, as argmax does: so all take part, at a temperature that divides.
        noise, temperature, top_k = mx.zeros((takes, codebooks, entries)), mx.array(1.0), 0
    numbers = {"temperature": temperature, "coef": coef}
    (out,) = runtime.run(
        "sample",
        SAMPLE_SOURCE,
        {"logits": logits, "noise": noise, "known": known} | numbers,
        {
            "TAKES": takes,
            "CODEBOOKS": codebooks,
            "V": entries,
            "TOP": top_k if 0 < top_k < entries else entries,
            "GUIDED": guided,
        },
        {"out": ((takes, codebooks), mx.int32)},
        blocks=takes * codebooks,
        threads=1024,
    )
    return out
