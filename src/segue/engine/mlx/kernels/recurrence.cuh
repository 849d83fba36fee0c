// A layer of an LSTM over all steps of some rows in one launch.
//
// A block has UNITS hidden units, whose four gates are the 32 lanes of each warp, and a warp has a
// share of the columns: a lane's weights stay in its registers from the first step to the last.
//
// Blocks hand hidden states to each other through `hidden`, which is filled with ABSENT before: who
// needs a value reads it until it is there.  So a step costs one way through the L2 cache, and no
// barrier.  All blocks must run at once.

constexpr int UNITS = 8, WARPS = THREADS / 32, COLUMNS = DIM / WARPS;
constexpr unsigned ABSENT = 0xffffffffu;  // a NaN that arithmetic does not make
constexpr long long PATIENCE = 1ll << 34;  // clock ticks, some seconds; then it is an error

struct Four {
  float value[4];
};

__device__ __forceinline__ Four read_four(const float* from) {
  float4 read = *reinterpret_cast<const float4*>(from);
  return {{read.x, read.y, read.z, read.w}};
}

__device__ __forceinline__ uint4 peek(const unsigned* from) {
  uint4 read;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(read.x), "=r"(read.y), "=r"(read.z), "=r"(read.w)
               : "l"(from)
               : "memory");
  return read;
}

__device__ __forceinline__ bool present(uint4 read) {
  return read.x != ABSENT && read.y != ABSENT && read.z != ABSENT && read.w != ABSENT;
}

// What other blocks are waiting for; a NaN of any kind becomes one that is not ABSENT.
__device__ __forceinline__ void hand_over(unsigned* to, float value) {
  unsigned bits = value == value ? __float_as_uint(value) : 0x7fc00000u;
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(bits) : "memory");
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
