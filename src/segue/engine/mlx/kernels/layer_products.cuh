// Products with a weight (OUT, IN), shared out over blocks, by lanes or by tensor cores.

// Warps that share a row of a weight of so many columns: as many as divide them, at most `most`.
__device__ constexpr int warps_of_row(int columns, int most) {
  int apart = 1;
  while (apart < most && columns % (2 * apart) == 0) apart *= 2;
  return apart;
}

// The largest divisor of n that is at most `most`, or 1.
__device__ constexpr int divisor(int n, int most) {
  int found = 1;
  for (int i = 2; i <= most && i <= n; i++)
    if (n % i == 0) found = i;
  return found;
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

// A block's part of a product: EACH of the weight's rows, for at most STREAMS at a time.
template <class W, int OUT, int IN, int STREAMS>
struct Part {
  static constexpr int EACH = (OUT + BLOCKS - 1) / BLOCKS;
  // From one stream's sums to the next one's, in shared memory: lanes of a warp write to banks of
  // their own.
  static constexpr int STRIDE = (EACH + 11) / 16 * 16 + 4;

  // Of the row that is `row` of the block, where its weight begins, or the last one's.
  static __device__ __forceinline__ int start(int row) {
    return min((int)blockIdx.x * EACH + min(row, EACH - 1), OUT - 1) * IN;
  }

  // Ask for the block's part to be brought into the L2 cache.
  static __device__ __forceinline__ void prefetch(const W& weight) {
    if (W::bytes((long long)OUT * IN) > MAX_PREFETCHED) return;
    long long from = (long long)blockIdx.x * EACH, rows = min((long long)EACH, OUT - from);
    if (rows > 0) weight.prefetch(from * IN, rows * IN);
  }

  static __device__ __forceinline__ float* partial(float* room, int part, int stream, int row) {
    return room + (part * STREAMS + stream) * STRIDE + row;
  }

  // Tell `sink` each of some streams, each row of the block, and the sum of what PARTS warps found.
  template <int PARTS, class Sink>
  static __device__ __forceinline__ void reduce(float* room, int streams, Sink sink) {
    static_assert(PARTS * STREAMS * STRIDE <= ROOM, "sums have their room");
    __syncthreads();
    for (int i = threadIdx.x; i < EACH * streams; i += THREADS) {
      int stream = i / EACH, row = blockIdx.x * EACH + i % EACH;
      if (row >= OUT) continue;
      float sum = 0;
#pragma unroll
      for (int part = 0; part < PARTS; part++) sum += *partial(room, part, stream, i % EACH);
      sink(stream, row, sum);
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
  static constexpr int APART = warps_of_row(COLUMNS, WARPS);
  static constexpr int BESIDE = WARPS / APART;
  static constexpr int PER_WARP = (EACH + BESIDE - 1) / BESIDE;
  static constexpr int SUMS_AT_ONCE = (sizeof(T) == 4 ? 8 : 16) / STREAMS;
  static constexpr int MOST = SUMS_AT_ONCE < 1 ? 1 : SUMS_AT_ONCE > 8 ? 8 : SUMS_AT_ONCE;
  static constexpr int HELD = PER_WARP < MOST ? PER_WARP : MOST;

  W weight;
  typename W::Eight held[HELD];

  static __device__ __forceinline__ constexpr int place(int k) { return k; }

  __device__ __forceinline__ void begin(const W& of) {
    weight = of;
    fetch(0, threadIdx.x / 32 % APART);
  }

  __device__ __forceinline__ void fetch(int first, int column) {
    int k = column * 256 + threadIdx.x % 32 * 8, group = threadIdx.x / 32 / APART;
    if (k >= IN) return;
#pragma unroll
    for (int n = 0; n < HELD; n++)
      weight.fetch(held[n], Base::start(group + (first + n) * BESIDE) + k);
  }

  // Multiply with some streams, of which b is at x + b * stride, and tell `sink` what comes of it.
  // After `begin`, or after a run that was told that there is another one.
  template <class Sink>
  __device__ __forceinline__ void run(
      const T* x, int stride, int streams, bool another, float* room, Sink sink) {
    constexpr int SUMS = power_of_two_from(HELD * STREAMS);
    int lane = threadIdx.x % 32, part = threadIdx.x / 32 % APART, group = threadIdx.x / 32 / APART;
    for (int first = 0; first < PER_WARP; first += HELD) {
      float sums[SUMS] = {};
      for (int column = part; column < COLUMNS; column += APART) {
        if (first > 0 || column > part) fetch(first, column);
        int k = column * 256 + lane * 8;
        if (k >= IN) continue;
        float values[STREAMS][8] = {}, totals[STREAMS];
#pragma unroll
        for (int b = 0; b < STREAMS; b++) {
          if (b < streams) read_chunk(x + b * stride + k, values[b]);
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
        *Base::partial(room, part, at % STREAMS, row) = sum;
    }
    if (another) fetch(0, part);
    Base::template reduce<APART>(room, streams, sink);
  }
};

// The product by tensor cores.  A tile is 8 * HIGH of the weight's rows by 64 of its columns, and is
// multiplied with COLUMNS times eight streams.  APART warps share a row, DEPTH tiles each; a warp goes
// along SPAN tiles that are above each other, and holds HELD tiles at a time, the first of them from
// before the blocks meet.  As soon as one is used, another is fetched, if not all are held.
template <class W, int OUT, int IN, int STREAMS>
struct TensorProduct : Part<W, OUT, IN, STREAMS> {
  using Base = Part<W, OUT, IN, STREAMS>;
  static constexpr int EACH = Base::EACH;
  static constexpr int COLUMNS = (STREAMS + 7) / 8;
  // Sums of a lane at most, and registers for the weights that it holds.
  static constexpr int MOST_SUMS = 32, MOST_HELD = COLUMNS > 2 ? 32 : HELD_REGISTERS;
  static constexpr int EIGHTS = (EACH + 7) / 8;
  static constexpr int HIGH = EIGHTS == 1 || EIGHTS == 3 ? 1 : 2;
  static constexpr int ALL_TILES = (EIGHTS + HIGH - 1) / HIGH;
  static __device__ constexpr int beside_for_sums() {
    int beside = 1;
    while (beside < WARPS && beside < ALL_TILES &&
           (ALL_TILES + beside - 1) / beside * COLUMNS * 2 * HIGH > MOST_SUMS)
      beside *= 2;
    return beside;
  }
  static constexpr int APART = warps_of_row(IN / 64, WARPS / beside_for_sums());
  static constexpr int BESIDE = WARPS / APART;
  static constexpr int DEPTH = IN / 64 / APART;
  static constexpr int TILES_ABOVE = (ALL_TILES + BESIDE - 1) / BESIDE;
  static constexpr int MOST_SPAN = MOST_SUMS / (COLUMNS * 2 * HIGH);
  static constexpr int ROUNDS = (TILES_ABOVE + MOST_SPAN - 1) / MOST_SPAN;
  static constexpr int SPAN = (TILES_ABOVE + ROUNDS - 1) / ROUNDS;
  static constexpr int TILES = ROUNDS * DEPTH * SPAN;
  static constexpr int MOST_TILES = MOST_HELD / (W::REGISTERS * HIGH);
  static constexpr bool ALL_HELD = TILES <= MOST_TILES;
  // So many columns of tiles are gone through at once: every tile that is held has its registers.
  static constexpr int AT_ONCE = ALL_HELD ? DEPTH : divisor(DEPTH, MOST_TILES / SPAN);
  static constexpr int HELD = ALL_HELD ? TILES
    : MOST_TILES < SPAN                ? divisor(SPAN, MOST_TILES)
                                       : SPAN * AT_ONCE;

  // The rows that warps go along begin where all of them are rows of the weight, so that no row need
  // be looked at; the first of the last block's may be the one before's.
  static constexpr int COVERED = ALL_TILES * 8 * HIGH;

  W weight;
  typename W::template Tile<HIGH> held[HELD];

  static __device__ __forceinline__ constexpr int place(int k) { return W::place(k); }

  static __device__ __forceinline__ int first_row() {
    static_assert(COVERED <= OUT, "there are as many rows as a block goes along");
    return min((int)blockIdx.x * EACH, OUT - COVERED);
  }

  // Tiles of one warp are neighbours: their scales lie in the same sectors of memory.
  static __device__ __forceinline__ int first_column() {
    return threadIdx.x / 32 % APART * DEPTH * 64;
  }

  // Tiles that are nobody's are the last one's.
  static __device__ __forceinline__ int row_of(int above) {
    int tile = threadIdx.x / 32 / APART + above * BESIDE;
    return (ALL_TILES % BESIDE == 0 ? tile : min(tile, ALL_TILES - 1)) * 8 * HIGH;
  }

  __device__ __forceinline__ void begin(const W& of) {
    static_assert((long long)OUT * IN < 1ll << 31, "a weight's numbers are counted in 32 bits");
    int lane = threadIdx.x % 32;
    weight = of.template from<IN>(first_row() + lane / 4, first_column() + lane % 4 * 16);
#pragma unroll
    for (int i = 0; i < HELD; i++) {
      if (ALL_HELD)
        fetch(i, i / SPAN / DEPTH, i / SPAN % DEPTH, i % SPAN);
      else
        fetch(i, 0, i / SPAN, i % SPAN);
    }
  }

  __device__ __forceinline__ void fetch(int slot, int round, int depth, int i) {
    weight.template fetch<IN>(held[slot], row_of(round * SPAN + i), depth * 64, first_column());
  }

  // As in `LaneProduct`.
  template <class Sink>
  __device__ __forceinline__ void run(
      const T* x, int stride, int streams, bool another, float* room, Sink sink) {
    int lane = threadIdx.x % 32, part = threadIdx.x / 32 % APART;
#pragma unroll(ALL_HELD ? ROUNDS : 1)
    for (int round = 0; round < ROUNDS; round++) {
      float sums[SPAN][COLUMNS][4] = {};
#pragma unroll 1
      for (int from = 0; from < DEPTH; from += AT_ONCE) {
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
          int depth = from + n, first = ALL_HELD ? (round * DEPTH + depth) * SPAN : n * SPAN;
          const T* here = x + lane / 4 * stride + first_column() + depth * 64 + lane % 4 * 16;
          auto again = [&](int i) {
            if (ALL_HELD) return;
            int next = HELD < SPAN ? depth + (i + HELD) / SPAN : depth + AT_ONCE, later = round;
            if (next >= DEPTH) {
              next -= DEPTH;
              later = round + 1 < ROUNDS ? round + 1 : 0;
              if (later == 0 && !another) return;
            }
            fetch((first + i) % HELD, later, next, HELD < SPAN ? (i + HELD) % SPAN : i);
          };
          if (COLUMNS <= 2) {
            unsigned pairs[COLUMNS][8] = {};
            float totals[COLUMNS][4] = {};
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
              if (c * 8 + lane / 4 < streams) read_pairs(here + c * 8 * stride, pairs[c]);
              W::sum(totals[c], pairs[c]);
            }
#pragma unroll
            for (int i = 0; i < SPAN; i++) {
              unsigned a[4][4];
              W::unpack(held[(first + i) % HELD], a);
#pragma unroll
              for (int c = 0; c < COLUMNS; c++)
                W::add(sums[i][c], a, pairs[c], totals[c], held[(first + i) % HELD]);
              again(i);
            }
          } else {
            unsigned a[SPAN][4][4];
#pragma unroll
            for (int i = 0; i < SPAN; i++) W::unpack(held[(first + i) % HELD], a[i]);
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
              unsigned pairs[8] = {};
              float total[4] = {};
              if (c * 8 + lane / 4 < streams) read_pairs(here + c * 8 * stride, pairs);
              W::sum(total, pairs);
#pragma unroll
              for (int i = 0; i < SPAN; i++)
                W::add(sums[i][c], a[i], pairs, total, held[(first + i) % HELD]);
            }
#pragma unroll
            for (int i = 0; i < SPAN; i++) again(i);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < SPAN; i++) {
        int row = row_of(round * SPAN + i) + lane / 4 + first_row() - (int)blockIdx.x * EACH;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
#pragma unroll
          for (int n = 0; n < 2 * HIGH; n++) {
            int stream = c * 8 + lane % 4 * 2 + n % 2;
            int at = row + n / 2 * 8;
            if (stream < STREAMS && at >= 0 && at < EACH)
              *Base::partial(room, part, stream, at) = sums[i][c][n];
          }
        }
      }
    }
    Base::template reduce<APART>(room, streams, sink);
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
