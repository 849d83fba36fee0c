/* One lane in plain C: what the other paths are compared with. */
#include <math.h>
#include <string.h>

#define LANES 1
#define TILE 4
typedef float vf;
typedef int32_t vi;

static inline vf vf_set(float x) { return x; }
static inline vf vf_load(const float *p) { return *p; }
static inline void vf_store(float *p, vf x) { *p = x; }
static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_div(vf a, vf b) { return a / b; }
static inline vf vf_fma(vf a, vf b, vf c) {
#ifdef __FP_FAST_FMAF
    return fmaf(a, b, c); /* rounded once, as on the other paths */
#else
    return a * b + c;
#endif
}
/* As the instruction: b where either is NaN. */
static inline vf vf_max(vf a, vf b) { return a > b ? a : b; }
static inline vf vf_abs(vf a) { return fabsf(a); }
static inline vf vf_sign_of(vf x, vf sign) { return copysignf(x, sign); }
static inline float vf_sum(vf a) { return a; }
static inline float vf_top(vf a) { return a; }
static inline vf vf_round(vf a) { return rintf(a); }
/* Only for whole numbers of the range of exponents, or NaN. */
static inline vf vf_power_of_two(vf n) {
    float clamped = n > -127.0f ? n : -127.0f; /* NaN too */
    uint32_t bits = (uint32_t)((int32_t)clamped + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return power;
}

static inline float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 0x1fu, rest = h & 0x3ffu;
    uint32_t bits;
    float value;
    if (exponent == 0) return ldexpf(sign ? -(float)rest : (float)rest, -24);
    if (exponent == 31)
        bits = sign | 0x7f800000u | rest << 13;
    else
        bits = sign | (exponent + 112) << 23 | rest << 13;
    memcpy(&value, &bits, 4);
    return value;
}
/* Ties to even; what is too large becomes infinite. */
static inline uint16_t half_of_float(float x) {
    uint32_t bits, sign;
    memcpy(&bits, &x, 4);
    sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (bits < 0x38800000u) { /* below the smallest normal one */
        float magnitude;
        memcpy(&magnitude, &bits, 4);
        return (uint16_t)(sign | (uint32_t)rintf(magnitude * 16777216.0f));
    }
    bits += 0xfffu + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - 0x38000000u) >> 13);
}
static inline vf vf_load_half(const uint16_t *p) { return half_to_float(*p); }
static inline void vf_store_half(uint16_t *p, vf x) { *p = half_of_float(x); }
static inline vf vf_load_bfloat(const uint16_t *p) {
    uint32_t bits = (uint32_t)*p << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline vi vi_set(int32_t x) { return x; }
static inline vi vi_load(const void *p) {
    vi x;
    memcpy(&x, p, 4);
    return x;
}
static inline vi vi_load_bytes(const uint8_t *p) { return *p; }
static inline vi vi_add(vi a, vi b) { return (vi)((uint32_t)a + (uint32_t)b); }
static inline vi vi_mul(vi a, vi b) { return (vi)((uint32_t)a * (uint32_t)b); }
static inline vi vi_and(vi a, vi b) { return a & b; }
static inline vi vi_shift(vi a, int bits) { return (vi)((uint32_t)a >> bits); }
static inline vf vi_to_float(vi a) { return (float)a; }
/* The two int16 of a by those of b, added to c. */
static inline vi vi_dot(vi c, vi a, vi b) {
    int32_t low = (int16_t)(a & 0xffff) * (int16_t)(b & 0xffff);
    int32_t high = (int16_t)((uint32_t)a >> 16) * (int16_t)((uint32_t)b >> 16);
    return vi_add(c, vi_add(low, high));
}
/* To the nearest, within ±32767; 0 for NaN. */
static inline void vf_store_int16(int16_t *p, vf x) {
    *p = (int16_t)(x >= 32767.0f ? 32767 : x > -32767.0f ? (int)rintf(x) : x == x ? -32767 : 0);
}
