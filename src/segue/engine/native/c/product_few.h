/* Products with few columns for AVX2; included by product.h.
 *
 * Both halves of a block are multiplied at once, so that an activation is loaded once for them, and a
 * word is unpacked once for all columns. */

/* The k-th columns of LANES words, as a lane is multiplied with; shifted within 16 bits, so that the last
 * ones of int16 need no mask. */
INLINE vi columns_of(const uint8_t *word, int BITS, int bytes, int k) {
    const int take = (bytes ? 8 : 16) / BITS;
    vi q = vi_load(word);
    if (k) q = vi_shift_int16(q, BITS * k);
    if (k + 1 < take || bytes) q = vi_and(q, vi_set(((1 << BITS) - 1) * (bytes ? 0x01010101 : 0x10001)));
    return q;
}

/* R columns by one block of rows, where R and FORM are constants. */
INLINE void packed_tile(const struct matrix *m, int block, const struct input *in, int c, int R, int FORM,
                     float *out, size_t stride, int add) {
    const int BITS = FORM & ~NARROW, bytes = IN_BYTES(BITS, (FORM & NARROW) != 0);
    const int groups = m->columns / m->group, words = m->group * BITS / 32;
    const int take = (bytes ? 8 : 16) / BITS;
    const int at_once = 8 / take; /* words; of bytes, those whose sums fit into int16 */
    const int32_t *x = in->lanes + (size_t)c * (size_t)(m->columns / (bytes ? 4 : 2));
    const float *steps = in->scale + (size_t)c * groups;
    const int32_t *sums = in->sum + (size_t)c * groups;
    const struct block_parts parts = parts_of(m, block);
    const uint8_t *scales = parts.scales, *biases = parts.biases, *word = parts.words;
    const uint8_t *ahead = scales + AHEAD;
    const size_t record = m->record / groups, line = record / (words + 2);
    const int middle = 1 << (BITS - 1);
    float total[TILE][BLOCK] __attribute__((aligned(64)));
    memset(total, 0, (size_t)R * sizeof total[0]);
    for (int g = 0; g < groups; g++, ahead += record, steps += R, sums += R) {
        float scale[BLOCK] __attribute__((aligned(64))), bias[BLOCK] __attribute__((aligned(64)));
        vi sum[PARTS][TILE];
        __builtin_prefetch(ahead, 0, 2);
        __builtin_prefetch(ahead + line, 0, 2);
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++) {
            const size_t row = (size_t)g * BLOCK + h * LANES;
            vi zero = vi_set(middle);
            if (m->head == HALF_BIAS) {
                vf_store(scale + h * LANES, vf_load_half((const uint16_t *)scales + row));
                vf_store(bias + h * LANES, vf_load_half((const uint16_t *)biases + row));
            } else {
                vf_store(scale + h * LANES, vf_load((const float *)scales + row));
                if (m->head == FLOAT_BIAS)
                    vf_store(bias + h * LANES, vf_load((const float *)biases + row));
                else
                    zero = vi_load_bytes(biases + row);
            }
#pragma GCC unroll 6
            for (int r = 0; r < R; r++) sum[h][r] = vi_mul(zero, vi_set(-sums[r]));
        }
        for (int w = 0; w < words; w += at_once, word += 4 * BLOCK * at_once, x += 8 * R) {
            vi some[PARTS][TILE];
#pragma GCC unroll 2
            for (int h = 0; bytes && h < PARTS; h++)
#pragma GCC unroll 6
                for (int r = 0; r < R; r++) some[h][r] = vi_set(0);
#pragma GCC unroll 8
            for (int n = 0; n < 8; n++) {
                const int j = n / take, k = n % take;
                const uint8_t *at = word + 4 * BLOCK * j;
                if (!k) __builtin_prefetch(ahead + (w + j + 2) * line, 0, 2);
                const vi q0 = columns_of(at, BITS, bytes, k);
                const vi q1 = columns_of(at + 4 * LANES, BITS, bytes, k);
#pragma GCC unroll 6
                for (int r = 0; r < R; r++)
                    if (bytes)
                        DOTS_HERE(some[0][r], some[1][r], "vpmaddubsw", "vpaddw", q0, q1, x[n * R + r]);
                    else
                        DOTS_HERE(sum[0][r], sum[1][r], "vpmaddwd", "vpaddd", q0, q1, x[n * R + r]);
            }
#pragma GCC unroll 2
            for (int h = 0; bytes && h < PARTS; h++)
#pragma GCC unroll 6
                for (int r = 0; r < R; r++) JOIN_HERE(some[h][r], sum[h][r]);
        }
#pragma GCC unroll 2
        for (int h = 0; h < PARTS; h++) {
            const vf unit = vf_load(scale + h * LANES);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++)
                vf_store(total[r] + h * LANES,
                         vf_fma(vf_mul(unit, vf_set(steps[r])), vi_to_float(sum[h][r]),
                                vf_load(total[r] + h * LANES)));
        }
        if (m->head == ZERO_POINT) continue;
        for (int h = 0; h < PARTS; h++) {
            /* Centred, so that what cancels is not rounded. */
            const vf all = vf_fma(vf_load(scale + h * LANES), vf_set((float)middle),
                                  vf_load(bias + h * LANES));
            for (int r = 0; r < R; r++) {
                float *to = total[r] + h * LANES;
                vf_store(to, vf_fma(all, vf_set(steps[r] * (float)sums[r]), vf_load(to)));
            }
        }
    }
    for (int r = 0; r < R; r++)
        for (int h = 0; h < PARTS; h++) {
            float *to = out + (size_t)(c + r) * stride + (size_t)block * BLOCK + h * LANES;
            const vf found = vf_load(total[r] + h * LANES);
            vf_store(to, add ? vf_add(vf_load(to), found) : found);
        }
}
