/* Products of a matrix and some columns; included by a path after its simd_*.h.
 *
 * A lane is an output row, so no sum crosses lanes, and what is multiplied with is one value for
 * all of them.  A column's sums have one order, however many columns there are beside it. */

#define PARTS (BLOCK / LANES)
/* Bytes by which memory is asked for before it is read: a processor's own prefetching ends at a page
 * and begins anew in every block.  Measured at MusicGen small's shape, 4 bits, two cores: a step takes
 * 15.2 ms without it, 12.4 with 2 KB, 10.3 with 8; attention to 1,400 columns 7.7 and 5.4 ms. */
#define AHEAD 8192
#define INLINE static inline __attribute__((always_inline))

INLINE size_t head_bytes(const struct matrix *m) {
    return m->head == HALF_BIAS ? 4 * BLOCK : m->head == FLOAT_BIAS ? 8 * BLOCK : 5 * BLOCK;
}

/* R columns by one block of rows, where R and BITS are constants. */
INLINE void packed_tile(const struct matrix *m, int block, const struct input *in, int c, int R,
                        int BITS, float *out, size_t stride, int add) {
    const int groups = m->columns / m->group, words = m->group * BITS / 32, take = 16 / BITS;
    const size_t pairs_of_group = (size_t)m->group / 2 * R;
    const int32_t *pairs = in->pairs + (size_t)c * (m->columns / 2);
    const float *scales = in->scale + (size_t)c * groups;
    const int32_t *sums = in->sum + (size_t)c * groups;
    const uint8_t *record = m->data + (size_t)block * groups * m->record;
    const size_t head = head_bytes(m);
    const vi mask = vi_set(((1 << BITS) - 1) * 0x10001);
    const int middle = 1 << (BITS - 1);
    /* One column alone has two sums, so that products need not wait for each other. */
    const int chains = R == 1 ? 2 : 1;
    vf total[PARTS][TILE];
    for (int h = 0; h < PARTS; h++)
        for (int r = 0; r < R; r++) total[h][r] = vf_set(0);
    for (int g = 0; g < groups; g++) {
        for (int h = 0; h < PARTS; h++) {
            const int lane = h * LANES;
            vi sum[TILE][2];
            vf scale, bias;
            if (m->head == ZERO_POINT) {
                vi zero = vi_load_bytes(record + 4 * BLOCK + lane);
                scale = vf_load((const float *)record + lane);
                bias = vf_set(0);
                for (int r = 0; r < R; r++) sum[r][0] = vi_mul(zero, vi_set(-sums[g * R + r]));
            } else {
                /* Centred, so that what cancels is not rounded. */
                if (m->head == HALF_BIAS) {
                    scale = vf_load_half((const uint16_t *)record + lane);
                    bias = vf_load_half((const uint16_t *)record + BLOCK + lane);
                } else {
                    scale = vf_load((const float *)record + lane);
                    bias = vf_load((const float *)record + BLOCK + lane);
                }
                bias = vf_fma(scale, vf_set((float)middle), bias);
                for (int r = 0; r < R; r++) sum[r][0] = vi_set(-middle * sums[g * R + r]);
            }
            for (int r = 0; r < R; r++) sum[r][1] = vi_set(0);
            const uint8_t *word = record + head + 4 * lane;
            const int32_t *pair = pairs + g * pairs_of_group;
            for (int w = 0; w < words; w++, word += 4 * BLOCK) {
                if (!h) __builtin_prefetch(word + AHEAD, 0, 2);
                const vi packed = vi_load(word);
#pragma GCC unroll 8
                for (int k = 0; k < take; k++, pair += R) {
                    const vi q = vi_and(k ? vi_shift(packed, BITS * k) : packed, mask);
#pragma GCC unroll 8
                    for (int r = 0; r < R; r++)
                        sum[r][k % chains] = vi_dot(sum[r][k % chains], q, vi_set(pair[r]));
                }
            }
            for (int r = 0; r < R; r++) {
                if (chains == 2) sum[r][0] = vi_add(sum[r][0], sum[r][1]);
                const vf step = vf_set(scales[g * R + r]);
                total[h][r] = vf_fma(vf_mul(scale, step), vi_to_float(sum[r][0]), total[h][r]);
                if (m->head != ZERO_POINT)
                    total[h][r] = vf_fma(bias, vf_mul(step, vf_set((float)sums[g * R + r])),
                                         total[h][r]);
            }
        }
        record += m->record;
    }
    for (int r = 0; r < R; r++)
        for (int h = 0; h < PARTS; h++) {
            float *to = out + (size_t)(c + r) * stride + (size_t)block * BLOCK + h * LANES;
            vf_store(to, add ? vf_add(vf_load(to), total[h][r]) : total[h][r]);
        }
}

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

#define TILES(name, CONSTANT)                                                                    \
    static void name(const struct matrix *m, int from, int to, const struct input *in, int n,    \
                     float *out, size_t stride, int add) {                                       \
        for (int block = from; block < to; block++)                                              \
            for (int c = 0; c < n; c += TILE) switch (n - c) {                                   \
                    case 1: TILE_OF(name)(m, block, in, c, 1, CONSTANT, out, stride, add); break; \
                    case 2: TILE_OF(name)(m, block, in, c, 2, CONSTANT, out, stride, add); break; \
                    case 3: TILE_OF(name)(m, block, in, c, 3, CONSTANT, out, stride, add); break; \
                        MORE_TILES(name, CONSTANT)                                               \
                    default: TILE_OF(name)(m, block, in, c, TILE, CONSTANT, out, stride, add);   \
                }                                                                                \
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

static void prepare(const struct matrix *m, const float *x, int r, int n, struct input *to) {
    const int first = r / TILE * TILE, R = n - first < TILE ? n - first : TILE;
    if (m->kind != PACKED) {
        float *floats = to->floats + (size_t)first * m->columns + (r - first);
        for (int j = 0; j < m->columns; j++) floats[(size_t)j * R] = x[j];
        return;
    }
    const int groups = m->columns / m->group, per_word = 32 / m->bits, half = per_word / 2;
    int32_t *pair = to->pairs + (size_t)first * (m->columns / 2) + (r - first);
    for (int g = 0; g < groups; g++, x += m->group) {
        int16_t whole[128];
        vf most = vf_set(0), finite = vf_set(0);
        for (int j = 0; j < m->group; j += LANES) {
            const vf value = vf_load(x + j);
            most = vf_max(vf_abs(value), most);
            finite = vf_fma(value, vf_set(0), finite); /* NaN of NaN and of infinity */
        }
        const float top = vf_top(most), wrong = vf_sum(finite);
        /* Below, its inverse would be infinite. */
        const float step = wrong != wrong ? wrong : top < 1e-30f ? 0 : top / 32767.0f;
        const vf inverse = vf_set(step > 0 ? 1.0f / step : 0);
        int32_t sum = 0;
        for (int j = 0; j < m->group; j += LANES)
            vf_store_int16(whole + j, vf_mul(vf_load(x + j), inverse));
        for (int j = 0; j < m->group; j++) sum += whole[j];
        for (int w = 0; w < m->group; w += per_word)
            for (int k = 0; k < half; k++, pair += R)
                *pair = (int32_t)((uint16_t)whole[w + k] | (uint32_t)(uint16_t)whole[w + k + half]
                                                               << 16);
        to->scale[(size_t)first * groups + (size_t)g * R + (r - first)] = step;
        to->sum[(size_t)first * groups + (size_t)g * R + (r - first)] = sum;
    }
}
