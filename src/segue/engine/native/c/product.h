/* Products of a matrix and some columns; included by a path after its simd_*.h.
 *
 * A lane is an output row, so no sum crosses lanes, and what is multiplied with is one value for
 * all of them.  A column's sums have one order, however many columns there are beside it. */

#define PARTS (BLOCK / LANES)
/* Bytes by which memory is asked for before it is read: a processor's own prefetching ends at a page
 * and begins anew in every block. */
#define AHEAD 8192
#define INLINE static inline __attribute__((always_inline))

/* int16 is multiplied as such, two columns in a lane, or, where there is an instruction for unsigned
 * by signed bytes, as two planes of bytes, four columns in a lane: as many products, but weights of 4
 * and 8 bits take half as many instructions to unpack, or none. */
#if defined(PACKED_PRODUCT)
#define PLANES 2
#elif defined(vi_dot_bytes)
#define PLANES 2
#define PRODUCT vi_dot_bytes
#else
#define PLANES 1
#define PRODUCT vi_dot
#endif
#define MOST 32639.0f /* 127 * 256 + 127; on every path, so that all multiply the same integers */

/* Bytes of a scale, and of what stands beside it. */
INLINE size_t scale_bytes(const struct matrix *m) { return m->head == HALF_BIAS ? 2 : 4; }
INLINE size_t head_bytes(const struct matrix *m) {
    return m->head == HALF_BIAS ? 4 : m->head == FLOAT_BIAS ? 8 : 5;
}

#ifdef PACKED_PRODUCT
#include PACKED_PRODUCT /* a packed_tile of the path's own */
#else

/* R columns by one block of rows, where R and BITS are constants. */
INLINE void packed_tile(const struct matrix *m, int block, const struct input *in, int c, int R,
                        int BITS, float *out, size_t stride, int add) {
    const int groups = m->columns / m->group, words = m->group * BITS / 32;
    const int take = PLANES == 2 ? 8 / BITS : 16 / BITS;
    const size_t pairs_of_group = (size_t)m->group / 2 * R;
    const int32_t *pair = in->pairs + (size_t)c * (m->columns / 2);
    const float *steps = in->scale + (size_t)c * groups;
    const int32_t *sums = in->sum + (size_t)c * groups;
    const size_t many = (size_t)groups * BLOCK;
    const uint8_t *scales = m->data + (size_t)block * m->record;
    const uint8_t *biases = scales + many * scale_bytes(m);
    const uint8_t *word = scales + (many * head_bytes(m) + 63) / 64 * 64;
    const uint8_t *ahead = scales + AHEAD;
    const size_t record = m->record / groups, line = record / (words + 2);
    const vi mask = vi_set(((1 << BITS) - 1) * (PLANES == 2 ? 0x01010101 : 0x10001));
    const int middle = 1 << (BITS - 1);
    /* One column alone has more sums, so that products need not wait for each other. */
    const int turns = R == 1 ? 2 : 1;
    vf total[PARTS][TILE];
    for (int h = 0; h < PARTS; h++)
        for (int r = 0; r < R; r++) total[h][r] = vf_set(0);
    for (int g = 0; g < groups; g++, pair += pairs_of_group, word += 4 * BLOCK * words) {
        __builtin_prefetch(ahead, 0, 2);
        __builtin_prefetch(ahead + line, 0, 2);
        for (int h = 0; h < PARTS; h++) {
            const size_t lane = (size_t)g * BLOCK + h * LANES;
            vi sum[TILE][2][PLANES];
            vf scale, bias;
            if (m->head == ZERO_POINT) {
                vi zero = vi_load_bytes(biases + lane);
                scale = vf_load((const float *)scales + lane);
                bias = vf_set(0);
                for (int r = 0; r < R; r++) sum[r][0][0] = vi_mul(zero, vi_set(-sums[g * R + r]));
            } else {
                /* Centred, so that what cancels is not rounded. */
                if (m->head == HALF_BIAS) {
                    scale = vf_load_half((const uint16_t *)scales + lane);
                    bias = vf_load_half((const uint16_t *)biases + lane);
                } else {
                    scale = vf_load((const float *)scales + lane);
                    bias = vf_load((const float *)biases + lane);
                }
                bias = vf_fma(scale, vf_set((float)middle), bias);
                for (int r = 0; r < R; r++) sum[r][0][0] = vi_set(-middle * sums[g * R + r]);
            }
            for (int r = 0; r < R; r++)
                for (int n = 1; n < turns * PLANES; n++) sum[r][n / PLANES][n % PLANES] = vi_set(0);
            const int32_t *x = pair;
            for (int w = 0; w < words; w += 2)
#pragma GCC unroll 2
                for (int j = w; j < w + 2; j++) {
                    if (!h) __builtin_prefetch(ahead + (j + 2) * line, 0, 2);
                    const vi packed = vi_load(word + 4 * ((size_t)j * BLOCK + h * LANES));
#pragma GCC unroll 8
                    for (int k = 0; k < take; k++) {
                        vi q = k ? vi_shift(packed, BITS * k) : packed;
                        if (take > 1) q = vi_and(q, mask);
                        const int turn = ((j - w) * take + k) % turns;
#pragma GCC unroll 2
                        for (int plane = 0; plane < PLANES; plane++)
#pragma GCC unroll 8
                            for (int r = 0; r < R; r++, x++) {
                                vi *to = &sum[r][turn][plane];
                                *to = PRODUCT(*to, q, vi_set(x[0]));
                            }
                    }
                }
            for (int r = 0; r < R; r++) {
                if (turns == 2)
                    for (int plane = 0; plane < PLANES; plane++)
                        sum[r][0][plane] = vi_add(sum[r][0][plane], sum[r][1][plane]);
#if PLANES == 2
                sum[r][0][0] = vi_add(sum[r][0][0], vi_shift_left(sum[r][0][1], 8));
#endif
                const vf step = vf_set(steps[g * R + r]);
                total[h][r] = vf_fma(vf_mul(scale, step), vi_to_float(sum[r][0][0]), total[h][r]);
                if (m->head != ZERO_POINT)
                    total[h][r] = vf_fma(bias, vf_mul(step, vf_set((float)sums[g * R + r])),
                                         total[h][r]);
            }
        }
        ahead += record;
    }
    for (int r = 0; r < R; r++)
        for (int h = 0; h < PARTS; h++) {
            float *to = out + (size_t)(c + r) * stride + (size_t)block * BLOCK + h * LANES;
            vf_store(to, add ? vf_add(vf_load(to), total[h][r]) : total[h][r]);
        }
}

#endif

/* Likewise for floats of one KIND. */
INLINE void float_tile(const struct matrix *m, int block, const struct input *in, int c, int R,
                       int KIND, float *out, size_t stride, int add) {
    const size_t size = KIND == FLOAT32 ? 4 : 2;
    const float *x = in->floats + (size_t)c * m->columns;
    const uint8_t *w = m->data + (size_t)block * m->columns * BLOCK * size;
    vf total[PARTS][TILE];
    for (int h = 0; h < PARTS; h++)
        for (int r = 0; r < R; r++) total[h][r] = vf_set(0);
    for (int j = 0; j < m->columns; j++, x += R)
        for (int h = 0; h < PARTS; h++, w += LANES * size) {
            const vf value = KIND == FLOAT32   ? vf_load((const float *)w)
                             : KIND == FLOAT16 ? vf_load_half((const uint16_t *)w)
                                               : vf_load_bfloat((const uint16_t *)w);
            for (int r = 0; r < R; r++) total[h][r] = vf_fma(value, vf_set(x[r]), total[h][r]);
        }
    for (int r = 0; r < R; r++)
        for (int h = 0; h < PARTS; h++) {
            float *to = out + (size_t)(c + r) * stride + (size_t)block * BLOCK + h * LANES;
            vf_store(to, add ? vf_add(vf_load(to), total[h][r]) : total[h][r]);
        }
}

/* Blocks that a tile of columns is multiplied with before the next tile is: both stay in the cache. */
#define STRIP 4

#define TILES(name, CONSTANT)                                                                     \
    INLINE void name##_tile(const struct matrix *m, int block, const struct input *in, int c,     \
                            int left, float *out, size_t stride, int add) {                       \
        switch (left) {                                                                           \
            case 1: TILE_OF(name)(m, block, in, c, 1, CONSTANT, out, stride, add); break;         \
            case 2: TILE_OF(name)(m, block, in, c, 2, CONSTANT, out, stride, add); break;         \
            case 3: TILE_OF(name)(m, block, in, c, 3, CONSTANT, out, stride, add); break;         \
                MORE_TILES(name, CONSTANT)                                                        \
            default: TILE_OF(name)(m, block, in, c, TILE, CONSTANT, out, stride, add);            \
        }                                                                                         \
    }                                                                                             \
    static void name(const struct matrix *m, int from, int to, const struct input *in, int n,     \
                     float *out, size_t stride, int add) {                                        \
        for (int strip = from; strip < to; strip += STRIP)                                        \
            for (int c = 0; c < n; c += TILE)                                                     \
                for (int block = strip; block < to && block < strip + STRIP; block++)             \
                    name##_tile(m, block, in, c, n - c, out, stride, add);                        \
    }
#if TILE == 8
#define MORE_TILES(name, CONSTANT)                                                       \
    case 4: TILE_OF(name)(m, block, in, c, 4, CONSTANT, out, stride, add); break;        \
    case 5: TILE_OF(name)(m, block, in, c, 5, CONSTANT, out, stride, add); break;        \
    case 6: TILE_OF(name)(m, block, in, c, 6, CONSTANT, out, stride, add); break;        \
    case 7: TILE_OF(name)(m, block, in, c, 7, CONSTANT, out, stride, add); break;
#else
#define MORE_TILES(name, CONSTANT)
#endif

#define TILE_OF(name) packed_tile
TILES(packed2, 2)
TILES(packed4, 4)
TILES(packed8, 8)
#undef TILE_OF
#define TILE_OF(name) float_tile
TILES(floats32, FLOAT32)
TILES(floats16, FLOAT16)
TILES(bfloats16, BFLOAT16)
#undef TILE_OF

static void product(const struct matrix *m, int from, int to, const struct input *in, int n,
                    float *out, size_t stride, int add) {
    switch (m->kind) {
        case FLOAT32: floats32(m, from, to, in, n, out, stride, add); return;
        case FLOAT16: floats16(m, from, to, in, n, out, stride, add); return;
        case BFLOAT16: bfloats16(m, from, to, in, n, out, stride, add); return;
        default: break;
    }
    switch (m->bits) {
        case 2: packed2(m, from, to, in, n, out, stride, add); return;
        case 4: packed4(m, from, to, in, n, out, stride, add); return;
        default: packed8(m, from, to, in, n, out, stride, add); return;
    }
}

#ifdef SHUFFLES
/* Where the bytes of 8 columns go; low bytes of columns are even, high ones odd. */
static const uint8_t ORDER[2][16] = {
#if PLANES == 2
    {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15},  /* of 4 bits */
    {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15}}; /* of 8 */
#else
    {0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15},
    {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15}};
#endif
#endif

/* What is multiplied with the columns of one lane, which lie `apart`. */
INLINE int32_t lane_of(const int16_t *x, int apart, int plane) {
#if PLANES == 2
    uint32_t lane = 0;
    for (int j = 0; j < 4; j++) {
        const int value = x[j * apart], low = (int8_t)value;
        lane |= (uint32_t)(uint8_t)(plane ? (value - low) >> 8 : low) << 8 * j;
    }
    return (int32_t)lane;
#else
    (void)plane;
    return (int32_t)((uint16_t)x[0] | (uint32_t)(uint16_t)x[apart] << 16);
#endif
}

/* Quantize the columns of a group into lanes; return their sum. */
INLINE int32_t lanes_of(const float *x, int group, int bits, float inverse, int32_t *lanes) {
    const int take = (PLANES == 2 ? 8 : 16) / bits;
    const vf factor = vf_set(inverse);
#ifdef SHUFFLES
    if (bits > 2) {
        vi sum = vi_set(0);
        for (int j = 0; j < group; j += LANES)
            sum = vi_add(sum, vf_store_lanes(lanes + j / 2, vf_mul(vf_load(x + j), factor),
                                             ORDER[bits / 8]));
        return vi_sum(sum);
    }
#endif
    int16_t whole[128];
    int32_t sum = 0;
    for (int j = 0; j < group; j += LANES) vf_store_int16(whole + j, vf_mul(vf_load(x + j), factor));
    for (int j = 0; j < group; j++) sum += whole[j];
    for (int w = 0; w < group; w += 32 / bits)
        for (int k = 0; k < take; k++)
            for (int plane = 0; plane < PLANES; plane++) *lanes++ = lane_of(whole + w + k, take, plane);
    return sum;
}

static void prepare(const struct matrix *m, const float *x, int r, int n, struct input *to) {
    const int first = r / TILE * TILE, R = n - first < TILE ? n - first : TILE;
    if (m->kind != PACKED) {
        float *floats = to->floats + (size_t)first * m->columns + (r - first);
        for (int j = 0; j < m->columns; j++) floats[(size_t)j * R] = x[j];
        return;
    }
    const int groups = m->columns / m->group, half = m->group / 2;
    int32_t *pair = to->pairs + (size_t)first * (m->columns / 2) + (r - first);
    for (int g = 0; g < groups; g++, x += m->group, pair += half * R) {
        vf most = vf_set(0), finite = vf_set(0);
        for (int j = 0; j < m->group; j += LANES) {
            const vf value = vf_load(x + j);
            most = vf_max(vf_abs(value), most);
            finite = vf_fma(value, vf_set(0), finite); /* NaN of NaN and of infinity */
        }
        const float top = vf_top(most), wrong = vf_sum(finite);
        /* Below, its inverse would be infinite. */
        const float step = wrong != wrong ? wrong : top < 1e-30f ? 0 : top / MOST;
        const float inverse = step > 0 ? 1.0f / step : 0;
        int32_t lanes[64], *into = R == 1 ? pair : lanes;
        const int32_t sum = m->bits == 4 ? lanes_of(x, m->group, 4, inverse, into)
                                         : lanes_of(x, m->group, m->bits, inverse, into);
        for (int n = 0; R > 1 && n < half; n++) pair[n * R] = lanes[n];
        to->scale[(size_t)first * groups + (size_t)g * R + (r - first)] = step;
        to->sum[(size_t)first * groups + (size_t)g * R + (r - first)] = sum;
    }
}
