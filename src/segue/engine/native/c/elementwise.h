/* Layer norm, exponential, GELU; included by a path after its simd_*.h. */

static void norm(const float *x, const float *weight_and_bias, int dim, float *out) {
    const float *weight = weight_and_bias, *bias = weight_and_bias + dim;
    vf sum = vf_set(0), squares = vf_set(0);
    float rest = 0;
    int j = 0;
    for (; j + LANES <= dim; j += LANES) sum = vf_add(sum, vf_load(x + j));
    for (; j < dim; j++) rest += x[j];
    const float mean = (vf_sum(sum) + rest) / (float)dim;
    rest = 0;
    for (j = 0; j + LANES <= dim; j += LANES) {
        const vf away = vf_sub(vf_load(x + j), vf_set(mean));
        squares = vf_fma(away, away, squares);
    }
    for (; j < dim; j++) rest += (x[j] - mean) * (x[j] - mean);
    const float inverse = 1.0f / sqrtf((vf_sum(squares) + rest) / (float)dim + 1e-5f);
    for (j = 0; j + LANES <= dim; j += LANES) {
        const vf scaled = vf_mul(vf_sub(vf_load(x + j), vf_set(mean)), vf_set(inverse));
        vf_store(out + j, vf_fma(scaled, vf_load(weight + j), vf_load(bias + j)));
    }
    for (; j < dim; j++) out[j] = (x[j] - mean) * inverse * weight[j] + bias[j];
}

/* e^x for x <= 0, to 2 ulp: x = n ln 2 + r, and a Taylor polynomial of r, |r| <= ln 2 / 2. */
static inline vf exponential(vf x) {
    x = vf_max(vf_set(-87.0f), x);
    const vf n = vf_round(vf_mul(x, vf_set(1.44269504f)));
    vf r = vf_fma(n, vf_set(-0.693359375f), x); /* ln 2 in two parts, the first exact times n */
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    vf y = vf_set(1.0f / 5040);
    y = vf_fma(y, r, vf_set(1.0f / 720));
    y = vf_fma(y, r, vf_set(1.0f / 120));
    y = vf_fma(y, r, vf_set(1.0f / 24));
    y = vf_fma(y, r, vf_set(1.0f / 6));
    y = vf_fma(y, r, vf_set(0.5f));
    y = vf_fma(y, r, vf_set(1));
    y = vf_fma(y, r, vf_set(1));
    return vf_mul(y, vf_power_of_two(n));
}

/* x / 2 (1 + erf(x / sqrt 2)), with erf to 1.5e-7: Abramowitz and Stegun, 7.1.26. */
static void gelu(float *x, int count) { /* a multiple of BLOCK */
    for (int j = 0; j < count; j += LANES) {
        const vf value = vf_load(x + j), z = vf_mul(vf_abs(value), vf_set(0.70710678f));
        const vf t = vf_div(vf_set(1), vf_fma(z, vf_set(0.3275911f), vf_set(1)));
        vf y = vf_fma(t, vf_set(1.061405429f), vf_set(-1.453152027f));
        y = vf_fma(y, t, vf_set(1.421413741f));
        y = vf_fma(y, t, vf_set(-0.284496736f));
        y = vf_mul(vf_fma(y, t, vf_set(0.254829592f)), t);
        const vf tail = vf_mul(y, exponential(vf_mul(z, vf_sub(vf_set(0), z))));
        const vf erf = vf_sign_of(vf_sub(vf_set(1), tail), value);
        vf_store(x + j, vf_mul(vf_mul(value, vf_set(0.5f)), vf_add(vf_set(1), erf)));
    }
}
