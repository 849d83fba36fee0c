/* Eight lanes: AVX2, FMA, F16C; with AVX-VNNI one instruction for the products of int16. */
#include <immintrin.h>

#define LANES 8
#ifdef __AVXVNNI__
#define TILE 4
#else
#define TILE 6
#endif
typedef __m256 vf;
typedef __m256i vi;

static inline vf vf_set(float x) { return _mm256_set1_ps(x); }
static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline vf vf_sign_of(vf x, vf sign) {
    vf bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(bit, x), _mm256_and_ps(bit, sign));
}
static inline float vf_sum(vf a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float vf_top(vf a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
static inline vf vf_round(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_power_of_two(vf n) {
    vi exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
static inline vf vf_load_half(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
static inline void vf_store_half(uint16_t *p, vf x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
static inline uint16_t half_of_float(float x) { return (uint16_t)_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT); }
static inline vf vf_load_bfloat(const uint16_t *p) {
    vi wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
#define vf_load_int8(p) \
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p))))

static inline vi vi_set(int32_t x) { return _mm256_set1_epi32(x); }
static inline vi vi_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline vi vi_load_bytes(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
static inline vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
static inline vi vi_mul(vi a, vi b) { return _mm256_mullo_epi32(a, b); }
static inline vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
static inline vi vi_shift(vi a, int bits) { return _mm256_srli_epi32(a, bits); }
static inline vf vi_to_float(vi a) { return _mm256_cvtepi32_ps(a); }
static inline vi vi_dot(vi c, vi a, vi b) {
#ifdef __AVXVNNI__
    return _mm256_dpwssd_avx_epi32(c, a, b);
#else
    return _mm256_add_epi32(c, _mm256_madd_epi16(a, b));
#endif
}
static inline void vf_store_int16(int16_t *p, vf x) {
    vi wide = _mm256_cvtps_epi32(x); /* NaN becomes -32768 below; its scale is NaN as well */
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi32(_mm256_castsi256_si128(wide),
                                                   _mm256_extracti128_si256(wide, 1)));
}
#ifdef __AVXVNNI__
/* The four unsigned bytes of a by the signed ones of b, added to c. */
#define vi_dot_bytes(c, a, b) _mm256_dpbusd_avx_epi32(c, a, b)
static inline vi vi_shift_left(vi a, int bits) { return _mm256_slli_epi32(a, bits); }
#else
/* Unsigned bytes by signed ones, |b| <= 127, are added two by two as int16: of weights of 4 bits at most
 * 8 of those sums fit, as 8 * 2 * 15 * 127 < 2^15. */
#define FEW_BITS
/* In assembly, since compilers compute all products before any sum, and keep what is constant in a
 * register, where sums need all of them: add the products of two vectors with one value, given as four
 * bytes, to a sum each. */
#define DOTS_HERE(first, second, dot, add, q0, q1, value)                                             \
    do {                                                                                              \
        vi by, found;                                                                                 \
        __asm__ volatile("vpbroadcastd %6, %2\n\t" dot " %2, %4, %3\n\t" add " %3, %0, %0\n\t" dot    \
                         " %2, %5, %2\n\t" add " %2, %1, %1"                                          \
                         : "+x"(first), "+x"(second), "=&x"(by), "=&x"(found)                         \
                         : "x"(q0), "x"(q1), "m"(value));                                             \
    } while (0)
/* Add up the two int16 of each lane, and those to a sum in memory. */
#define JOIN_HERE(x, sum)                                                                             \
    __asm__ volatile("vpmaddwd %2, %0, %0\n\tvpaddd %1, %0, %0\n\tvmovdqu %0, %1"                    \
                     : "+x"(x), "+m"(sum)                                                             \
                     : "m"(ONES))
static const __v16hi ONES = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
static inline vi vi_shift_int16(vi a, int bits) { return _mm256_srli_epi16(a, bits); }
static inline vi vi_sub_int16(vi a, vi b) { return _mm256_sub_epi16(a, b); }
static inline void vi_store(void *p, vi a) { _mm256_storeu_si256((__m256i *)p, a); }
#endif

#define SHUFFLES
/* Round x to int16, with AVX-VNNI its bytes as two planes, and put the bytes in an order. */
static inline vi vf_store_lanes(int32_t *to, vf x, const uint8_t *order) {
    const vi whole = _mm256_cvtps_epi32(x);
    __m128i v = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
#ifdef __AVXVNNI__
    const __m128i up = _mm_add_epi16(v, _mm_set1_epi16(128));
    v = _mm_blendv_epi8(up, v, _mm_set1_epi16(0xff));
#endif
    _mm_storeu_si128((__m128i *)to, _mm_shuffle_epi8(v, _mm_loadu_si128((const __m128i *)order)));
    return whole;
}
/* Round x, within int8, and put the bytes in an order of 8. */
static inline vi vf_store_bytes(int32_t *to, vf x, const uint8_t *order) {
    const vi whole = _mm256_cvtps_epi32(x);
    __m128i v = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    v = _mm_packs_epi16(v, v);
    v = _mm_shuffle_epi8(v, _mm_loadu_si128((const __m128i *)order));
    _mm_storel_epi64((__m128i *)to, v);
    return whole;
}
static inline int32_t vi_sum(vi a) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
