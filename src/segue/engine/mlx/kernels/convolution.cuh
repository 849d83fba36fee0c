// A convolution as a product of matrices, in float32, whose rows slide over the signal.
//
// Row m of the left matrix is what the taps of output m see, `TAPS` times `IN` channels; a column n
// of the right one is an output channel's weights.  Nothing is unfolded in memory: what a tile needs
// is read from where it lies, with padding and the ELU before the convolution on the way.
//
// A transposed convolution by STRIDE steps with a kernel of two strides is one too: the STRIDE
// outputs between two inputs are so many more channels, of two taps.
//
// A block has a tile of TILE_M outputs by TILE_N channels, a thread 8 by TN of them.  Sums are added
// up in one order whatever the batch, so a row gives the same alone or with others.

constexpr int DEEP = 16;
constexpr int TM = 8, TN = TILE_M * TILE_N / (8 * THREADS);
constexpr int ACROSS = TILE_N / TN;
constexpr int KDIM = TAPS * IN;
constexpr int GAP = 4;  // keeps columns of a tile in different banks

__device__ __forceinline__ float elu(float x) { return x > 0 ? x : expf(x) - 1.0f; }

// The place in a signal of `length` steps of what lies at `at`, maybe outside; -1 for a zero.
__device__ __forceinline__ int within(int at, int length) {
  if (REFLECT) {
    at = at < 0 ? -at : at;
    return at < length ? at : 2 * (length - 1) - at;
  }
  return at < 0 || at >= length ? -1 : at;
}

struct Four {
  float value[4];
};

__device__ __forceinline__ Four read_four(const float* from) {
  float4 read = *reinterpret_cast<const float4*>(from);
  return {{read.x, read.y, read.z, read.w}};
}

// Four of a row of the left matrix, from column k on.
__device__ __forceinline__ Four read_signal(const float* signal, int m, int k, int length) {
  Four found = {{0, 0, 0, 0}};
  if (IN % 4 == 0) {
    int at = within(m * STEP + k / IN * DILATION - LEFT, length);
    if (k < KDIM && at >= 0) found = read_four(signal + (long long)at * IN + k % IN);
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int at = within(m * STEP + (k + i) / IN * DILATION - LEFT, length);
      if (k + i < KDIM && at >= 0) found.value[i] = signal[(long long)at * IN + (k + i) % IN];
    }
  }
  if (ELU_BEFORE) {
#pragma unroll
    for (int i = 0; i < 4; i++) found.value[i] = elu(found.value[i]);
  }
  return found;
}

// Four of a column of the right matrix.  Transposed, the first tap's come after all of the last's.
__device__ __forceinline__ Four read_weight(const float* weight, int n, int k) {
  Four found = {{0, 0, 0, 0}};
  if (n >= OUT || k >= KDIM) return found;
  if (TRANSPOSED) {
    return read_four(weight + (long long)(k < IN ? n + OUT : n) * IN + k % IN);
  } else if (KDIM % 4 == 0) {
    return read_four(weight + (long long)n * KDIM + k);
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (k + i < KDIM) found.value[i] = weight[(long long)n * KDIM + k + i];
    return found;
  }
}

struct alignas(16) Tiles {
  float left[2][DEEP][TILE_M + GAP];
  float right[2][DEEP][TILE_N + GAP];
};
