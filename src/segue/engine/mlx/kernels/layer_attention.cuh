// Layer norm, and attention over what has been played and over a text.

// Layer norm of all streams, for each block itself: that costs less than to meet once more.
__device__ __forceinline__ void normalize(
    const T* x, const T* weight, const T* bias, T* to, int stride, float* room) {
  constexpr int EACH = (DIM + THREADS - 1) / THREADS;
  float values[ROWS][EACH], mean[ROWS] = {}, scale[ROWS] = {}, weights[EACH], biases[EACH];
#pragma unroll
  for (int n = 0; n < EACH; n++) {
    int k = n * THREADS + threadIdx.x;
    bool there = k < DIM;
    weights[n] = there ? static_cast<float>(weight[k]) : 0.0f;
    biases[n] = there ? static_cast<float>(bias[k]) : 0.0f;
#pragma unroll
    for (int b = 0; b < ROWS; b++) {
      values[b][n] = there ? static_cast<float>(x[b * DIM + k]) : 0.0f;
      mean[b] += values[b][n];
    }
  }
  sum_over_block(mean, room);
#pragma unroll
  for (int b = 0; b < ROWS; b++) {
    mean[b] /= DIM;
#pragma unroll
    for (int n = 0; n < EACH; n++) {
      float apart = n * THREADS + threadIdx.x < DIM ? values[b][n] - mean[b] : 0.0f;
      scale[b] += apart * apart;
    }
  }
  sum_over_block(scale, room);
#pragma unroll
  for (int b = 0; b < ROWS; b++) {
    float normalizer = rsqrtf(scale[b] / DIM + 1e-5f);
#pragma unroll
    for (int n = 0; n < EACH; n++) {
      int k = n * THREADS + threadIdx.x;
      if (k >= DIM) continue;
      float y = rounded<T>((values[b][n] - mean[b]) * normalizer) * weights[n] + biases[n];
      to[b * stride + k] = static_cast<T>(y);
    }
  }
  __syncthreads();
}

// Where attention over a part of the positions leaves what it found: D sums, the largest score, and
// the sum of shares.  There are SPLITS parts for each head of each stream.
constexpr int FOUND = D + 2;
constexpr int UNITS = ROWS * HEADS * SPLITS;

// Attention of one query.  Eight values of a head are a lane's, so D / 8 lanes share a key, and a
// warp has several keys at once; softmax runs along, and is put together at the end.  The newest
// key and value come from qkv, and are written to the cache, in place: what is read of it in a later
// step is written by then, since that step's input comes of this one's output.
__device__ __forceinline__ void attend(
    const T* qkv, const T* cache, int newest, int length, float* found, float* room) {
  constexpr int LANES = D / 8, KEYS = 32 / LANES, MANY = 8 / sizeof(T);
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, key = lane / LANES, d = lane % LANES * 8;
  float *bests = room, *totals = room + WARPS, *sums = room + 2 * WARPS;
  for (int unit = blockIdx.x; unit < UNITS; unit += BLOCKS) {
    int split = unit % SPLITS, head = unit / SPLITS % HEADS, b = unit / SPLITS / HEADS;
    int each = (newest + SPLITS) / SPLITS, from = split * each, to = min(from + each, newest + 1);
    const T* fresh = qkv + b * 3 * DIM + head * D + d;
    T* keys = const_cast<T*>(cache) + ((long long)b * 2 * HEADS + head) * length * D + d;
    T* values = keys + (long long)HEADS * length * D;
    float q[8], sum[8] = {}, best = LEAST, total = 0;
    read_chunk(fresh, q);
    for (int i = 0; i < 8; i++) q[i] *= rsqrtf((float)D);
    if (from <= newest && newest < to && threadIdx.x < LANES) {
#pragma unroll
      for (int i = 0; i < 8; i++) {
        keys[(long long)newest * D + i] = fresh[DIM + i];
        values[(long long)newest * D + i] = fresh[2 * DIM + i];
      }
    }
    // Several keys of a lane are on their way from memory at a time.
    for (int first = from + warp * KEYS + key; first - key < to; first += MANY * WARPS * KEYS) {
      Chunk<T> some_keys[MANY], some_values[MANY];
#pragma unroll
      for (int n = 0; n < MANY; n++) {
        int at = first + n * WARPS * KEYS;
        if (at >= to) continue;
        const T* of_key = at == newest ? fresh + DIM : keys + (long long)at * D;
        const T* of_value = at == newest ? fresh + 2 * DIM : values + (long long)at * D;
        some_keys[n] = *reinterpret_cast<const Chunk<T>*>(of_key);
        some_values[n] = *reinterpret_cast<const Chunk<T>*>(of_value);
      }
#pragma unroll
      for (int n = 0; n < MANY; n++) {
        bool there = first + n * WARPS * KEYS < to;
        float score = 0;
        if (there) {
#pragma unroll
          for (int i = 0; i < 8; i++) score += q[i] * static_cast<float>(some_keys[n].value[i]);
        }
#pragma unroll
        for (int apart = LANES / 2; apart > 0; apart /= 2)
          score += __shfl_xor_sync(0xffffffffu, score, apart);
        if (there) {
          float most = fmaxf(best, score), kept = __expf(best - most), share = __expf(score - most);
          best = most;
          total = total * kept + share;
#pragma unroll
          for (int i = 0; i < 8; i++)
            sum[i] = sum[i] * kept + share * static_cast<float>(some_values[n].value[i]);
        }
      }
    }
    float most = best;
#pragma unroll
    for (int apart = LANES; apart < 32; apart *= 2)
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, apart));
    float kept = best == LEAST ? 0.0f : __expf(best - most);
    total *= kept;
#pragma unroll
    for (int apart = LANES; apart < 32; apart *= 2)
      total += __shfl_xor_sync(0xffffffffu, total, apart);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 8; i++) {
      sum[i] *= kept;
#pragma unroll
      for (int apart = LANES; apart < 32; apart *= 2)
        sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], apart);
      if (key == 0) sums[warp * D + d + i] = sum[i];
    }
    if (lane == 0) {
      bests[warp] = most;
      totals[warp] = total;
    }
    __syncthreads();
    if (threadIdx.x < D) {
      float top = LEAST, whole = 0, y = 0;
      for (int w = 0; w < WARPS; w++) top = fmaxf(top, bests[w]);
      for (int w = 0; w < WARPS; w++) {
        float share = bests[w] == LEAST ? 0.0f : __expf(bests[w] - top);
        whole += share * totals[w];
        y += share * sums[w * D + threadIdx.x];
      }
      found[unit * FOUND + threadIdx.x] = y;
      if (threadIdx.x == 0) {
        found[unit * FOUND + D] = top;
        found[unit * FOUND + D + 1] = whole;
      }
    }
  }
}

// What attention found, put together from its parts.
__device__ __forceinline__ void combine_splits(const float* found, T* to, int stride) {
  for (int i = threadIdx.x; i < ROWS * DIM; i += THREADS) {
    const float* parts = found + (long long)(i / D) * SPLITS * FOUND;
    float top = LEAST, whole = 0, y = 0;
#pragma unroll
    for (int s = 0; s < SPLITS; s++) top = fmaxf(top, parts[s * FOUND + D]);
#pragma unroll
    for (int s = 0; s < SPLITS; s++) {
      float best = parts[s * FOUND + D], share = best == LEAST ? 0.0f : __expf(best - top);
      whole += share * parts[s * FOUND + D + 1];
      y += share * parts[s * FOUND + i % D];
    }
    to[i / DIM * stride + i % DIM] = static_cast<T>(y / whole);
  }
}

// Softmax of cross-attention's scores, whose norm is put to them here (see `lm.Layer.folded`), for
// each block itself.  LENGTH lanes, a power of two, have a head of a stream.
__device__ __forceinline__ void attend_text(
    const T* x, const float* scores, const float* shift, T* to, float* room) {
  constexpr int LENGTH = SCORES / HEADS, WIDTH = power_of_two_from(LENGTH), AT_ONCE = 32 / WIDTH;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int b = warp; b < TAKES; b += WARPS) {
    float v[8], total = 0, squares = 0;
    for (int k = lane * 8; k < DIM; k += 256) {
      read_chunk(x + b * DIM + k, v);
      for (int i = 0; i < 8; i++) total += v[i];
    }
    for (int apart = 16; apart > 0; apart /= 2) total += __shfl_xor_sync(0xffffffffu, total, apart);
    float mean = total / DIM;
    for (int k = lane * 8; k < DIM; k += 256) {
      read_chunk(x + b * DIM + k, v);
      for (int i = 0; i < 8; i++) squares += (v[i] - mean) * (v[i] - mean);
    }
    for (int apart = 16; apart > 0; apart /= 2)
      squares += __shfl_xor_sync(0xffffffffu, squares, apart);
    if (lane == 0) room[b] = rsqrtf(squares / DIM + 1e-5f);
  }
  __syncthreads();
  for (int first = warp * AT_ONCE; first < TAKES * HEADS; first += WARPS * AT_ONCE) {
    int one = first + lane / WIDTH, b = one / HEADS, s = one % HEADS * LENGTH + lane % WIDTH;
    bool there = one < TAKES * HEADS && lane % WIDTH < LENGTH;
    float score = there ? scores[b * SCORES + s] * room[b] + shift[s] : LEAST, best = score;
#pragma unroll
    for (int apart = WIDTH / 2; apart > 0; apart /= 2)
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, apart));
    float share = there ? __expf(score - best) : 0.0f, total = share;
#pragma unroll
    for (int apart = WIDTH / 2; apart > 0; apart /= 2)
      total += __shfl_xor_sync(0xffffffffu, total, apart);
    if (there) to[b * SCORES + s] = static_cast<T>(share / total);
  }
  __syncthreads();
}
