// Products with a weight: how it is stored, and how lanes or tensor cores multiply with it.

// d += a * b on tensor cores: tiles of 16 by 16 and 16 by 8 values of type T, the first with zeros
// from its row 8 on.  Lane l has two registers of row l / 4 of a, and of column l / 4 of b; and of
// row l / 4 of d, columns 2 * (l % 4) and the next.
__device__ __forceinline__ void multiply(float (&d)[2], const unsigned* a, const unsigned* b) {
  float none[2] = {};
#if __CUDA_ARCH__ >= 800
  if (BFLOAT16)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %5}, "
        "{%7, %8}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(none[0]), "+f"(none[1])
        : "r"(a[0]), "r"(0u), "r"(a[1]), "r"(b[0]), "r"(b[1]));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %5}, "
        "{%7, %8}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(none[0]), "+f"(none[1])
        : "r"(a[0]), "r"(0u), "r"(a[1]), "r"(b[0]), "r"(b[1]));
#endif
}

__device__ __forceinline__ unsigned minus_1024(unsigned pair_of_halves) {
  unsigned result;
  asm("sub.f16x2 %0, %1, %2;" : "=r"(result) : "r"(pair_of_halves), "r"(0x64006400u));
  return result;
}

// So many words that are read at a time.
template <int COUNT>
struct alignas(4 * COUNT) Words {
  unsigned word[COUNT];
};

// Sixteen values of a type of two bytes.
__device__ __forceinline__ void read_pairs(const T* from, unsigned (&to)[8]) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    Words<4> half = reinterpret_cast<const Words<4>*>(from)[i];
#pragma unroll
    for (int n = 0; n < 4; n++) to[4 * i + n] = half.word[n];
  }
}

// Warps that share a row of a weight of so many columns: as many as divide them.
__device__ constexpr int warps_of_row(int columns) {
  int apart = 1;
  while (apart < WARPS && columns % (2 * apart) == 0) apart *= 2;
  return apart;
}

// Sums over the warp of N values, a power of two; lane l has that of value l / (32 / N).
template <int N>
__device__ __forceinline__ float sum_over_lanes(float (&values)[N]) {
  int lane = threadIdx.x % 32, apart = 16;
#pragma unroll
  for (int n = N / 2; n >= 1; n /= 2, apart /= 2) {
    bool upper = lane & apart;
#pragma unroll
    for (int i = 0; i < n; i++) {
      float given = upper ? values[i] : values[i + n];
      float kept = upper ? values[i + n] : values[i];
      values[i] = kept + __shfl_xor_sync(0xffffffffu, given, apart);
    }
  }
  for (; apart > 0; apart /= 2) values[0] += __shfl_xor_sync(0xffffffffu, values[0], apart);
  return values[0];
}

// An integer under 2^23 is the mantissa of a float from 2^23 on: cheaper than a conversion.
__device__ __forceinline__ float float_of(unsigned q) {
  return __uint_as_float(q | 0x4b000000u) - 8388608.0f;
}

// Two integers under 256, sixteen bits apart, as two values of T.
__device__ __forceinline__ unsigned pair_of(unsigned q) {
  if (!BFLOAT16) return minus_1024(q | 0x64006400u);
  return __float_as_uint(float_of(q & 0xffff)) >> 16 |
    (__float_as_uint(float_of(q >> 16)) & 0xffff0000u);
}

// How a weight is stored.  Affine: weight = scale * q + bias, the lowest bits of a word first.
//
// Eight: eight weights of a row, which a lane multiplies one by one.  Sixteen: as many for tensor
// cores, which take pairs; with integers the two of a pair are not neighbours, so the pairs of what
// they are multiplied with are put in the same order.
template <int BITS, int GROUP>
struct Weight {
  static constexpr int PER_WORD = 32 / BITS;
  static constexpr bool FOR_TENSOR_CORES = GROUP % 64 == 0;

  const unsigned* words;
  const T *scales, *biases;

  struct Eight {
    unsigned words[8 / PER_WORD];
    T scale, bias;
  };

  struct Sixteen {
    unsigned words[16 / PER_WORD];
    T scale[2], bias[2];
  };

  __device__ __forceinline__ void fetch(Eight& held, int at) const {
#pragma unroll
    for (int i = 0; i < 8 / PER_WORD; i++) held.words[i] = words[at / PER_WORD + i];
    held.scale = scales[at / GROUP];
    held.bias = biases[at / GROUP];
  }

  // With the scales and biases at two other places, which are those of the lane's results.
  __device__ __forceinline__ void fetch(Sixteen& held, int at, int (&of)[2]) const {
    constexpr int COUNT = 16 / PER_WORD;
    Words<COUNT> read = *reinterpret_cast<const Words<COUNT>*>(words + at / PER_WORD);
#pragma unroll
    for (int i = 0; i < COUNT; i++) held.words[i] = read.word[i];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      held.scale[i] = scales[of[i] / GROUP];
      held.bias[i] = biases[of[i] / GROUP];
    }
  }

  static __device__ __forceinline__ void unpack(const Eight& held, float* to) {
#pragma unroll
    for (int i = 0; i < 8; i++)
      to[i] = float_of(held.words[i / PER_WORD] >> (i % PER_WORD * BITS) & ((1u << BITS) - 1));
  }

  static __device__ __forceinline__ float scaled(const Eight& held, float product, float total) {
    return static_cast<float>(held.scale) * product + static_cast<float>(held.bias) * total;
  }

  static __device__ __forceinline__ void in_order(const unsigned (&pairs)[8], unsigned (&to)[8]) {
    constexpr int HALF = PER_WORD / 2;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      int first = i / HALF * HALF + i % HALF / 2;
      to[i] = __byte_perm(pairs[first], pairs[first + HALF / 2], i % 2 ? 0x7632 : 0x5410);
    }
  }

  static __device__ __forceinline__ void add(
      float (&sums)[2], const unsigned (&x)[8], float total, const Sixteen& held) {
    constexpr int HALF = PER_WORD / 2;
    constexpr unsigned MASK = (1u << BITS) - 1;
    float products[2] = {};
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
      unsigned pairs[2];
#pragma unroll
      for (int n = 0; n < 2; n++)
        pairs[n] =
          pair_of(held.words[(i + n) / HALF] >> ((i + n) % HALF * BITS) & (MASK << 16 | MASK));
      multiply(products, x + i, pairs);
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
      sums[i] += static_cast<float>(held.scale[i]) * products[i] +
        static_cast<float>(held.bias[i]) * total;
  }

  __device__ __forceinline__ void prefetch(long long from, long long count) const {
    prefetch_l2(words + from / PER_WORD, count * BITS / 8);
    prefetch_l2(scales + from / GROUP, count / GROUP * sizeof(T));
    prefetch_l2(biases + from / GROUP, count / GROUP * sizeof(T));
  }

  static __device__ constexpr long long bytes(long long count) { return count * BITS / 8; }
};

template <int GROUP>
struct Weight<0, GROUP> {
  static constexpr bool FOR_TENSOR_CORES = true;

  const T* values;

  using Eight = Chunk<T>;

  struct Sixteen {
    unsigned pairs[8];
  };

  __device__ __forceinline__ void fetch(Eight& held, int at) const {
    held = *reinterpret_cast<const Chunk<T>*>(values + at);
  }

  __device__ __forceinline__ void fetch(Sixteen& held, int at, int (&)[2]) const {
    read_pairs(values + at, held.pairs);
  }

  static __device__ __forceinline__ void unpack(const Eight& held, float* to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to[i] = static_cast<float>(held.value[i]);
  }

  static __device__ __forceinline__ float scaled(const Eight&, float product, float) {
    return product;
  }

  static __device__ __forceinline__ void in_order(const unsigned (&pairs)[8], unsigned (&to)[8]) {
#pragma unroll
    for (int i = 0; i < 8; i++) to[i] = pairs[i];
  }

  static __device__ __forceinline__ void add(
      float (&sums)[2], const unsigned (&x)[8], float, const Sixteen& held) {
#pragma unroll
    for (int i = 0; i < 8; i += 2) multiply(sums, x + i, held.pairs + i);
  }

  __device__ __forceinline__ void prefetch(long long from, long long count) const {
    prefetch_l2(values + from, bytes(count));
  }

  static __device__ constexpr long long bytes(long long count) { return count * sizeof(T); }
};

// A block's part of a product with a weight (OUT, IN): EACH of its rows, for STREAMS.
template <class W, int OUT, int IN, int STREAMS>
struct Part {
  static constexpr int EACH = (OUT + BLOCKS - 1) / BLOCKS;

  // Of the row that is `row` of the block, where its weight begins, or the last one's.
  static __device__ __forceinline__ int start(int row) {
    static_assert((long long)OUT * IN < 1ll << 31, "a weight's numbers are counted in 32 bits");
    return min((int)blockIdx.x * EACH + min(row, EACH - 1), OUT - 1) * IN;
  }

  // Ask for the block's part to be brought into the L2 cache.
  static __device__ __forceinline__ void prefetch(const W& weight) {
    if (W::bytes((long long)OUT * IN) > MAX_PREFETCHED) return;
    long long from = (long long)blockIdx.x * EACH, rows = min((long long)EACH, OUT - from);
    if (rows > 0) weight.prefetch(from * IN, rows * IN);
  }

  // Tell `sink` each stream, each row of the block, and the sum of what so many warps found.
  template <class Sink>
  static __device__ __forceinline__ void reduce(const float* partial, int warps, Sink sink) {
    __syncthreads();
    for (int i = threadIdx.x; i < EACH * STREAMS; i += THREADS) {
      int row = blockIdx.x * EACH + i / STREAMS;
      if (row >= OUT) continue;
      float sum = 0;
      for (int p = 0; p < warps; p++) sum += partial[i * warps + p];
      sink(i % STREAMS, row, sum);
    }
  }
};

// The product by lanes, which multiply one by one.  A column is 256 weights of a row, eight a lane;
// APART warps share a row, and each holds the weights of HELD rows at a time, the first of them from
// before the blocks meet.
template <class W, int OUT, int IN, int STREAMS>
struct LaneProduct : Part<W, OUT, IN, STREAMS> {
  using Base = Part<W, OUT, IN, STREAMS>;
  static constexpr int EACH = Base::EACH;
  static constexpr int COLUMNS = (IN + 255) / 256;
  static constexpr int APART = warps_of_row(COLUMNS);
  static constexpr int BESIDE = WARPS / APART;
  static constexpr int PER_WARP = (EACH + BESIDE - 1) / BESIDE;
  static constexpr int ROOM = (sizeof(T) == 4 ? 8 : 16) / STREAMS;
  static constexpr int MOST = ROOM < 1 ? 1 : ROOM > 8 ? 8 : ROOM;
  static constexpr int HELD = PER_WARP < MOST ? PER_WARP : MOST;

  W weight;
  typename W::Eight held[HELD];

  __device__ __forceinline__ LaneProduct(W weight) : weight(weight) {
    fetch(0, threadIdx.x / 32 % APART);
  }

  __device__ __forceinline__ void fetch(int first, int column) {
    int k = column * 256 + threadIdx.x % 32 * 8, group = threadIdx.x / 32 / APART;
    if (k >= IN) return;
#pragma unroll
    for (int n = 0; n < HELD; n++)
      weight.fetch(held[n], Base::start(group + (first + n) * BESIDE) + k);
  }

  // Stream b of x is at x + b * stride; `partial` is shared, EACH * STREAMS * WARPS floats.
  template <class Sink>
  __device__ __forceinline__ void run(const T* x, int stride, float* partial, Sink sink) {
    constexpr int SUMS = power_of_two_from(HELD * STREAMS);
    int lane = threadIdx.x % 32, part = threadIdx.x / 32 % APART, group = threadIdx.x / 32 / APART;
    for (int first = 0; first < PER_WARP; first += HELD) {
      float sums[SUMS] = {};
      for (int column = part; column < COLUMNS; column += APART) {
        if (first > 0 || column > part) fetch(first, column);
        int k = column * 256 + lane * 8;
        if (k >= IN) continue;
        float values[STREAMS][8], totals[STREAMS];
#pragma unroll
        for (int b = 0; b < STREAMS; b++) {
          read_chunk(x + b * stride + k, values[b]);
          totals[b] = 0;
          for (int i = 0; i < 8; i++) totals[b] += values[b][i];
        }
#pragma unroll
        for (int n = 0; n < HELD; n++) {
          float weights[8];
          W::unpack(held[n], weights);
#pragma unroll
          for (int b = 0; b < STREAMS; b++) {
            float product = 0;
#pragma unroll
            for (int i = 0; i < 8; i++) product += values[b][i] * weights[i];
            sums[n * STREAMS + b] += W::scaled(held[n], product, totals[b]);
          }
        }
      }
      float sum = sum_over_lanes(sums);
      int at = lane / (32 / SUMS), row = group + (first + at / STREAMS) * BESIDE;
      if (lane % (32 / SUMS) == 0 && at < HELD * STREAMS && row < EACH)
        partial[(row * STREAMS + at % STREAMS) * APART + part] = sum;
    }
    Base::reduce(partial, APART, sink);
  }
};

// The product by tensor cores: a tile is eight rows by 64 weights, sixteen a lane, for all streams,
// at most eight.  APART warps share a row, DEPTH tiles each; a warp goes along as many rows as are
// SPAN tiles high, and holds HELD tiles at a time, the first of them from before the blocks meet.  As
// soon as one is used, another is fetched.  Holding more spills registers in the large shape.
template <class W, int OUT, int IN, int STREAMS>
struct TensorProduct : Part<W, OUT, IN, STREAMS> {
  using Base = Part<W, OUT, IN, STREAMS>;
  static constexpr int EACH = Base::EACH;
  static constexpr int APART = warps_of_row(IN / 64);
  static constexpr int BESIDE = WARPS / APART;
  static constexpr int DEPTH = IN / 64 / APART;
  static constexpr int HIGH = ((EACH + 7) / 8 + BESIDE - 1) / BESIDE;
  static constexpr int SPAN = HIGH <= 4 ? HIGH : HIGH <= 6 ? 6 : 8;
  static constexpr int AT_ONCE = SPAN > 4 ? 1 : 4 / SPAN < DEPTH ? 4 / SPAN : DEPTH;
  static constexpr int HELD = SPAN > 4 ? SPAN / 2 : SPAN * AT_ONCE;
  static constexpr int TILES = (HIGH + SPAN - 1) / SPAN * SPAN * DEPTH;

  W weight;
  typename W::Sixteen held[HELD];

  __device__ __forceinline__ TensorProduct(W weight) : weight(weight) {
#pragma unroll
    for (int i = 0; i < HELD; i++) fetch(i, i);
  }

  static __device__ __forceinline__ int row_of(int tile) {
    int high = tile / (SPAN * DEPTH) * SPAN + tile % SPAN;
    return (threadIdx.x / 32 / APART + high * BESIDE) * 8;
  }

  // Tiles of one warp are neighbours: their scales lie in the same sectors of memory.
  static __device__ __forceinline__ int column(int depth) {
    return (threadIdx.x / 32 % APART * DEPTH + depth) * 64;
  }

  __device__ __forceinline__ void fetch(int i, int tile) {
    int lane = threadIdx.x % 32, row = row_of(tile), k = column(tile / SPAN % DEPTH);
    int result = row + lane % 4 * 2;
    int results[2] = {Base::start(result) + k, Base::start(result + 1) + k};
    weight.fetch(held[i], Base::start(row + lane / 4) + k + lane % 4 * 16, results);
  }

  // A lane's values of x; none where there is no stream.
  static __device__ __forceinline__ void read(
      const T* x, int stride, int depth, unsigned (&pairs)[8]) {
    int lane = threadIdx.x % 32;
    if (lane / 4 < STREAMS)
      read_pairs(x + lane / 4 * stride + column(depth) + lane % 4 * 16, pairs);
  }

  // As in `LaneProduct`.
  template <class Sink>
  __device__ __forceinline__ void run(const T* x, int stride, float* partial, Sink sink) {
    int lane = threadIdx.x % 32, part = threadIdx.x / 32 % APART;
    unsigned pairs[8] = {}, ones[2];
    ones[0] = ones[1] = BFLOAT16 ? 0x3f803f80u : 0x3c003c00u;
    read(x, stride, 0, pairs);
    for (int first = 0; first < TILES; first += SPAN * DEPTH) {
      float sums[SPAN][2] = {};
      for (int from = 0; from < DEPTH; from += AT_ONCE) {
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
          int depth = from + n, tile = first + depth * SPAN;
          if (DEPTH % AT_ONCE != 0 && depth >= DEPTH) continue;
          unsigned inputs[8];
          W::in_order(pairs, inputs);
          if (depth + 1 < DEPTH || first + SPAN * DEPTH < TILES)
            read(x, stride, (depth + 1) % DEPTH, pairs);
          // The sum of the inputs, which affine weights need.
          float total[2] = {};
#pragma unroll
          for (int i = 0; i < 8; i += 2) multiply(total, inputs + i, ones);
#pragma unroll
          for (int i = 0; i < SPAN; i++) {
            int slot = SPAN > 4 ? i % HELD : n * SPAN + i;
            W::add(sums[i], inputs, total[0], held[slot]);
            if (tile + i + HELD < TILES) fetch(slot, tile + i + HELD);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < 2 * SPAN; i++) {
        int row = row_of(first + i / 2) + lane % 4 * 2 + i % 2;
        if (lane / 4 < STREAMS && row < EACH)
          partial[(row * STREAMS + lane / 4) * APART + part] = sums[i / 2][i % 2];
      }
    }
    Base::reduce(partial, APART, sink);
  }
};

template <bool TENSOR_CORES, class W, int OUT, int IN, int STREAMS>
struct ProductOf {
  using Type = LaneProduct<W, OUT, IN, STREAMS>;
};

template <class W, int OUT, int IN, int STREAMS>
struct ProductOf<true, W, OUT, IN, STREAMS> {
  using Type = TensorProduct<W, OUT, IN, STREAMS>;
};

template <class W, int OUT, int IN, int STREAMS>
using Product = typename ProductOf<
  TENSOR_CORES && sizeof(T) == 2 && W::FOR_TENSOR_CORES && IN % 64 == 0, W, OUT, IN, STREAMS>::Type;
