// The body of the kernel `layer`: the words that end in PART or STORED are filled in by `layer.py`.
//
// What a product reads is prefetched while the one before it, or attention, runs, and not sooner: it
// would be in the way of what that reads.
//
// In `scratch`: what is rounded as the model's type (qkv, hidden states after attention and after
// cross-attention, the feed-forward's, attention's result), and what is not (attention's parts, scores
// of a text).

struct Places {
  const unsigned char *packed, *text;
  T* cache;
};
extern __shared__ float4 shared[];
Places* places = reinterpret_cast<Places*>(shared);
float* room = reinterpret_cast<float*>(shared) + PLACES_FLOATS;
T* staged = reinterpret_cast<T*>(room + ROOM);
// While attention runs, the room of products is where keys and values are copied to.
Chunk<T>* copies = reinterpret_cast<Chunk<T>*>(room + 2 * WARPS * FOUND);
T *qkv = reinterpret_cast<T*>(scratch), *attended = qkv + ROWS * 3 * DIM;
T *crossed = attended + ROWS * DIM, *hidden = crossed + ROWS * DIM, *mixed = hidden + ROWS * HIDDEN;
float *found = reinterpret_cast<float*>(scratch + EXACT_AT), *scores = found + UNITS * FOUND;
unsigned* counter = const_cast<unsigned*>(barrier);

using QKV = Weight<QKV_BITS, QKV_GROUP>;
using Out = Weight<OUT_BITS, OUT_GROUP>;
using FC1 = Weight<FC1_BITS, FC1_GROUP>;
using FC2 = Weight<FC2_BITS, FC2_GROUP>;
using QKVProduct = Product<QKV, 3 * DIM, DIM, PASS>;
using OutProduct = Product<Out, DIM, DIM, PASS>;
using FC1Product = Product<FC1, HIDDEN, DIM, PASS>;
using FC2Product = Product<FC2, DIM, HIDDEN, PASS>;

if (threadIdx.x == 0) {
PLACES_PART
}
__syncthreads();
const T* input = x;
for (int n = 0; n < LAYERS; n++) {
const unsigned char *packed = places[n].packed, *text = places[n].text;
PACKED_PART
QKV qkv_stored QKV_STORED;
Out out_stored OUT_STORED;
FC1 fc1_stored FC1_STORED;
FC2 fc2_stored FC2_STORED;

QKVProduct qkv_product;
auto begin_qkv = [&] { qkv_product.begin(qkv_stored); };
if (n == 0)
  begin_qkv();
else
  grid_barrier(counter, begin_qkv);

prefetch_cache(qkv, places[n].cache, position, length);
OutProduct::prefetch(out_stored);
for (int first = 0; first < ROWS; first += PASS) {
  int streams = min(PASS, ROWS - first);
  if (first > 0) __syncthreads();
  normalize<QKVProduct, PASS>(
    input + first * DIM, norm1_weight, norm1_bias, streams, staged, STRIDE, room);
  qkv_product.run(
    staged, STRIDE, streams, first + PASS < ROWS, room, [&](int b, int row, float y) {
      qkv[(first + b) * 3 * DIM + row] = static_cast<T>(y);
    });
}
grid_barrier(counter, [] {});

constexpr bool FC1_LATE = UNITS > BLOCKS;  // keys and values keep memory busy until then
if (!FC1_LATE) FC1Product::prefetch(fc1_stored);
attend<OutProduct>(
  qkv, places[n].cache, position, length, ALIKE_PART, mixed, found, room, copies);
if (FC1_LATE) FC1Product::prefetch(fc1_stored);
OutProduct out_product;
TEXT_PRODUCTS_PART
grid_barrier(counter, [&] {
  out_product.begin(out_stored);
  TEXT_BEGIN_PART
});

// Few rows leave registers for the next product's weights while the output's are multiplied with.
FC1Product fc1_product;
if (FC1_EARLY) fc1_product.begin(fc1_stored);
FC2Product::prefetch(fc2_stored);
if (blockIdx.x == BLOCKS - 1) {
  prefetch_l2(norm2_weight, DIM * sizeof(T));
  prefetch_l2(norm2_bias, DIM * sizeof(T));
}
for (int first = 0; first < ROWS; first += PASS) {
  int streams = min(PASS, ROWS - first);
  if (first > 0) __syncthreads();
  combine_splits<OutProduct>(mixed, found, first, streams, staged, STRIDE);
  TEXT_STAGE_PART
  __syncthreads();
  out_product.run(
    staged, STRIDE, streams, first + PASS < ROWS, room, [&](int b, int row, float y) {
      int at = (first + b) * DIM + row;
      attended[at] = static_cast<T>(static_cast<float>(input[at]) + rounded<T>(y));
    });
  TEXT_SCORES_PART
}
TEXT_PART
grid_barrier(counter, [&] {
  if (!FC1_EARLY) fc1_product.begin(fc1_stored);
});

{
  const void* following = n + 1 < LAYERS ? places[n + 1].packed : (const void*)next;
  long long bytes = n + 1 < LAYERS ? layer_bytes : next_bytes;
  prefetch_l2(reinterpret_cast<const char*>(following) + blockIdx.x * bytes, bytes);
  if (blockIdx.x == BLOCKS - 1 && n + 1 < LAYERS) {
    long long to_next = places[n + 1].packed - packed;
    prefetch_l2(reinterpret_cast<const char*>(norm1_weight) + to_next, DIM * sizeof(T));
    prefetch_l2(reinterpret_cast<const char*>(norm1_bias) + to_next, DIM * sizeof(T));
  }
}
for (int first = 0; first < ROWS; first += PASS) {
  int streams = min(PASS, ROWS - first);
  if (first > 0) __syncthreads();
  normalize<FC1Product, PASS>(
    crossed + first * DIM, norm2_weight, norm2_bias, streams, staged, STRIDE, room);
  fc1_product.run(
    staged, STRIDE, streams, first + PASS < ROWS, room, [&](int b, int row, float y) {
      y = rounded<T>(y);
      hidden[(first + b) * HIDDEN + FC2Product::place(row)] =
        static_cast<T>(y * (1.0f + erff(y * 0.70710678f)) * 0.5f);
    });
}
FC2Product fc2_product;
grid_barrier(counter, [&] { fc2_product.begin(fc2_stored); });

for (int first = 0; first < ROWS; first += PASS) {
  int streams = min(PASS, ROWS - first);
  if (first > 0) __syncthreads();
  fc2_product.run(
    hidden + first * HIDDEN, HIDDEN, streams, first + PASS < ROWS, room,
    [&](int b, int row, float y) {
      int at = (first + b) * DIM + row;
      out[at] = static_cast<T>(static_cast<float>(crossed[at]) + rounded<T>(y));
    });
}
input = out;
}
LOGITS_PART
