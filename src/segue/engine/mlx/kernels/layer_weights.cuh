// How a weight is stored, and how tensor cores multiply with it.

// d += a * b on tensor cores: tiles of 16 by 16 and 16 by 8 values of type T.  Lane l has of a and d
// rows l / 4 and l / 4 + 8, which alternate in a's registers; of b column l / 4; and of d columns
// 2 * (l % 4) and the next.
__device__ __forceinline__ void multiply(float (&d)[4], const unsigned* a, const unsigned* b) {
#if __CUDA_ARCH__ >= 800
  if (BFLOAT16)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// x * y + z, of two halves each.
__device__ __forceinline__ unsigned multiply_add_halves(unsigned x, unsigned y, unsigned z) {
  unsigned result;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(x), "r"(y), "r"(z));
  return result;
}

// So many words that are read at a time.
template <int COUNT>
struct alignas(4 * COUNT) Words {
  unsigned word[COUNT];
};

// A group's scale and bias, of type T each.
using Marks = Words<sizeof(T) / 2>;

// Sixteen values of a type of two bytes.
__device__ __forceinline__ void read_pairs(const T* from, unsigned* to) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    Words<4> half = reinterpret_cast<const Words<4>*>(from)[i];
#pragma unroll
    for (int n = 0; n < 4; n++) to[4 * i + n] = half.word[n];
  }
}

// An integer under 2^23 is the mantissa of a float from 2^23 on: cheaper than a conversion.
__device__ __forceinline__ float float_of(unsigned q) {
  return __uint_as_float(q | 0x4b000000u) - 8388608.0f;
}

// Pair `number` of a word's integers of BITS bits, half a word apart, as two values of T.  As halves,
// integers are mantissas of 1024 and more; every other integer of four bits need not be shifted, for
// sixteen times it is a mantissa too.
template <int BITS>
__device__ __forceinline__ unsigned pair_of(unsigned word, int number) {
  constexpr unsigned MASK = (1u << BITS) - 1;
  if (BFLOAT16) {
    unsigned q = word >> number * BITS & (MASK << 16 | MASK);
    return __float_as_uint(float_of(q & 0xffff)) >> 16 |
      (__float_as_uint(float_of(q >> 16)) & 0xffff0000u);
  }
  if (BITS == 4 && number % 2 == 1) {
    unsigned q = (word >> (number - 1) * 4 & 0x00f000f0u) | 0x64006400u;
    return multiply_add_halves(q, 0x2c002c00u, 0xd400d400u);  // q / 16 - 64
  }
  unsigned q = (word >> number * BITS & (MASK << 16 | MASK)) | 0x64006400u;
  return multiply_add_halves(q, 0x3c003c00u, 0xe400e400u);  // q - 1024
}

// How a weight is stored.  Affine: weight = scale * q + bias, the lowest bits of a word first.  A
// group's scale and bias lie beside each other, in `marks`.
//
// Eight: eight weights of a row, which a lane multiplies one by one.  Tile: a lane's part of 8 * HIGH
// rows, 64 columns, for tensor cores: sixteen weights of each of HIGH rows, eight rows apart.  Tensor
// cores take pairs; with integers the two of a pair are not neighbours, so what they are multiplied
// with has the same order: `place` says where a value goes.
template <int BITS, int GROUP>
struct Weight {
  static constexpr int PER_WORD = 32 / BITS;
  static constexpr bool FOR_TENSOR_CORES = GROUP % 64 == 0;
  // Registers that a row of a tile takes.
  static constexpr int REGISTERS = 16 / PER_WORD + 1;

  struct Mark {
    T scale, bias;
  };

  const unsigned* words;
  const Marks* marks;

  struct Eight {
    unsigned words[8 / PER_WORD];
    Marks mark;
  };

  template <int HIGH>
  struct Tile {
    unsigned words[HIGH][16 / PER_WORD];
    Marks mark[HIGH];
  };

  static __device__ __forceinline__ float scale_of(const Marks& mark) {
    return static_cast<float>(reinterpret_cast<const Mark&>(mark).scale);
  }

  static __device__ __forceinline__ float bias_of(const Marks& mark) {
    return static_cast<float>(reinterpret_cast<const Mark&>(mark).bias);
  }

  __device__ __forceinline__ void fetch(Eight& held, int at) const {
#pragma unroll
    for (int i = 0; i < 8 / PER_WORD; i++) held.words[i] = words[at / PER_WORD + i];
    held.mark = marks[at / GROUP];
  }

  // From a place on: so many of the weight's rows of IN columns, so many columns.
  template <int IN>
  __device__ __forceinline__ Weight from(int row, int column) const {
    return {
      words + (row * IN + column) / PER_WORD,
      marks + row * (IN / GROUP) + (GROUP == 64 ? column / GROUP : 0)};
  }

  // The tile that is so many rows and columns behind the place that `from` was given; `start` is the
  // column of that place.
  template <int IN, int HIGH>
  __device__ __forceinline__ void fetch(Tile<HIGH>& held, int row, int column, int start) const {
    int group = (GROUP == 64 ? column : start + column) / GROUP;
    constexpr int COUNT = 16 / PER_WORD;
#pragma unroll
    for (int h = 0; h < HIGH; h++) {
      int at = (row + 8 * h) * (IN / PER_WORD) + column / PER_WORD;
      Words<COUNT> read = *reinterpret_cast<const Words<COUNT>*>(words + at);
#pragma unroll
      for (int i = 0; i < COUNT; i++) held.words[h][i] = read.word[i];
      held.mark[h] = marks[(row + 8 * h) * (IN / GROUP) + group];
    }
  }

  static __device__ __forceinline__ void unpack(const Eight& held, float* to) {
#pragma unroll
    for (int i = 0; i < 8; i++)
      to[i] = float_of(held.words[i / PER_WORD] >> (i % PER_WORD * BITS) & ((1u << BITS) - 1));
  }

  static __device__ __forceinline__ float scaled(const Eight& held, float product, float total) {
    return scale_of(held.mark) * product + bias_of(held.mark) * total;
  }

  static __device__ __forceinline__ constexpr int place(int k) {
    constexpr int HALF = PER_WORD / 2;
    return k / PER_WORD * PER_WORD + k % HALF * 2 + k % PER_WORD / HALF;
  }

  // A tile's rows of tensor cores: two of four products at a time are h's.
  template <int HIGH>
  static __device__ __forceinline__ void unpack(const Tile<HIGH>& held, unsigned (&to)[4][4]) {
    constexpr int HALF = PER_WORD / 2;
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int pair = 2 * j + i / 2, h = i % 2;
        to[j][i] = h < HIGH ? pair_of<BITS>(held.words[h % HIGH][pair / HALF], pair % HALF) : 0u;
      }
    }
  }

  template <int HIGH>
  static __device__ __forceinline__ void add(
      float (&sums)[4], const unsigned (&a)[4][4], const unsigned* x, const float (&total)[4],
      const Tile<HIGH>& held) {
    float products[4] = {};
#pragma unroll
    for (int j = 0; j < 4; j++) multiply(products, a[j], x + 2 * j);
#pragma unroll
    for (int i = 0; i < 2 * HIGH; i++)
      sums[i] += scale_of(held.mark[i / 2]) * products[i] + bias_of(held.mark[i / 2]) * total[i % 2];
  }

  // What affine weights need of the inputs: the sum of each column of x.
  static __device__ __forceinline__ void sum(float (&total)[4], const unsigned* x) {
    unsigned one = BFLOAT16 ? 0x3f803f80u : 0x3c003c00u, ones[4] = {one, 0, one, 0};
#pragma unroll
    for (int j = 0; j < 4; j++) multiply(total, ones, x + 2 * j);
  }

  __device__ __forceinline__ void prefetch(long long from, long long count) const {
    prefetch_l2(words + from / PER_WORD, count * BITS / 8);
    prefetch_l2(marks + from / GROUP, count / GROUP * sizeof(Mark));
  }

  static __device__ constexpr long long bytes(long long count) { return count * BITS / 8; }
};

template <int GROUP>
struct Weight<0, GROUP> {
  static constexpr bool FOR_TENSOR_CORES = true;
  static constexpr int REGISTERS = 8;

  const T* values;

  using Eight = Chunk<T>;

  template <int HIGH>
  struct Tile {
    unsigned pairs[HIGH][8];
  };

  __device__ __forceinline__ void fetch(Eight& held, int at) const {
    held = *reinterpret_cast<const Chunk<T>*>(values + at);
  }

  template <int IN>
  __device__ __forceinline__ Weight from(int row, int column) const {
    return {values + row * IN + column};
  }

  template <int IN, int HIGH>
  __device__ __forceinline__ void fetch(Tile<HIGH>& held, int row, int column, int) const {
#pragma unroll
    for (int h = 0; h < HIGH; h++)
      read_pairs(values + (row + 8 * h) * IN + column, held.pairs[h]);
  }

  static __device__ __forceinline__ void unpack(const Eight& held, float* to) {
#pragma unroll
    for (int i = 0; i < 8; i++) to[i] = static_cast<float>(held.value[i]);
  }

  static __device__ __forceinline__ float scaled(const Eight&, float product, float) {
    return product;
  }

  static __device__ __forceinline__ constexpr int place(int k) { return k; }

  template <int HIGH>
  static __device__ __forceinline__ void unpack(const Tile<HIGH>& held, unsigned (&to)[4][4]) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
      for (int i = 0; i < 4; i++)
        to[j][i] = i % 2 < HIGH ? held.pairs[i % 2 % HIGH][2 * j + i / 2] : 0u;
    }
  }

  template <int HIGH>
  static __device__ __forceinline__ void add(
      float (&sums)[4], const unsigned (&a)[4][4], const unsigned* x, const float (&)[4],
      const Tile<HIGH>&) {
#pragma unroll
    for (int j = 0; j < 4; j++) multiply(sums, a[j], x + 2 * j);
  }

  static __device__ __forceinline__ void sum(float (&)[4], const unsigned*) {}

  __device__ __forceinline__ void prefetch(long long from, long long count) const {
    prefetch_l2(values + from, bytes(count));
  }

  static __device__ constexpr long long bytes(long long count) { return count * sizeof(T); }
};
