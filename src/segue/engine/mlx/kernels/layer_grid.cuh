// Decoder layers in one launch, for one column of ROWS streams.
//
// There is one block on each of BLOCKS multiprocessors, and all of them run at once.  Every product
// has its outputs shared out over the blocks, and between two products there is a grid barrier: at
// batch 1 that costs 1 to 2 µs, less than a launch, and meanwhile weights, which do not depend on
// what others compute, are on their way from memory already.
//
// Before this come the constants that `layer.py` names, the type T, and what `runtime` puts first.

constexpr int WARPS = THREADS / 32;

// What a barrier waits at most, in clock ticks, some seconds: a kernel that waits for a block that
// never runs is to be an error, not a hang.
constexpr long long PATIENCE = 1ll << 34;

__device__ __forceinline__ unsigned load_acquire(const unsigned* from) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

// Ask for bytes to be brought into the L2 cache; nobody waits for them.
__device__ __forceinline__ void prefetch_l2(const void* from, long long bytes) {
  unsigned long long start = reinterpret_cast<unsigned long long>(from), first = (start + 15) & ~15;
  bytes = (bytes - static_cast<long long>(first - start)) & ~15ll;
#if __CUDA_ARCH__ >= 900
  if (threadIdx.x == 0 && bytes > 0)
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(first), "r"((int)bytes));
#else
  for (long long at = threadIdx.x * 128; at < bytes; at += THREADS * 128)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(first + at));
#endif
}

// Copy 16 bytes to shared memory; nobody waits for them, until `wait_for_copies` is told how many of
// the groups that `end_of_copies` ended may still be under way.
__device__ __forceinline__ void copy_16_bytes(void* to, const void* from) {
#if __CUDA_ARCH__ >= 800
  unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
#else
  *reinterpret_cast<float4*>(to) = *reinterpret_cast<const float4*>(from);
#endif
}

__device__ __forceinline__ void end_of_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int MAY_BE_UNDER_WAY>
__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(MAY_BE_UNDER_WAY) : "memory");
#endif
}

// All blocks meet.  The highest bit of what is counted flips when the last one comes, so the
// counter need not be set back, and may be used again at once.  What is done `meanwhile` is done
// after the others were told and before they are waited for: reads that are begun there are on
// their way while the block waits, and what it has to tell does not wait for them.
template <class Meanwhile>
__device__ __forceinline__ void grid_barrier(unsigned* counter, Meanwhile meanwhile) {
  __syncthreads();
  unsigned before = 0;
  if (threadIdx.x == 0) {
    __threadfence();
    unsigned one = blockIdx.x == 0 ? 0x80000000u - (BLOCKS - 1) : 1u;
    before = atomicAdd(counter, one);
  }
  meanwhile();
  if (threadIdx.x == 0) {
    long long since = clock64();
    while (((before ^ load_acquire(counter)) & 0x80000000u) == 0)
      if (clock64() - since > PATIENCE) __trap();
  }
  __syncthreads();
}

__device__ constexpr int power_of_two_from(int n) {
  int power = 1;
  while (power < n) power *= 2;
  return power;
}

// Sums over the block of N values, for every thread; `room` has WARPS * N floats.
template <int N>
__device__ __forceinline__ void sum_over_block(float (&values)[N], float* room) {
  __syncthreads();
#pragma unroll
  for (int b = 0; b < N; b++) {
    for (int apart = 16; apart > 0; apart /= 2)
      values[b] += __shfl_xor_sync(0xffffffffu, values[b], apart);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32 * N + b] = values[b];
    values[b] = 0;
  }
  __syncthreads();
  for (int w = 0; w < WARPS; w++) {
#pragma unroll
    for (int b = 0; b < N; b++) values[b] += room[w * N + b];
  }
}

__device__ __forceinline__ float sum_over_warp(float value) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, apart);
  return value;
}
