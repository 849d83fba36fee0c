/* Sixteen lanes: AVX-512 with VNNI. */
#include <immintrin.h>

#define LANES 16
#define TILE 8
typedef __m512 vf;
typedef __m512i vi;

static inline vf vf_set(float x) { return _mm512_set1_ps(x); }
static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vf_abs(vf a) { return _mm512_abs_ps(a); }
static inline vf vf_sign_of(vf x, vf sign) {
    vf bit = _mm512_set1_ps(-0.0f);
    return _mm512_or_ps(_mm512_andnot_ps(bit, x), _mm512_and_ps(bit, sign));
}
static inline float vf_sum(vf a) { return _mm512_reduce_add_ps(a); }
static inline float vf_top(vf a) { return _mm512_reduce_max_ps(a); }
static inline vf vf_round(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_power_of_two(vf n) {
    vi exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}
static inline vf vf_load_half(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline void vf_store_half(uint16_t *p, vf x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
static inline uint16_t half_of_float(float x) { return (uint16_t)_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT); }
static inline vf vf_load_bfloat(const uint16_t *p) {
    vi wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
#define vf_load_int8(p) \
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p))))

static inline vi vi_set(int32_t x) { return _mm512_set1_epi32(x); }
static inline vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
static inline vi vi_load_bytes(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
static inline vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vi vi_mul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
static inline vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
static inline vi vi_shift(vi a, int bits) { return _mm512_srli_epi32(a, (unsigned)bits); }
static inline vf vi_to_float(vi a) { return _mm512_cvtepi32_ps(a); }
static inline vi vi_dot(vi c, vi a, vi b) { return _mm512_dpwssd_epi32(c, a, b); }
static inline void vf_store_int16(int16_t *p, vf x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x)));
}
/* The four unsigned bytes of a by the signed ones of b, added to c. */
#define vi_dot_bytes(c, a, b) _mm512_dpbusd_epi32(c, a, b)
static inline vi vi_shift_left(vi a, int bits) { return _mm512_slli_epi32(a, (unsigned)bits); }

#define SHUFFLES
/* Round x to int16, its bytes as two planes, and put each 16 bytes of them in an order. */
static inline vi vf_store_lanes(int32_t *to, vf x, const uint8_t *order) {
    const vi whole = _mm512_cvtps_epi32(x);
    __m256i v = _mm512_cvtsepi32_epi16(whole);
    const __m256i up = _mm256_add_epi16(v, _mm256_set1_epi16(128));
    v = _mm256_blendv_epi8(up, v, _mm256_set1_epi16(0xff));
    v = _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)order)));
    _mm256_storeu_si256((__m256i *)to, v);
    return whole;
}
/* Round x, within int8, and put the bytes in an order of 16. */
static inline vi vf_store_bytes(int32_t *to, vf x, const uint8_t *order) {
    const vi whole = _mm512_cvtps_epi32(x);
    const __m128i v = _mm512_cvtsepi32_epi8(whole);
    _mm_storeu_si128((__m128i *)to, _mm_shuffle_epi8(v, _mm_loadu_si128((const __m128i *)order)));
    return whole;
}
static inline int32_t vi_sum(vi a) { return _mm512_reduce_add_epi32(a); }
