// CUDA's words for the CPU's threads: a thread of a block is one of them, and a warp 32.

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

using std::max;
using std::min;

struct Index {
  int x;
};
static thread_local Index threadIdx, blockIdx;

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

struct Block {
  std::barrier<> all;
  std::vector<std::unique_ptr<std::barrier<>>> warps;
  std::vector<float> lanes;
  std::vector<float4> shared;

  Block(int threads, int bytes) : all(threads), lanes(threads), shared(bytes / 16 + 1) {
    for (int warp = 0; warp < threads / 32; warp++)
      warps.push_back(std::make_unique<std::barrier<>>(32));
  }
};
static thread_local Block* block;

static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static void __syncthreads() { block->all.arrive_and_wait(); }
static void __syncwarp() { block->warps[threadIdx.x / 32]->arrive_and_wait(); }

static float __shfl_down_sync(unsigned, float value, int apart) {
  block->lanes[threadIdx.x] = value;
  __syncwarp();
  bool there = threadIdx.x % 32 + apart < 32;
  float found = there ? block->lanes[threadIdx.x + apart] : value;
  __syncwarp();
  return found;
}

static unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, 4);
  return bits;
}

static long long clock64() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

static void __trap() {
  fprintf(stderr, "a kernel waited too long\n");
  exit(3);
}

static uint4 peeked(const unsigned* from) {
  std::this_thread::yield();
  uint4 found;
  unsigned* to = &found.x;
  for (int i = 0; i < 4; i++) to[i] = __atomic_load_n(from + i, __ATOMIC_RELAXED);
  return found;
}

// Blocks run one after the other, or at once, which those that wait for each other need.
template <typename Body>
void launch(int blocks, int threads, int bytes, bool at_once, Body body) {
  std::vector<std::unique_ptr<Block>> made;
  std::vector<std::thread> running;
  auto join = [&] {
    for (auto& thread : running) thread.join();
    running.clear();
  };
  for (int b = 0; b < blocks; b++) {
    made.push_back(std::make_unique<Block>(threads, bytes));
    for (int t = 0; t < threads; t++)
      running.emplace_back([=, mine = made.back().get()] {
        block = mine;
        threadIdx.x = t;
        blockIdx.x = b;
        body();
      });
    if (!at_once) join();
  }
  join();
}
