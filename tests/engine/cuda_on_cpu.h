// CUDA on a CPU, as much of it as segue's kernels use: every thread of a grid is a fiber of one
// thread of the machine, which runs until it waits for others.  Slow, and it shows no races between
// threads that need not wait; what a source computes, and that nothing waits for ever, it does show.
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

using std::max;
using std::min;

#define __device__
#define __forceinline__ inline
#define __global__
#define __launch_bounds__(...)
#define __shared__ static

template <class To, class From>
inline To bits_of(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

inline unsigned __float_as_uint(float value) { return bits_of<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return bits_of<float>(bits); }
inline float __int_as_float(unsigned bits) { return bits_of<float>(bits); }

// Types of two bytes; values are rounded to the nearest, ties to even.
struct __half {
  unsigned short bits;

  __half() = default;
  __half(float value) {
    unsigned all = __float_as_uint(value), sign = all >> 16 & 0x8000, least = all & 0x7fffffff;
    if (least > 0x7f800000) {
      bits = 0x7fff;
    } else if (least >= 0x477ff000) {
      bits = sign | 0x7c00;
    } else if (least >= 0x38800000) {
      bits = sign | ((least - 0x38000000 + 0xfff + (least >> 13 & 1)) >> 13);
    } else {
      bits = sign | (unsigned)std::nearbyint(std::ldexp(std::fabs(value), 24));
    }
  }
  operator float() const {
    unsigned exponent = bits >> 10 & 31, rest = bits & 1023;
    float size = exponent == 31 ? (rest ? NAN : INFINITY)
      : exponent == 0           ? std::ldexp((float)rest, -24)
                                : std::ldexp((float)(rest | 1024), (int)exponent - 25);
    return bits & 0x8000 ? -size : size;
  }
};

struct __nv_bfloat16 {
  unsigned short bits;

  __nv_bfloat16() = default;
  __nv_bfloat16(float value) {
    unsigned all = __float_as_uint(value);
    bits = value != value ? 0x7fff : (all + 0x7fff + (all >> 16 & 1)) >> 16;
  }
  operator float() const { return __uint_as_float((unsigned)bits << 16); }
};

struct float4 {
  float x, y, z, w;
};

inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct uint4 {
  unsigned x, y, z, w;
};

struct Copy {
  void* to;
  const void* from;
};

struct Warp {
  int waiting, turn;
  unsigned long long shuffled[2][32];
  unsigned registers[2][32][6];
};

struct Block {
  int waiting, turn, threads, votes[2];
  char* shared;
};

struct Fiber {
  void* stack_pointer;
  int thread, block_index;
  Warp* warp;
  Block* block;
  bool ended;
  std::vector<Copy> copies;
};

static Fiber* current;
static void* scheduler;
static int threads_of_block, blocks_of_grid;
static long long ticks;

// Save what a function call keeps, and go on where another fiber did so.
extern "C" void switch_stacks(void** from, void* to);
asm(R"(
.text
switch_stacks:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");

static void let_others() {
  Fiber* self = current;
  switch_stacks(&self->stack_pointer, scheduler);
}

struct Index {
  int x;
};
#define threadIdx (Index{current->thread})
#define blockIdx (Index{current->block_index})
#define blockDim (Index{threads_of_block})
#define gridDim (Index{blocks_of_grid})

template <class Group>
static void meet(Group* group, int count) {
  int turn = group->turn;
  if (++group->waiting == count) {
    group->waiting = 0;
    group->turn++;
  } else {
    while (group->turn == turn) let_others();
  }
}

static void __syncthreads() { meet(current->block, current->block->threads); }

static int __syncthreads_count(bool vote) {
  Block* block = current->block;
  int at = block->turn & 1;
  block->votes[at] += vote;
  __syncthreads();
  int count = block->votes[at];
  __syncthreads();
  block->votes[at] = 0;
  __syncthreads();
  __syncthreads();
  return count;
}

static int __syncthreads_or(bool vote) { return __syncthreads_count(vote) > 0; }

template <class V>
static V __shfl_xor_sync(unsigned, V value, int apart) {
  Warp* warp = current->warp;
  int at = warp->turn & 1, lane = current->thread % 32;
  memcpy(&warp->shuffled[at][lane], &value, sizeof value);
  meet(warp, 32);
  memcpy(&value, &warp->shuffled[at][lane ^ apart], sizeof value);
  return value;
}

static float __shfl_down_sync(unsigned, float value, int apart) {
  Warp* warp = current->warp;
  int at = warp->turn & 1, lane = current->thread % 32;
  memcpy(&warp->shuffled[at][lane], &value, sizeof value);
  meet(warp, 32);
  if (lane + apart < 32) memcpy(&value, &warp->shuffled[at][lane + apart], sizeof value);
  return value;
}

static void __syncwarp() { meet(current->warp, 32); }
static void __threadfence() {}

// A barrier that waits for what never comes runs out of patience here too.
static long long clock64() { return ticks += 1 << 14; }
static void __trap() {
  fprintf(stderr, "a kernel trapped\n");
  abort();
}

template <class V>
static V atomicAdd(V* to, V value) {
  V before = *to;
  *to += value;
  return before;
}

#define rsqrtf(x) (1 / std::sqrt((float)(x)))
#define __expf(x) std::exp((float)(x))

static unsigned __byte_perm(unsigned low, unsigned high, unsigned selected) {
  unsigned long long all = (unsigned long long)high << 32 | low;
  unsigned found = 0;
  for (int i = 0; i < 4; i++)
    found |= (unsigned)(all >> (selected >> 4 * i & 7) * 8 & 255) << 8 * i;
  return found;
}

// Copies are carried out when they are waited for, as late as they may be.
static void wait_for_copy_groups(int may_be_under_way) {
  std::vector<Copy>& copies = current->copies;
  int groups = 0;
  for (Copy& copy : copies) groups += copy.to == nullptr;
  size_t done = 0;
  for (; groups > may_be_under_way; done++) {
    if (copies[done].to)
      memcpy(copies[done].to, copies[done].from, 16);
    else
      groups--;
  }
  copies.erase(copies.begin(), copies.begin() + done);
}

static float value_of(unsigned bits, bool bfloat16) {
  static std::vector<float> known[2];
  if (known[bfloat16].empty()) {
    for (unsigned i = 0; i < 1 << 16; i++) {
      unsigned short half = i;
      known[bfloat16].push_back(
        bfloat16 ? (float)bits_of<__nv_bfloat16>(half) : (float)bits_of<__half>(half));
    }
  }
  return known[bfloat16][bits];
}

// mma.sync.aligned.m16n8k16.row.col, with sums in float32.
static void multiply_tiles(float (&d)[4], const unsigned* a, const unsigned* b, bool bfloat16) {
  Warp* warp = current->warp;
  int at = warp->turn & 1, lane = current->thread % 32;
  memcpy(warp->registers[at][lane], a, 16);
  memcpy(warp->registers[at][lane] + 4, b, 8);
  meet(warp, 32);
  for (int i = 0; i < 4; i++) {
    double sum = 0;
    for (int l = 0; l < 4; l++) {
      unsigned* row = warp->registers[at][lane / 4 * 4 + l];
      unsigned* column = warp->registers[at][(lane % 4 * 2 + i % 2) * 4 + l];
      for (int half = 0; half < 2; half++) {
        unsigned x = row[i / 2 + 2 * half], y = column[4 + half];
        sum += (double)value_of(x & 0xffff, bfloat16) * value_of(y & 0xffff, bfloat16) +
          (double)value_of(x >> 16, bfloat16) * value_of(y >> 16, bfloat16);
      }
    }
    d[i] += sum;
  }
}

static unsigned multiply_and_add_pairs(unsigned x, unsigned y, unsigned z) {
  unsigned found = 0;
  for (int shift = 0; shift < 32; shift += 16) {
    float product = value_of(x >> shift & 0xffff, false) * value_of(y >> shift & 0xffff, false);
    __half sum(product + value_of(z >> shift & 0xffff, false));
    found |= (unsigned)sum.bits << shift;
  }
  return found;
}

static void (*body)(void*);
static void* arguments;

static void begin_fiber() {
  body(arguments);
  Block* block = current->block;
  current->ended = true;
  if (--block->threads > 0 && block->waiting == block->threads) {
    block->waiting = 0;
    block->turn++;
  }
  for (;;) let_others();
}

// Run all blocks: at once, if they wait for each other, or one after the other.
static void launch(
    int blocks, int threads, long shared, bool at_once, void (*kernel)(void*), void* given) {
  constexpr size_t STACK = 1 << 16;
  body = kernel;
  arguments = given;
  threads_of_block = threads;
  blocks_of_grid = blocks;
  int together = at_once ? blocks : 1, fibers = threads * together;
  char* stacks = (char*)mmap(
    nullptr, STACK * fibers, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
    0);
  std::vector<std::vector<char>> memory(together, std::vector<char>(shared + 128));
  for (int first = 0; first < blocks; first += together) {
    std::vector<Warp> warps(fibers / 32, Warp{});
    std::vector<Block> own(together, Block{});
    std::vector<Fiber> all(fibers);
    for (int n = 0; n < together; n++) {
      // What nobody has written yet is no number.
      std::fill(memory[n].begin(), memory[n].end(), 0xff);
      own[n].threads = threads;
      own[n].shared = (char*)(((size_t)memory[n].data() + 127) & ~127ull);
    }
    for (int i = 0; i < fibers; i++) {
      void** top = (void**)(stacks + STACK * (i + 1)) - 2;
      *top = (void*)begin_fiber;
      all[i] = Fiber{
        top - 6, i % threads, first + i / threads, &warps[i / 32], &own[i / threads], false, {}};
    }
    for (bool any = true; any;) {
      any = false;
      for (Fiber& fiber : all) {
        if (fiber.ended) continue;
        any = true;
        current = &fiber;
        switch_stacks(&scheduler, fiber.stack_pointer);
      }
    }
  }
  munmap(stacks, STACK * fibers);
}
