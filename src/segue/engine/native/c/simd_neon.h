/* Eight lanes in two registers: Arm's Advanced SIMD, with dot products of bytes. */
#include <arm_neon.h>
#include <string.h>

#define LANES 8
#define TILE 8
#define PACKED_PRODUCT "product_neon.h"
typedef float32x4x2_t vf;

#define EACH(expression_0, expression_1) ((vf){{expression_0, expression_1}})
#define BY_HALVES(call, a) EACH(call((a).val[0]), call((a).val[1]))
#define BY_HALVES_2(call, a, b) EACH(call((a).val[0], (b).val[0]), call((a).val[1], (b).val[1]))

static inline vf vf_set(float x) { return EACH(vdupq_n_f32(x), vdupq_n_f32(x)); }
static inline vf vf_load(const float *p) { return EACH(vld1q_f32(p), vld1q_f32(p + 4)); }
static inline void vf_store(float *p, vf x) {
    vst1q_f32(p, x.val[0]);
    vst1q_f32(p + 4, x.val[1]);
}
static inline vf vf_add(vf a, vf b) { return BY_HALVES_2(vaddq_f32, a, b); }
static inline vf vf_sub(vf a, vf b) { return BY_HALVES_2(vsubq_f32, a, b); }
static inline vf vf_mul(vf a, vf b) { return BY_HALVES_2(vmulq_f32, a, b); }
static inline vf vf_div(vf a, vf b) { return BY_HALVES_2(vdivq_f32, a, b); }
static inline vf vf_fma(vf a, vf b, vf c) {
    return EACH(vfmaq_f32(c.val[0], a.val[0], b.val[0]), vfmaq_f32(c.val[1], a.val[1], b.val[1]));
}
/* b where either is NaN, unlike vmaxq_f32. */
static inline float32x4_t greater(float32x4_t a, float32x4_t b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
static inline vf vf_max(vf a, vf b) { return BY_HALVES_2(greater, a, b); }
static inline vf vf_abs(vf a) { return BY_HALVES(vabsq_f32, a); }
static inline float32x4_t with_sign(float32x4_t x, float32x4_t sign) {
    return vbslq_f32(vdupq_n_u32(0x80000000u), sign, x);
}
static inline vf vf_sign_of(vf x, vf sign) { return BY_HALVES_2(with_sign, x, sign); }
/* In the order in which eight lanes of AVX2 are summed. */
static inline float vf_sum(vf a) {
    const float32x4_t four = vaddq_f32(a.val[0], a.val[1]);
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
static inline float vf_top(vf a) {
    const float32x4_t four = greater(a.val[0], a.val[1]);
    const float32x2_t low = vget_low_f32(four), high = vget_high_f32(four);
    const float32x2_t two = vbsl_f32(vcgt_f32(low, high), low, high);
    const float one = vget_lane_f32(two, 0), other = vget_lane_f32(two, 1);
    return one > other ? one : other;
}
static inline vf vf_round(vf a) { return BY_HALVES(vrndnq_f32, a); }
static inline float32x4_t power_of_two(float32x4_t n) {
    const int32x4_t exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23));
}
static inline vf vf_power_of_two(vf n) { return BY_HALVES(power_of_two, n); }
static inline vf vf_load_half(const uint16_t *p) {
    const float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(p));
    return EACH(vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves));
}
#define vf_load_int8(p) vf_of_int8(vld1_s8(p))
static inline vf vf_of_int8(int8x8_t bytes) {
    const int16x8_t wide = vmovl_s8(bytes);
    return EACH(vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), vcvtq_f32_s32(vmovl_high_s16(wide)));
}
static inline uint16_t half_of_float(float x) {
    const __fp16 half = (__fp16)x;
    uint16_t bits;
    memcpy(&bits, &half, 2);
    return bits;
}
static inline vf vf_load_bfloat(const uint16_t *p) {
    const uint16x8_t narrow = vld1q_u16(p);
    return EACH(vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(narrow), 16)),
                vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(narrow), 16)));
}
/* Saturated; 0 for NaN. */
static inline void vf_store_int16(int16_t *p, vf x) {
    const int16x4_t low = vqmovn_s32(vcvtnq_s32_f32(x.val[0]));
    vst1q_s16(p, vqmovn_high_s32(low, vcvtnq_s32_f32(x.val[1])));
}
