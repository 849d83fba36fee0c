/* Attention of one head; included by a path after its simd_*.h, product.h and elementwise.h.
 *
 * In keys a lane is a position, in values a dimension, so no sum crosses lanes.  What several
 * columns attend to in common is read once for up to QUERIES of them. */

#define QUERIES 4

/* Where the keys and the values of one head of one layer begin in a cache. */
struct place {
    uint8_t *keys, *values;
};

INLINE struct place place_of(const struct config *config, const struct cache *cache, int layer,
                             int head) {
    const size_t size = config->half_cache ? 2 : 4, dim = (size_t)(config->dim / config->heads);
    const size_t key = dim * (size_t)cache->capacity * size;
    const size_t value = rounded(dim) * (size_t)cache->capacity * size;
    uint8_t *start = (uint8_t *)cache->data + (size_t)layer * config->heads * (key + value);
    return (struct place){start + (size_t)head * key,
                          start + (size_t)config->heads * key + (size_t)head * value};
}

INLINE vf load_as(const uint8_t *p, int HALF) {
    return HALF ? vf_load_half((const uint16_t *)p) : vf_load((const float *)p);
}

/* scores [Q][room]: the products with `count` keys, and something beyond to the end of a block. */
INLINE void score(const uint8_t *keys, int count, int dim, int Q, int HALF, const float *q,
                  size_t stride, float factor, float *scores, size_t room) {
    const size_t size = HALF ? 2 : 4;
    for (int block = 0; block < count; block += BLOCK)
        for (int h = 0; h < PARTS; h++) {
            const uint8_t *key = keys + ((size_t)block * dim + h * LANES) * size;
            vf even[QUERIES], odd[QUERIES];
            for (int i = 0; i < Q; i++) even[i] = odd[i] = vf_set(0);
            int d = 0;
            for (; d + 2 <= dim; d += 2) {
                if (!h) __builtin_prefetch(key + (size_t)d * BLOCK * size + AHEAD);
                const vf one = load_as(key + (size_t)d * BLOCK * size, HALF);
                const vf two = load_as(key + (size_t)(d + 1) * BLOCK * size, HALF);
                for (int i = 0; i < Q; i++) {
                    even[i] = vf_fma(one, vf_set(q[i * stride + d]), even[i]);
                    odd[i] = vf_fma(two, vf_set(q[i * stride + d + 1]), odd[i]);
                }
            }
            if (d < dim)
                for (int i = 0; i < Q; i++)
                    even[i] = vf_fma(load_as(key + (size_t)d * BLOCK * size, HALF),
                                     vf_set(q[i * stride + d]), even[i]);
            for (int i = 0; i < Q; i++)
                vf_store(scores + i * room + block + h * LANES,
                         vf_mul(vf_add(even[i], odd[i]), vf_set(factor)));
        }
}

/* out [Q][...]: add `count` values by their weights [Q][room], in slices of WIDE vectors. */
INLINE void slices(const uint8_t *values, int count, int width, int from, int to, int Q, int WIDE,
                   int HALF, const float *weights, size_t room, float *out) {
    const size_t size = HALF ? 2 : 4;
    for (; from + WIDE * LANES <= to; from += WIDE * LANES) {
        vf sum[QUERIES][64 / LANES];
        for (int i = 0; i < Q; i++)
            for (int k = 0; k < WIDE; k++)
                sum[i][k] = vf_load(out + (size_t)i * width + from + k * LANES);
        const uint8_t *value = values + (size_t)from * size;
        for (int t = 0; t < count; t++, value += (size_t)width * size) {
            __builtin_prefetch(value + AHEAD);
            __builtin_prefetch(value + AHEAD + 64);
#pragma GCC unroll 8
            for (int k = 0; k < WIDE; k++) {
                const vf v = load_as(value + (size_t)k * LANES * size, HALF);
#pragma GCC unroll 4
                for (int i = 0; i < Q; i++)
                    sum[i][k] = vf_fma(v, vf_set(weights[i * room + t]), sum[i][k]);
            }
        }
        for (int i = 0; i < Q; i++)
            for (int k = 0; k < WIDE; k++)
                vf_store(out + (size_t)i * width + from + k * LANES, sum[i][k]);
    }
}

INLINE void add_values(const uint8_t *values, int count, int width, int Q, int HALF,
                       const float *weights, size_t room, float *out) {
    const int most = Q == 1 || LANES == 16 ? 64 / LANES : 32 / LANES;
    const int even = width / (most * LANES) * (most * LANES);
    slices(values, count, width, 0, even, Q, most, HALF, weights, room, out);
    slices(values, count, width, even, width, Q, PARTS, HALF, weights, room, out);
}

/* Turn scores into weights, up to the factor that is returned. */
static float soften(float *scores, int count) { /* a multiple of BLOCK */
    vf most = vf_set(-INFINITY), sum = vf_set(0);
    for (int j = 0; j < count; j += LANES) most = vf_max(vf_load(scores + j), most);
    const vf top = vf_set(vf_top(most));
    for (int j = 0; j < count; j += LANES) {
        const vf y = exponential(vf_sub(vf_load(scores + j), top));
        vf_store(scores + j, y);
        sum = vf_add(sum, y);
    }
    return 1.0f / vf_sum(sum);
}

/* What is read by one query, or by some: scores of `count` keys from `at` on. */
struct segment {
    struct place place;
    int count, at;
};

#define FOR_QUERIES(Q, call)                      \
    switch (Q) {                                  \
        case 1: { enum { N = 1 }; call; break; }  \
        case 2: { enum { N = 2 }; call; break; }  \
        case 3: { enum { N = 3 }; call; break; }  \
        default: { enum { N = 4 }; call; break; } \
    }

static void score_segment(const struct segment *s, int dim, int Q, int half, const float *q,
                          size_t stride, float *scores, size_t room) {
    const float factor = 1.0f / sqrtf((float)dim);
    scores += s->at;
    if (half) {
        FOR_QUERIES(Q, score(s->place.keys, s->count, dim, N, 1, q, stride, factor, scores, room))
    } else {
        FOR_QUERIES(Q, score(s->place.keys, s->count, dim, N, 0, q, stride, factor, scores, room))
    }
}

static void add_segment(const struct segment *s, int width, int Q, int half, const float *weights,
                        size_t room, float *out) {
    weights += s->at;
    if (half) {
        FOR_QUERIES(Q, add_values(s->place.values, s->count, width, N, 1, weights, room, out))
    } else {
        FOR_QUERIES(Q, add_values(s->place.values, s->count, width, N, 0, weights, room, out))
    }
}

/* out [Q][out_stride] of the weighted values [Q][width]. */
static void finish(const float *sums, const float *factors, int width, int dim, int Q, float *out,
                   size_t out_stride) {
    for (int i = 0; i < Q; i++)
        for (int d = 0; d < dim; d++) out[i * out_stride + d] = sums[(size_t)i * width + d] * factors[i];
}

/* What is too large for float16 becomes NaN, which every score that it enters hands on. */
static inline uint16_t cached_half(float x) {
    const uint16_t half = half_of_float(x);
    return (half & 0x7fffu) == 0x7c00u ? 0x7e00u : half;
}

static void store(const struct config *config, struct cache *cache, int layer, int head,
                  int position, const float *key, const float *value) {
    const int dim = config->dim / config->heads, width = (int)rounded((size_t)dim);
    const struct place place = place_of(config, cache, layer, head);
    const size_t first = (size_t)(position / BLOCK) * dim * BLOCK + position % BLOCK;
    const size_t row = (size_t)position * width;
    for (int d = 0; d < dim; d++) {
        if (config->half_cache) {
            ((uint16_t *)place.keys)[first + (size_t)d * BLOCK] = cached_half(key[d]);
            ((uint16_t *)place.values)[row + d] = cached_half(value[d]);
        } else {
            ((float *)place.keys)[first + (size_t)d * BLOCK] = key[d];
            ((float *)place.values)[row + d] = value[d];
        }
    }
}

static void attend(const struct config *config, int layer, int head, const struct column *columns,
                   int n, const float *x, size_t stride, float *scores, size_t room, float *out,
                   size_t out_stride) {
    const int dim = config->dim / config->heads, width = (int)rounded((size_t)dim);
    const int half = config->half_cache, shared = columns[0].cache == columns[n - 1].cache;
    const struct cache *base = columns[0].cache->base;
    const int before = columns[0].cache->base_length, at = (int)rounded((size_t)before);
    x += (size_t)head * dim;
    out += (size_t)head * dim;
    for (int i = 0; i < n; i++)
        store(config, columns[i].cache, layer, head, columns[i].position - before,
              x + i * stride + config->dim, x + i * stride + 2 * config->dim);
    for (int c = 0; c < n; c += QUERIES) {
        const int Q = n - c < QUERIES ? n - c : QUERIES;
        const float *q = x + c * stride;
        float sums[QUERIES * MAX_HEAD_DIM], factors[QUERIES];
        struct segment common = {{0, 0}, before, 0}, own[QUERIES];
        memset(sums, 0, sizeof(float) * (size_t)(Q * width));
        if (base) common.place = place_of(config, base, layer, head);
        for (int i = 0; i < Q; i++) {
            /* Columns of one cache read as far as the last of them, and less is masked. */
            const int last = columns[shared ? c + Q - 1 : c + i].position + 1 - before;
            own[i] = (struct segment){place_of(config, columns[c + i].cache, layer, head), last, at};
        }
        if (before) score_segment(&common, dim, Q, half, q, stride, scores, room);
        if (shared)
            score_segment(own, dim, Q, half, q, stride, scores, room);
        else
            for (int i = 0; i < Q; i++)
                score_segment(own + i, dim, 1, half, q + i * stride, stride, scores + i * room, room);
        for (int i = 0; i < Q; i++) {
            float *row = scores + i * room;
            const int length = at + columns[c + i].position + 1 - before;
            const int end = at + (int)rounded((size_t)own[i].count);
            for (int j = before; j < at; j++) row[j] = -INFINITY;
            for (int j = length; j < end; j++) row[j] = -INFINITY;
            factors[i] = soften(row, end);
        }
        if (before) add_segment(&common, width, Q, half, scores, room, sums);
        if (shared)
            add_segment(own, width, Q, half, scores, room, sums);
        else
            for (int i = 0; i < Q; i++)
                add_segment(own + i, width, 1, half, scores + i * room, room,
                            sums + (size_t)i * width);
        finish(sums, factors, width, dim, Q, out + c * out_stride, out_stride);
    }
}

static void attend_text(const struct config *config, int layer, int head,
                        const struct column *columns, int n, const float *x, size_t stride,
                        float *scores, size_t room, float *out, size_t out_stride) {
    const int dim = config->dim / config->heads, width = (int)rounded((size_t)dim);
    const struct cache *text = columns[0].text;
    const struct segment all = {place_of(config, text, layer, head), text->length, 0};
    for (int c = 0; c < n; c += QUERIES) {
        const int Q = n - c < QUERIES ? n - c : QUERIES;
        float sums[QUERIES * MAX_HEAD_DIM], factors[QUERIES];
        memset(sums, 0, sizeof(float) * (size_t)(Q * width));
        score_segment(&all, dim, Q, config->half_cache, x + c * stride + (size_t)head * dim, stride,
                      scores, room);
        for (int i = 0; i < Q; i++) {
            const int end = (int)rounded((size_t)text->length);
            for (int j = text->length; j < end; j++) scores[i * room + j] = -INFINITY;
            factors[i] = soften(scores + i * room, end);
        }
        add_segment(&all, width, Q, config->half_cache, scores, room, sums);
        finish(sums, factors, width, dim, Q, out + c * out_stride + (size_t)head * dim, out_stride);
    }
}
