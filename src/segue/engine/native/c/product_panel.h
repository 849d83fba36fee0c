/* Products with many columns, as of a prompt, for AVX2; included by product.h.
 *
 * Some columns of a block of rows are unpacked once, into a panel that stays in the second cache, and every
 * tile of activations is multiplied with it: TILE columns by both halves of a block, so that neither
 * weights nor activations are loaded for one product alone.  Floats are rounded as by packed_tile. */

#define MANY 18    /* columns from which on it is faster */
#define PANEL 1024 /* columns of a panel */

struct panel {
    int32_t lanes[PANEL / 2 * BLOCK] __attribute__((aligned(64))); /* [group][lane][BLOCK] */
    float scale[PANEL / 32 * BLOCK], bias[PANEL / 32 * BLOCK];
    int32_t zero[PANEL / 32 * BLOCK];
};

/* Of int16 the zero point is taken off here, once; of bytes, which stay unsigned, from each sum. */
INLINE void unpack(const struct matrix *m, int block, int from, int to, int BITS, int bytes,
                   struct panel *panel) {
    const int words = m->group * BITS / 32, take = (bytes ? 8 : 16) / BITS;
    const struct block_parts parts = parts_of(m, block);
    const uint8_t *scales = parts.scales, *biases = parts.biases;
    const uint8_t *word = parts.words + (size_t)from * 4 * BLOCK * words;
    const vi mask = vi_set(((1 << BITS) - 1) * (bytes ? 0x01010101 : 0x10001));
    const int middle = 1 << (BITS - 1);
    int32_t *lanes = panel->lanes;
    for (int g = from; g < to; g++) {
        vi zero[PARTS];
        for (int h = 0; h < PARTS; h++) {
            const size_t row = (size_t)g * BLOCK + h * LANES, at = (size_t)(g - from) * BLOCK + h * LANES;
            vf scale, bias = vf_set(0);
            zero[h] = m->head == ZERO_POINT ? vi_load_bytes(biases + row) : vi_set(middle);
            if (m->head == HALF_BIAS) {
                scale = vf_load_half((const uint16_t *)scales + row);
                bias = vf_load_half((const uint16_t *)biases + row);
            } else {
                scale = vf_load((const float *)scales + row);
                if (m->head == FLOAT_BIAS) bias = vf_load((const float *)biases + row);
            }
            vf_store(panel->scale + at, scale);
            vf_store(panel->bias + at, vf_fma(scale, vf_set((float)middle), bias));
            vi_store(panel->zero + at, zero[h]);
            zero[h] = vi_mul(zero[h], vi_set(0x10001));
        }
        for (int j = 0; j < words; j++, word += 4 * BLOCK) {
            __builtin_prefetch(word + AHEAD / 2, 0, 2);
#pragma GCC unroll 8
            for (int k = 0; k < take; k++)
                for (int h = 0; h < PARTS; h++, lanes += LANES) {
                    vi q = vi_load(word + 4 * h * LANES);
                    if (k) q = vi_shift(q, BITS * k);
                    if (take > 1) q = vi_and(q, mask);
                    vi_store(lanes, bytes ? q : vi_sub_int16(q, zero[h]));
                }
        }
    }
}

/* R columns from c on by a panel of the groups from..to-1, added to total [R][BLOCK]; R is a constant. */
INLINE void panel_tile(const struct matrix *m, const struct panel *panel, int from, int to,
                       const struct input *in, int c, int R, int bytes, float *total) {
    const int groups = m->columns / m->group, each = m->group / (bytes ? 4 : 2);
    const int32_t *x = in->lanes + ((size_t)c * groups + (size_t)from * R) * each;
    const float *steps = in->scale + (size_t)c * groups;
    const int32_t *sums = in->sum + (size_t)c * groups;
    const int32_t *q = panel->lanes;
    for (int g = from; g < to; g++) {
        const size_t at = (size_t)(g - from) * BLOCK;
        vi sum[PARTS][TILE];
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++)
#pragma GCC unroll 6
            for (int r = 0; r < R; r++) sum[h][r] = vi_set(0);
        if (!bytes)
            for (int n = 0; n < each; n++, q += BLOCK, x += R) {
                const vi q0 = vi_load(q), q1 = vi_load(q + LANES);
#pragma GCC unroll 6
                for (int r = 0; r < R; r++)
                    DOTS_HERE(sum[0][r], sum[1][r], "vpmaddwd", "vpaddd", q0, q1, x[r]);
            }
        for (int n = 0; bytes && n < each; n += 8) {
            vi some[PARTS][TILE];
#pragma GCC unroll 2
            for (int h = 0; h < PARTS; h++)
#pragma GCC unroll 6
                for (int r = 0; r < R; r++) some[h][r] = vi_set(0);
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++, q += BLOCK, x += R) {
                const vi q0 = vi_load(q), q1 = vi_load(q + LANES);
#pragma GCC unroll 6
                for (int r = 0; r < R; r++)
                    DOTS_HERE(some[0][r], some[1][r], "vpmaddubsw", "vpaddw", q0, q1, x[r]);
            }
#pragma GCC unroll 2
            for (int h = 0; h < PARTS; h++)
#pragma GCC unroll 6
                for (int r = 0; r < R; r++) JOIN_HERE(some[h][r], sum[h][r]);
        }
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
            const vf step = vf_set(steps[g * R + r]);
#pragma GCC unroll 2
            for (int h = 0; h < PARTS; h++) {
                float *all = total + (size_t)r * BLOCK + h * LANES;
                if (bytes) /* both within int16 */
                    sum[h][r] = vi_dot(sum[h][r], vi_load(panel->zero + at + h * LANES),
                                       vi_set(-sums[g * R + r]));
                vf_store(all, vf_fma(vf_mul(vf_load(panel->scale + at + h * LANES), step),
                                     vi_to_float(sum[h][r]), vf_load(all)));
            }
        }
        for (int r = 0; m->head != ZERO_POINT && r < R; r++)
            for (int h = 0; h < PARTS; h++) {
                float *all = total + (size_t)r * BLOCK + h * LANES;
                const vf by = vf_set(steps[g * R + r] * (float)sums[g * R + r]);
                vf_store(all, vf_fma(vf_load(panel->bias + at + h * LANES), by, vf_load(all)));
            }
    }
}

#define PANEL_TILES(name, bytes)                                                                        \
    static void name(const struct matrix *m, const struct panel *panel, int from, int to,               \
                     const struct input *in, int c, int left, float *total) {                           \
        switch (left) {                                                                                 \
            case 1: panel_tile(m, panel, from, to, in, c, 1, bytes, total); break;                      \
            case 2: panel_tile(m, panel, from, to, in, c, 2, bytes, total); break;                      \
            case 3: panel_tile(m, panel, from, to, in, c, 3, bytes, total); break;                      \
            case 4: panel_tile(m, panel, from, to, in, c, 4, bytes, total); break;                      \
            case 5: panel_tile(m, panel, from, to, in, c, 5, bytes, total); break;                      \
            default: panel_tile(m, panel, from, to, in, c, TILE, bytes, total);                         \
        }                                                                                               \
    }
PANEL_TILES(panel_of_int16, 0)
PANEL_TILES(panel_of_bytes, 1)

static void many_columns(const struct matrix *m, int from, int to, const struct input *in, int n,
                         float *out, size_t stride, int add) {
    struct panel panel;
    float totals[MAX_COLUMNS * BLOCK];
    const int groups = m->columns / m->group, each = PANEL / m->group;
    const int bytes = IN_BYTES(m->bits, in->narrow);
    for (int block = from; block < to; block++) {
        memset(totals, 0, (size_t)n * BLOCK * sizeof(float));
        for (int first = 0; first < groups; first += each) {
            const int last = first + each < groups ? first + each : groups;
            switch (m->bits | (bytes ? NARROW : 0)) {
                case 2: unpack(m, block, first, last, 2, 0, &panel); break;
                case 4: unpack(m, block, first, last, 4, 0, &panel); break;
                case 8: unpack(m, block, first, last, 8, 0, &panel); break;
                case NARROW | 2: unpack(m, block, first, last, 2, 1, &panel); break;
                default: unpack(m, block, first, last, 4, 1, &panel);
            }
            for (int c = 0; c < n; c += TILE)
                (bytes ? panel_of_bytes : panel_of_int16)(m, &panel, first, last, in, c, n - c,
                                                          totals + (size_t)c * BLOCK);
        }
        for (int c = 0; c < n; c++)
            for (int h = 0; h < PARTS; h++) {
                float *into = out + (size_t)c * stride + (size_t)block * BLOCK + h * LANES;
                const vf found = vf_load(totals + (size_t)c * BLOCK + h * LANES);
                vf_store(into, add ? vf_add(vf_load(into), found) : found);
            }
    }
}
