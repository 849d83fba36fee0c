/* The product of packed weights for NEON; included by product.h in place of its own.
 *
 * vdotq_s32 multiplies four signed bytes of each lane at once, so activations are two bytes each,
 * 256 * high + low (of int8 the low one alone), whose sums meet at a group's end.  What a sum is too large for comes back, as
 * all is computed modulo 2^32 and the whole fits.  Floats are rounded as by product.h. */

/* The quads `eight` of a lane's columns; 8 bits less 128, which makes them signed. */
INLINE int8x16x2_t quads(const uint8_t *words, int eight, int BITS) {
    int8x16x2_t found;
    if (BITS == 8) {
        const uint8x16_t sign = vdupq_n_u8(0x80);
        words += (size_t)eight * 8 * BLOCK;
        found.val[0] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(words), sign));
        found.val[1] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(words + 4 * BLOCK), sign));
    } else if (BITS == 4) {
        const uint8x16_t packed = vld1q_u8(words + (size_t)eight * 4 * BLOCK);
        found.val[0] = vreinterpretq_s8_u8(vandq_u8(packed, vdupq_n_u8(0x0f)));
        found.val[1] = vreinterpretq_s8_u8(vshrq_n_u8(packed, 4));
    } else {
        const uint8x16_t three = vdupq_n_u8(3), packed = vld1q_u8(words + (size_t)(eight / 2) * 4 * BLOCK);
        const uint8x16_t half = eight % 2 ? vshrq_n_u8(packed, 4) : packed;
        found.val[0] = vreinterpretq_s8_u8(vandq_u8(half, three));
        found.val[1] = vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(half, 2), three));
    }
    return found;
}

INLINE float32x4_t four_of(const uint8_t *numbers, int halves, size_t at) {
    if (!halves) return vld1q_f32((const float *)numbers + at);
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)numbers + at)));
}

/* R columns by one block of rows, where R and FORM are constants. */
INLINE void packed_tile(const struct matrix *m, int block, const struct input *in, int c, int R,
                        int FORM, float *out, size_t stride, int add) {
    enum { FOURS = BLOCK / 4 };
    const int BITS = FORM & ~NARROW, narrow = (FORM & NARROW) != 0;
    const size_t of_eight = narrow ? 2 : 4; /* lanes of eight columns */
    const int groups = m->columns / m->group, eights = m->group / 8;
    const int middle = 1 << (BITS - 1), taken = BITS == 8 ? 128 : 0;
    /* As many sums as there are registers for. */
    const int together = R == 1 ? 4 : R <= 4 ? 2 : 1;
    const int32_t *x = in->lanes + (size_t)c * lanes_for((size_t)m->columns, BITS, narrow);
    const float *steps = in->scale + (size_t)c * groups;
    const int32_t *sums = in->sum + (size_t)c * groups;
    const struct block_parts parts = parts_of(m, block);
    const uint8_t *scales = parts.scales, *biases = parts.biases, *group = parts.words;
    float32x4_t total[FOURS][TILE];
    for (int f = 0; f < FOURS; f++)
        for (int r = 0; r < R; r++) total[f][r] = vdupq_n_f32(0);
    for (int g = 0; g < groups; g++, group += (size_t)eights * BITS * BLOCK, x += (size_t)eights * of_eight * R)
        for (int first = 0; first < FOURS; first += together) {
            const uint8_t *words = group + 16 * first;
            int32x4_t low[FOURS][TILE], high[FOURS][TILE];
            for (int f = 0; f < together; f++)
                for (int r = 0; r < R; r++) low[f][r] = high[f][r] = vdupq_n_s32(0);
            for (int e = 0; e < eights; e++) {
                if (!first) __builtin_prefetch(words + (size_t)e * BITS * BLOCK + AHEAD, 0, 2);
                const int32_t *eight = x + (size_t)e * of_eight * R;
                int8x16x2_t q[FOURS];
#pragma GCC unroll 4
                for (int f = 0; f < together; f++) q[f] = quads(words + 16 * f, e, BITS);
                if (R == 1 && narrow) {
                    const int8x8_t by = vreinterpret_s8_s32(vld1_s32(eight));
#pragma GCC unroll 4
                    for (int f = 0; f < together; f++) {
                        low[f][0] = vdotq_lane_s32(low[f][0], q[f].val[0], by, 0);
                        low[f][0] = vdotq_lane_s32(low[f][0], q[f].val[1], by, 1);
                    }
                    continue;
                }
                if (R == 1) {
                    const int8x16_t by = vreinterpretq_s8_s32(vld1q_s32(eight));
#pragma GCC unroll 4
                    for (int f = 0; f < together; f++) {
                        low[f][0] = vdotq_laneq_s32(low[f][0], q[f].val[0], by, 0);
                        high[f][0] = vdotq_laneq_s32(high[f][0], q[f].val[0], by, 1);
                        low[f][0] = vdotq_laneq_s32(low[f][0], q[f].val[1], by, 2);
                        high[f][0] = vdotq_laneq_s32(high[f][0], q[f].val[1], by, 3);
                    }
                    continue;
                }
#pragma GCC unroll 8
                for (int r = 0; r < R; r++)
#pragma GCC unroll 2
                    for (int n = 0; n < 2; n++) {
                        const int32_t *quad = eight + (narrow ? 1 : 2) * n * R + r;
                        const int8x16_t by_low = vreinterpretq_s8_s32(vld1q_dup_s32(quad));
#pragma GCC unroll 4
                        for (int f = 0; f < together; f++)
                            low[f][r] = vdotq_s32(low[f][r], q[f].val[n], by_low);
                        if (narrow) continue;
                        const int8x16_t by_high = vreinterpretq_s8_s32(vld1q_dup_s32(quad + R));
#pragma GCC unroll 4
                        for (int f = 0; f < together; f++)
                            high[f][r] = vdotq_s32(high[f][r], q[f].val[n], by_high);
                    }
            }
            for (int f = 0; f < together; f++) {
                const size_t at = (size_t)g * BLOCK + 4 * (size_t)(first + f);
                const float32x4_t scale = four_of(scales, m->head == HALF_BIAS, at);
                float32x4_t bias = vdupq_n_f32(0);
                int32x4_t offset = vdupq_n_s32(taken - middle);
                if (m->head == ZERO_POINT) {
                    int32_t zeros[4];
                    for (int i = 0; i < 4; i++) zeros[i] = taken - biases[at + i];
                    offset = vld1q_s32(zeros);
                } else { /* centred, so that what cancels is not rounded */
                    bias = vfmaq_f32(four_of(biases, m->head == HALF_BIAS, at), scale,
                                     vdupq_n_f32((float)middle));
                }
                for (int r = 0; r < R; r++) {
                    const float32x4_t step = vdupq_n_f32(steps[g * R + r]);
                    const int32_t all = sums[g * R + r];
                    float32x4_t *to = &total[first + f][r];
                    int32x4_t sum = vaddq_s32(low[f][r], vshlq_n_s32(high[f][r], 8));
                    sum = vmlaq_s32(sum, offset, vdupq_n_s32(all));
                    *to = vfmaq_f32(*to, vmulq_f32(scale, step), vcvtq_f32_s32(sum));
                    if (m->head != ZERO_POINT)
                        *to = vfmaq_f32(*to, bias, vmulq_f32(step, vdupq_n_f32((float)all)));
                }
            }
        }
    for (int r = 0; r < R; r++)
        for (int f = 0; f < FOURS; f++) {
            float *to = out + (size_t)(c + r) * stride + (size_t)block * BLOCK + 4 * f;
            vst1q_f32(to, add ? vaddq_f32(vld1q_f32(to), total[f][r]) : total[f][r]);
        }
}
