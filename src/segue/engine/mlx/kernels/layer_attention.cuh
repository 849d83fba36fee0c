// Layer norm, and attention over what has been played and over a text.

// Layer norm of some streams, for each block itself: that costs less than to meet once more.  What is
// normalized is put where the product wants it.  Few streams are all of the block's work; of many, a
// warp has one at a time.
template <class Product, int STREAMS>
__device__ __forceinline__ void normalize(
    const T* x, const T* weight, const T* bias, int streams, T* to, int stride, float* room) {
  if (STREAMS <= 4) {
    constexpr int EACH = (DIM + THREADS - 1) / THREADS;
    float values[STREAMS][EACH], mean[STREAMS] = {}, scale[STREAMS] = {};
    float weights[EACH], biases[EACH];
#pragma unroll
    for (int n = 0; n < EACH; n++) {
      int k = n * THREADS + threadIdx.x;
      bool there = k < DIM;
      weights[n] = there ? static_cast<float>(weight[k]) : 0.0f;
      biases[n] = there ? static_cast<float>(bias[k]) : 0.0f;
#pragma unroll
      for (int b = 0; b < STREAMS; b++) {
        values[b][n] = there && b < streams ? static_cast<float>(x[b * DIM + k]) : 0.0f;
        mean[b] += values[b][n];
      }
    }
    sum_over_block(mean, room);
#pragma unroll
    for (int b = 0; b < STREAMS; b++) {
      mean[b] /= DIM;
#pragma unroll
      for (int n = 0; n < EACH; n++) {
        float apart = n * THREADS + threadIdx.x < DIM ? values[b][n] - mean[b] : 0.0f;
        scale[b] += apart * apart;
      }
    }
    sum_over_block(scale, room);
#pragma unroll
    for (int b = 0; b < STREAMS; b++) {
      float normalizer = rsqrtf(scale[b] / DIM + 1e-5f);
#pragma unroll
      for (int n = 0; n < EACH; n++) {
        int k = n * THREADS + threadIdx.x;
        if (k >= DIM) continue;
        float y = rounded<T>((values[b][n] - mean[b]) * normalizer) * weights[n] + biases[n];
        to[b * stride + Product::place(k)] = static_cast<T>(y);
      }
    }
  } else {
    constexpr int CHUNKS = (DIM + 255) / 256;
    int lane = threadIdx.x % 32;
    for (int b = threadIdx.x / 32; b < streams; b += WARPS) {
      Chunk<T> values[CHUNKS];
      float mean = 0, scale = 0;
#pragma unroll
      for (int n = 0; n < CHUNKS; n++) {
        int k = n * 256 + lane * 8;
        if (k >= DIM) continue;
        values[n] = *reinterpret_cast<const Chunk<T>*>(x + b * DIM + k);
      }
#pragma unroll
      for (int n = 0; n < CHUNKS; n++) {
        if (n * 256 + lane * 8 >= DIM) continue;
#pragma unroll
        for (int i = 0; i < 8; i++) mean += static_cast<float>(values[n].value[i]);
      }
      mean = sum_over_warp(mean) / DIM;
#pragma unroll
      for (int n = 0; n < CHUNKS; n++) {
        if (n * 256 + lane * 8 >= DIM) continue;
#pragma unroll
        for (int i = 0; i < 8; i++) {
          float apart = static_cast<float>(values[n].value[i]) - mean;
          scale += apart * apart;
        }
      }
      float normalizer = rsqrtf(sum_over_warp(scale) / DIM + 1e-5f);
#pragma unroll
      for (int n = 0; n < CHUNKS; n++) {
        int k = n * 256 + lane * 8;
        if (k >= DIM) continue;
        float weights[8], biases[8];
        read_chunk(weight + k, weights);
        read_chunk(bias + k, biases);
        Chunk<T> placed;
#pragma unroll
        for (int i = 0; i < 8; i++) {
          float y = (static_cast<float>(values[n].value[i]) - mean) * normalizer;
          placed.value[Product::place(i)] = static_cast<T>(rounded<T>(y) * weights[i] + biases[i]);
        }
        *reinterpret_cast<Chunk<T>*>(to + b * stride + k) = placed;
      }
    }
  }
  __syncthreads();
}

// Where attention over a part of the positions leaves what it found: D sums, the largest score, the
// sum of shares, and nothing, so that the next one's can be read sixteen bytes at a time.  There are SPLITS parts for each head of each stream; where there is one, what is
// left is the result itself, in type T.
constexpr int FOUND = D + 4;
constexpr int UNITS = ROWS * HEADS * SPLITS;

// A part of the positions, of a head of a stream.  Where there is no such unit it has no positions.
// Takes of one prompt have the same keys and values for it, so all read those of the first of them:
// they come from the L2 cache, where each row's own would come from memory.
struct Unit {
  const T* fresh;
  T *keys, *values;
  int newest, from, to;
  long long to_first;

  __device__ __forceinline__ Unit(
      int unit, const T* qkv, T* cache, const int* position, int length, int d) {
    int split = unit % SPLITS, head = unit / SPLITS % HEADS, b = unit / SPLITS / HEADS;
    if (unit >= UNITS) b = 0;
    newest = position[OWN_POSITIONS ? b : 0];
    int each = (newest + SPLITS) / SPLITS;
    from = split * each;
    to = unit < UNITS ? min(from + each, newest + 1) : 0;
    fresh = qkv + b * 3 * DIM + head * D + d;
    keys = cache + ((long long)b * 2 * HEADS + head) * length * D + d;
    values = keys + (long long)HEADS * length * D;
    to_first = ((b < TAKES ? 0 : TAKES) - b) * 2ll * HEADS * length * D;
  }
};

// Ask for the cache to be brought into the L2 cache, where all of it is little.
__device__ __forceinline__ void prefetch_cache(
    const T* qkv, T* cache, const int* position, int length) {
  if (UNITS > BLOCKS || blockIdx.x >= UNITS) return;
  Unit unit(blockIdx.x, qkv, cache, position, length, 0);
  long long bytes = (long long)(min(unit.to, unit.newest) - unit.from) * D * sizeof(T);
  prefetch_l2(unit.keys + (long long)unit.from * D, bytes);
  prefetch_l2(unit.values + (long long)unit.from * D, bytes);
}

// Attention of one query of each stream.  Eight values of a head are a lane's, so D / 8 lanes share a
// key, and a warp has several keys at once; softmax runs along, and is put together at the end.  The
// newest key and value come from qkv, and are written to the cache, in place: what is read of it in
// a later step is written by then, since that step's input comes of this one's output.
//
// What a lane multiplies with it has copied to shared memory before, for itself: so many keys and
// values are on their way at a time, those of the block's next unit included, that memory is never
// idle.  There is one place more than are on their way: the one that was read last.
template <class Product>
__device__ __forceinline__ void attend(
    const T* qkv, T* cache, const int* position, int length, int alike, T* mixed, float* found,
    float* room, Chunk<T>* copies) {
  constexpr int LANES = D / 8, KEYS = 32 / LANES, APART = WARPS * KEYS, AHEAD = KEY_PLACES - 1;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, key = lane / LANES, d = lane % LANES * 8;
  int mine = warp * KEYS + key;
  if (blockIdx.x >= UNITS) return;
  Chunk<T>* own = copies + threadIdx.x;

  int copied = blockIdx.x;
  Unit ahead(copied, qkv, cache, position, length, d);
  int at = ahead.from + mine, to_place = 0;
  auto copy = [&] {
    if (at < ahead.to) {
      bool fresh = at == ahead.newest;
      long long cached = (long long)at * D + (at < alike ? ahead.to_first : 0);
      const T* k = fresh ? ahead.fresh + DIM : ahead.keys + cached;
      const T* v = fresh ? ahead.fresh + 2 * DIM : ahead.values + cached;
      Chunk<T>* place = own + to_place * 2 * THREADS;
#pragma unroll
      for (int i = 0; i < sizeof(Chunk<T>) / 16; i++) {
        copy_16_bytes(reinterpret_cast<float4*>(place) + i, reinterpret_cast<const float4*>(k) + i);
        copy_16_bytes(
          reinterpret_cast<float4*>(place + THREADS) + i, reinterpret_cast<const float4*>(v) + i);
      }
    }
    end_of_copies();
    to_place = to_place + 1 < KEY_PLACES ? to_place + 1 : 0;
    at += APART;
    if (at - key >= ahead.to && copied < UNITS) {
      copied += BLOCKS;
      ahead = Unit(copied, qkv, cache, position, length, d);
      at = ahead.from + mine;
    }
  };
#pragma unroll
  for (int i = 0; i < AHEAD; i++) copy();

  int place = 0;
  bool odd = false;
  for (int number = blockIdx.x; number < UNITS; number += BLOCKS, odd = !odd) {
    Unit unit(number, qkv, cache, position, length, d);
    float q[8], sum[8] = {}, best = LEAST, total = 0;
    read_chunk(unit.fresh, q);
#pragma unroll
    for (int i = 0; i < 8; i++) q[i] *= rsqrtf((float)D);
    if (unit.from <= unit.newest && unit.newest < unit.to && threadIdx.x < LANES) {
      *reinterpret_cast<Chunk<T>*>(unit.keys + (long long)unit.newest * D) =
        *reinterpret_cast<const Chunk<T>*>(unit.fresh + DIM);
      *reinterpret_cast<Chunk<T>*>(unit.values + (long long)unit.newest * D) =
        *reinterpret_cast<const Chunk<T>*>(unit.fresh + 2 * DIM);
    }
    int first = unit.from + mine;
    do {
      wait_for_copies<AHEAD - 1>();
      float k[8], v[8], score = 0;
      read_chunk(reinterpret_cast<const T*>(own + place * 2 * THREADS), k);
      read_chunk(reinterpret_cast<const T*>(own + place * 2 * THREADS + THREADS), v);
      place = place + 1 < KEY_PLACES ? place + 1 : 0;
      copy();
      bool there = first < unit.to;
#pragma unroll
      for (int i = 0; i < 8; i++) score += q[i] * k[i];
#pragma unroll
      for (int apart = LANES / 2; apart > 0; apart /= 2)
        score += __shfl_xor_sync(0xffffffffu, score, apart);
      if (there) {
        float most = fmaxf(best, score), kept = __expf(best - most), share = __expf(score - most);
        best = most;
        total = total * kept + share;
#pragma unroll
        for (int i = 0; i < 8; i++) sum[i] = sum[i] * kept + share * v[i];
      }
      first += APART;
    } while (first - key < unit.to);
    float most = best;
#pragma unroll
    for (int apart = LANES; apart < 32; apart *= 2)
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, apart));
    float kept = best == LEAST ? 0.0f : __expf(best - most);
    total *= kept;
#pragma unroll
    for (int apart = LANES; apart < 32; apart *= 2)
      total += __shfl_xor_sync(0xffffffffu, total, apart);
    // Two places take turns, so that one is written while the other is still read.
    float* bests = room + (odd ? WARPS * FOUND : 0);
    float *totals = bests + WARPS, *sums = bests + 2 * WARPS;
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
      if (SPLITS == 1) {
        mixed[number * D + Product::place(threadIdx.x)] = static_cast<T>(y / whole);
      } else {
        found[number * FOUND + threadIdx.x] = y;
        if (threadIdx.x == 0) {
          found[number * FOUND + D] = top;
          found[number * FOUND + D + 1] = whole;
        }
      }
    }
  }
  wait_for_copies<0>();
}

// What attention found of some streams from `first` on, put together from its parts.
template <class Product>
__device__ __forceinline__ void combine_splits(
    const T* mixed, const float* found, int first, int streams, T* to, int stride) {
  if (SPLITS == 1) {
    for (int i = threadIdx.x * 8; i < streams * DIM; i += THREADS * 8)
      *reinterpret_cast<Chunk<T>*>(to + i / DIM * stride + i % DIM) =
        *reinterpret_cast<const Chunk<T>*>(mixed + first * DIM + i);
    return;
  }
  for (int i = threadIdx.x * 4; i < streams * DIM; i += THREADS * 4) {
    const float* parts = found + (long long)((first * DIM + i) / D) * SPLITS * FOUND;
    float4 sums[SPLITS], ends[SPLITS], y = {};
    float top = LEAST, whole = 0;
#pragma unroll
    for (int s = 0; s < SPLITS; s++) {
      sums[s] = *reinterpret_cast<const float4*>(parts + s * FOUND + i % D);
      ends[s] = *reinterpret_cast<const float4*>(parts + s * FOUND + D);
    }
#pragma unroll
    for (int s = 0; s < SPLITS; s++) top = fmaxf(top, ends[s].x);
#pragma unroll
    for (int s = 0; s < SPLITS; s++) {
      float share = ends[s].x == LEAST ? 0.0f : __expf(ends[s].x - top);
      whole += share * ends[s].y;
      y.x += share * sums[s].x;
      y.y += share * sums[s].y;
      y.z += share * sums[s].z;
      y.w += share * sums[s].w;
    }
    T* row = to + i / DIM * stride;
    row[Product::place(i % DIM)] = static_cast<T>(y.x / whole);
    row[Product::place(i % DIM + 1)] = static_cast<T>(y.y / whole);
    row[Product::place(i % DIM + 2)] = static_cast<T>(y.z / whole);
    row[Product::place(i % DIM + 3)] = static_cast<T>(y.w / whole);
  }
}

// Softmax of cross-attention's scores, whose norm is put to them here (see `lm.Layer.folded`), for
// each block itself.  LENGTH lanes, a power of two, have a head of a stream.
__device__ __forceinline__ void attend_text(
    const T* x, const float* scores, const float* shift, int streams, T* to, int stride, float* room) {
  constexpr int LENGTH = SCORES / HEADS, WIDTH = power_of_two_from(LENGTH), AT_ONCE = 32 / WIDTH;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int b = warp; b < streams; b += WARPS) {
    float v[8], total = 0, squares = 0;
    for (int k = lane * 8; k < DIM; k += 256) {
      read_chunk(x + b * DIM + k, v);
      for (int i = 0; i < 8; i++) total += v[i];
    }
    float mean = sum_over_warp(total) / DIM;
    for (int k = lane * 8; k < DIM; k += 256) {
      read_chunk(x + b * DIM + k, v);
      for (int i = 0; i < 8; i++) squares += (v[i] - mean) * (v[i] - mean);
    }
    squares = sum_over_warp(squares);
    if (lane == 0) room[b] = rsqrtf(squares / DIM + 1e-5f);
  }
  __syncthreads();
  for (int first = warp * AT_ONCE; first < streams * HEADS; first += WARPS * AT_ONCE) {
    int one = first + lane / WIDTH, b = one / HEADS, s = one % HEADS * LENGTH + lane % WIDTH;
    bool there = one < streams * HEADS && lane % WIDTH < LENGTH;
    float score = there ? scores[b * SCORES + s] * room[b] + shift[s] : LEAST, best = score;
#pragma unroll
    for (int apart = WIDTH / 2; apart > 0; apart /= 2)
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, apart));
    float share = there ? __expf(score - best) : 0.0f, total = share;
#pragma unroll
    for (int apart = WIDTH / 2; apart > 0; apart /= 2)
      total += __shfl_xor_sync(0xffffffffu, total, apart);
    if (there) to[b * stride + s] = static_cast<T>(share / total);
  }
  __syncthreads();
}
