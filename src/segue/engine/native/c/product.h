/* Products of a matrix and some columns; included by a path after its simd_*.h.
 *
 * A lane is an output row, so no sum crosses lanes, and what is multiplied with is one value for
 * all of them.  A column's sums have one order, however many columns there are beside it. */

#define PARTS (BLOCK / LANES)
/* Bytes by which memory is asked for before it is read: a processor's own prefetching ends at a page
 * and begins anew in every block. */
#define AHEAD 8192
#define INLINE static inline __attribute__((always_inline))
#define NARROW 16 /* beside the bits of a weight: activations are int8 */

#include "quantize.h"

/* Bytes of a scale, and of what stands beside it. */
INLINE size_t scale_bytes(const struct matrix *m) { return m->head == HALF_BIAS ? 2 : 4; }
INLINE size_t head_bytes(const struct matrix *m) {
    return m->head == HALF_BIAS ? 4 : m->head == FLOAT_BIAS ? 8 : 5;
}

/* A block: scales, what stands beside them, and from the next line of the cache on the words. */
struct block_parts {
    const uint8_t *scales, *biases, *words;
};

INLINE struct block_parts parts_of(const struct matrix *m, int block) {
    const size_t many = (size_t)(m->columns / m->group) * BLOCK;
    const uint8_t *scales = m->data + (size_t)block * m->record;
    return (struct block_parts){scales, scales + many * scale_bytes(m),
                                scales + (many * head_bytes(m) + 63) / 64 * 64};
}

#if defined(PACKED_PRODUCT)
#include PACKED_PRODUCT /* a packed_tile of the path's own */
#elif defined(FEW_BITS)
#include "product_few.h"
#include "product_panel.h"
#else

/* R columns by one block of rows, where R and FORM are constants. */
INLINE void packed_tile(const struct matrix *m, int block, const struct input *in, int c, int R,
                        int FORM, float *out, size_t stride, int add) {
    const int BITS = FORM & ~NARROW, narrow = (FORM & NARROW) != 0;
    const int bytes = IN_BYTES(BITS, narrow), planes = PLANES(BITS, narrow);
    const int groups = m->columns / m->group, words = m->group * BITS / 32;
    const int take = (bytes ? 8 : 16) / BITS;
    const size_t lanes_of_group = lanes_for((size_t)m->group, BITS, narrow) * (size_t)R;
    const int32_t *lane = in->lanes + (size_t)c * lanes_for((size_t)m->columns, BITS, narrow);
    const float *steps = in->scale + (size_t)c * groups;
    const int32_t *sums = in->sum + (size_t)c * groups;
    const struct block_parts parts = parts_of(m, block);
    const uint8_t *scales = parts.scales, *biases = parts.biases, *word = parts.words;
    const uint8_t *ahead = scales + AHEAD;
    const size_t record = m->record / groups, line = record / (words + 2);
    const vi mask = vi_set(((1 << BITS) - 1) * (bytes ? 0x01010101 : 0x10001));
    const int middle = 1 << (BITS - 1);
    /* One column alone has more sums, so that products need not wait for each other. */
    const int turns = R == 1 ? 2 : 1;
    vf total[PARTS][TILE];
    for (int h = 0; h < PARTS; h++)
        for (int r = 0; r < R; r++) total[h][r] = vf_set(0);
    for (int g = 0; g < groups; g++, lane += lanes_of_group, word += 4 * BLOCK * words) {
        __builtin_prefetch(ahead, 0, 2);
        __builtin_prefetch(ahead + line, 0, 2);
        for (int h = 0; h < PARTS; h++) {
            const size_t row = (size_t)g * BLOCK + h * LANES;
            vi sum[TILE][2][2];
            vf scale, bias;
            if (m->head == ZERO_POINT) {
                vi zero = vi_load_bytes(biases + row);
                scale = vf_load((const float *)scales + row);
                bias = vf_set(0);
                for (int r = 0; r < R; r++) sum[r][0][0] = vi_mul(zero, vi_set(-sums[g * R + r]));
            } else {
                /* Centred, so that what cancels is not rounded. */
                if (m->head == HALF_BIAS) {
                    scale = vf_load_half((const uint16_t *)scales + row);
                    bias = vf_load_half((const uint16_t *)biases + row);
                } else {
                    scale = vf_load((const float *)scales + row);
                    bias = vf_load((const float *)biases + row);
                }
                bias = vf_fma(scale, vf_set((float)middle), bias);
                for (int r = 0; r < R; r++) sum[r][0][0] = vi_set(-middle * sums[g * R + r]);
            }
            for (int r = 0; r < R; r++)
                for (int n = 1; n < turns * planes; n++) sum[r][n / planes][n % planes] = vi_set(0);
            const int32_t *x = lane;
            for (int w = 0; w < words; w += 2) {
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
                        for (int plane = 0; plane < planes; plane++)
#pragma GCC unroll 8
                            for (int r = 0; r < R; r++, x++) {
                                vi *to = &sum[r][turn][plane];
#if defined(vi_dot_bytes)
                                *to = vi_dot_bytes(*to, q, vi_set(x[0]));
#else
                                *to = vi_dot(*to, q, vi_set(x[0]));
#endif
                            }
                    }
                }
            }
            for (int r = 0; r < R; r++) {
                if (turns == 2)
                    for (int plane = 0; plane < planes; plane++)
                        sum[r][0][plane] = vi_add(sum[r][0][plane], sum[r][1][plane]);
#ifdef vi_dot_bytes
                if (planes == 2)
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
#define MORE_TILES_6(name, CONSTANT)                                              \
    case 4: TILE_OF(name)(m, block, in, c, 4, CONSTANT, out, stride, add); break; \
    case 5: TILE_OF(name)(m, block, in, c, 5, CONSTANT, out, stride, add); break;
#define MORE_TILES_8(name, CONSTANT)                                              \
    MORE_TILES_6(name, CONSTANT)                                                  \
    case 6: TILE_OF(name)(m, block, in, c, 6, CONSTANT, out, stride, add); break; \
    case 7: TILE_OF(name)(m, block, in, c, 7, CONSTANT, out, stride, add); break;
#if TILE == 8
#define MORE_TILES MORE_TILES_8
#elif TILE == 6
#define MORE_TILES MORE_TILES_6
#else
#define MORE_TILES(name, CONSTANT)
#endif

#define TILE_OF(name) packed_tile
TILES(packed2, 2)
TILES(packed4, 4)
TILES(packed8, 8)
#if IN_BYTES(4, 1)
TILES(narrow2, NARROW | 2)
TILES(narrow4, NARROW | 4)
#else /* int8 lie as int16 do */
#define narrow2 packed2
#define narrow4 packed4
#endif
#if IN_BYTES(8, 1)
TILES(narrow8, NARROW | 8)
#else
#define narrow8 packed8
#endif
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
#ifdef FEW_BITS
    if (n >= MANY) {
        many_columns(m, from, to, in, n, out, stride, add);
        return;
    }
#endif
    switch (m->bits | (in->narrow ? NARROW : 0)) {
        case 2: packed2(m, from, to, in, n, out, stride, add); return;
        case 4: packed4(m, from, to, in, n, out, stride, add); return;
        case 8: packed8(m, from, to, in, n, out, stride, add); return;
        case NARROW | 2: narrow2(m, from, to, in, n, out, stride, add); return;
        case NARROW | 4: narrow4(m, from, to, in, n, out, stride, add); return;
        default: narrow8(m, from, to, in, n, out, stride, add); return;
    }
}
