/* Attention of one head; included by a path after its simd_*.h, product.h and elementwise.h.
 *
 * In keys a lane is a position, in values a dimension, so no sum crosses lanes.  What several
 * columns attend to in common is read once for up to QUERIES of them. */

#define QUERIES 4

/* Keys of one head of one layer lie in records of BLOCK positions, and so do its values.  In bytes, a
 * record begins with a scale for each of its positions. */
struct place {
    uint8_t *keys, *values;
    size_t key_record, value_record;
    int size; /* bytes of a number */
};

INLINE size_t scales_of_record(int size) { return size == 1 ? BLOCK * sizeof(float) : 0; }

INLINE struct place place_of(const struct config *config, const struct cache *cache, int layer,
                             int head, int size) {
    const size_t dim = (size_t)(config->dim / config->heads), scales = scales_of_record(size);
    const size_t key_record = BLOCK * dim * size + scales;
    const size_t value_record = BLOCK * rounded(dim) * size + scales;
    const size_t key = (size_t)cache->capacity / BLOCK * key_record;
    const size_t value = (size_t)cache->capacity / BLOCK * value_record;
    uint8_t *start = (uint8_t *)cache->data + (size_t)layer * config->heads * (key + value);
    return (struct place){start + (size_t)head * key,
                          start + (size_t)config->heads * key + (size_t)head * value, key_record,
                          value_record, size};
}

/* A text is read once a step, whole: bytes would gain nothing. */
INLINE int text_size(const struct config *config) {
    return config->cache_size == 1 ? 2 : config->cache_size;
}

#ifndef vf_load_int8
INLINE vf vf_load_int8(const int8_t *p) {
    float wide[LANES];
    for (int n = 0; n < LANES; n++) wide[n] = p[n];
    return vf_load(wide);
}
#endif

INLINE vf load_as(const uint8_t *p, int SIZE) {
    return SIZE == 1   ? vf_load_int8((const int8_t *)p)
           : SIZE == 2 ? vf_load_half((const uint16_t *)p)
                       : vf_load((const float *)p);
}

/* scores [Q][room]: the products with `count` keys, and something beyond to the end of a block. */
INLINE void score(const struct place *place, int count, int dim, int Q, int SIZE, const float *q,
                  size_t stride, float factor, float *scores, size_t room) {
    const uint8_t *record = place->keys;
    for (int block = 0; block < count; block += BLOCK, record += place->key_record)
        for (int h = 0; h < PARTS; h++) {
            const uint8_t *key = record + scales_of_record(SIZE) + h * LANES * SIZE;
            vf even[QUERIES], odd[QUERIES];
            for (int i = 0; i < Q; i++) even[i] = odd[i] = vf_set(0);
            int d = 0;
            for (; d + 2 <= dim; d += 2) {
                if (!h) __builtin_prefetch(key + (size_t)d * BLOCK * SIZE + AHEAD);
                const vf one = load_as(key + (size_t)d * BLOCK * SIZE, SIZE);
                const vf two = load_as(key + (size_t)(d + 1) * BLOCK * SIZE, SIZE);
                for (int i = 0; i < Q; i++) {
                    even[i] = vf_fma(one, vf_set(q[i * stride + d]), even[i]);
                    odd[i] = vf_fma(two, vf_set(q[i * stride + d + 1]), odd[i]);
                }
            }
            if (d < dim)
                for (int i = 0; i < Q; i++)
                    even[i] = vf_fma(load_as(key + (size_t)d * BLOCK * SIZE, SIZE),
                                     vf_set(q[i * stride + d]), even[i]);
            vf factors = vf_set(factor);
            if (SIZE == 1) factors = vf_mul(factors, vf_load((const float *)record + h * LANES));
            for (int i = 0; i < Q; i++)
                vf_store(scores + i * room + block + h * LANES,
                         vf_mul(vf_add(even[i], odd[i]), factors));
        }
}

/* out [Q][...]: add `count` values by their weights [Q][room], in slices of WIDE vectors. */
INLINE void slices(const struct place *place, int count, int width, int from, int to, int Q,
                   int WIDE, int SIZE, const float *weights, size_t room, float *out) {
    for (; from + WIDE * LANES <= to; from += WIDE * LANES) {
        vf sum[QUERIES][64 / LANES];
        for (int i = 0; i < Q; i++)
            for (int k = 0; k < WIDE; k++)
                sum[i][k] = vf_load(out + (size_t)i * width + from + k * LANES);
        const uint8_t *record = place->values;
        for (int block = 0; block < count; block += BLOCK, record += place->value_record) {
            const uint8_t *value = record + scales_of_record(SIZE) + (size_t)from * SIZE;
            const int end = count - block < BLOCK ? count : block + BLOCK;
            for (int t = block; t < end; t++, value += (size_t)width * SIZE) {
                __builtin_prefetch(value + AHEAD);
                if (SIZE > 1) __builtin_prefetch(value + AHEAD + 64);
#pragma GCC unroll 8
                for (int k = 0; k < WIDE; k++) {
                    const vf v = load_as(value + (size_t)k * LANES * SIZE, SIZE);
#pragma GCC unroll 4
                    for (int i = 0; i < Q; i++)
                        sum[i][k] = vf_fma(v, vf_set(weights[i * room + t]), sum[i][k]);
                }
            }
        }
        for (int i = 0; i < Q; i++)
            for (int k = 0; k < WIDE; k++)
                vf_store(out + (size_t)i * width + from + k * LANES, sum[i][k]);
    }
}

INLINE void add_values(const struct place *place, int count, int width, int Q, int SIZE,
                       float *weights, size_t room, float *out) {
    const int most = Q == 1 || LANES == 16 ? 64 / LANES : 32 / LANES;
    const int even = width / (most * LANES) * (most * LANES);
    if (SIZE == 1)
        for (int block = 0; block < count; block += LANES) {
            const uint8_t *record = place->values + (size_t)(block / BLOCK) * place->value_record;
            const vf scale = vf_load((const float *)record + block % BLOCK);
            for (int i = 0; i < Q; i++) {
                float *weight = weights + i * room + block;
                vf_store(weight, vf_mul(vf_load(weight), scale));
            }
        }
    slices(place, count, width, 0, even, Q, most, SIZE, weights, room, out);
    slices(place, count, width, even, width, Q, PARTS, SIZE, weights, room, out);
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

#define FOR_SIZES(size, call)                     \
    switch (size) {                               \
        case 1: { enum { SIZE = 1 }; call break; } \
        case 2: { enum { SIZE = 2 }; call break; } \
        default: { enum { SIZE = 4 }; call }      \
    }

static void score_segment(const struct segment *s, int dim, int Q, const float *q, size_t stride,
                          float *scores, size_t room) {
    const float factor = 1.0f / sqrtf((float)dim);
    const struct place *place = &s->place;
    scores += s->at;
    FOR_SIZES(place->size,
              FOR_QUERIES(Q, score(place, s->count, dim, N, SIZE, q, stride, factor, scores, room)))
}

/* The weights are changed. */
static void add_segment(const struct segment *s, int width, int Q, float *weights, size_t room,
                        float *out) {
    const struct place *place = &s->place;
    weights += s->at;
    FOR_SIZES(place->size,
              FOR_QUERIES(Q, add_values(place, s->count, width, N, SIZE, weights, room, out)))
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

/* Numbers within ±127 and their scale; one that is not finite makes the scale NaN. */
static float bytes_of(const float *x, int count, int8_t *bytes) {
    float most = 0, finite = 0;
    for (int n = 0; n < count; n++) {
        most = fabsf(x[n]) > most ? fabsf(x[n]) : most;
        finite += x[n] * 0;
    }
    const float scale = finite != finite ? finite : most < 1e-30f ? 0 : most / 127.0f;
    const float inverse = scale > 0 ? 1.0f / scale : 0;
    for (int n = 0; n < count; n++) bytes[n] = scale == scale ? (int8_t)rintf(x[n] * inverse) : 0;
    return scale;
}

INLINE void store_at(const struct place *place, int dim, int position, const float *key,
                     const float *value) {
    const size_t lane = (size_t)(position % BLOCK), block = (size_t)(position / BLOCK);
    uint8_t *keys = place->keys + block * place->key_record;
    uint8_t *values = place->values + block * place->value_record;
    const size_t row = lane * rounded((size_t)dim);
    if (place->size == 1) {
        int8_t bytes[MAX_HEAD_DIM];
        ((float *)keys)[lane] = bytes_of(key, dim, bytes);
        keys += scales_of_record(1);
        for (int d = 0; d < dim; d++) keys[(size_t)d * BLOCK + lane] = (uint8_t)bytes[d];
        ((float *)values)[lane] = bytes_of(value, dim, bytes);
        memcpy(values + scales_of_record(1) + row, bytes, (size_t)dim);
        return;
    }
    for (int d = 0; d < dim; d++) {
        if (place->size == 2) {
            ((uint16_t *)keys)[(size_t)d * BLOCK + lane] = cached_half(key[d]);
            ((uint16_t *)values)[row + d] = cached_half(value[d]);
        } else {
            ((float *)keys)[(size_t)d * BLOCK + lane] = key[d];
            ((float *)values)[row + d] = value[d];
        }
    }
}

static void store_text(const struct config *config, struct cache *cache, int layer, int head,
                       int position, const float *key, const float *value) {
    const struct place place = place_of(config, cache, layer, head, text_size(config));
    store_at(&place, config->dim / config->heads, position, key, value);
}

static void attend(const struct config *config, int layer, int head, const struct column *columns,
                   int n, const float *x, size_t stride, float *scores, size_t room, float *out,
                   size_t out_stride) {
    const int dim = config->dim / config->heads, width = (int)rounded((size_t)dim);
    const int size = config->cache_size, shared = columns[0].cache == columns[n - 1].cache;
    const struct cache *base = columns[0].cache->base;
    const int before = columns[0].cache->base_length, at = (int)rounded((size_t)before);
    x += (size_t)head * dim;
    out += (size_t)head * dim;
    for (int i = 0; i < n; i++) {
        const struct place place = place_of(config, columns[i].cache, layer, head, size);
        store_at(&place, dim, columns[i].position - before, x + i * stride + config->dim,
                 x + i * stride + 2 * config->dim);
    }
    for (int c = 0; c < n; c += QUERIES) {
        const int Q = n - c < QUERIES ? n - c : QUERIES;
        const float *q = x + c * stride;
        float sums[QUERIES * MAX_HEAD_DIM], factors[QUERIES];
        struct segment common = {.count = before}, own[QUERIES];
        memset(sums, 0, sizeof(float) * (size_t)(Q * width));
        if (base) common.place = place_of(config, base, layer, head, size);
        for (int i = 0; i < Q; i++) {
            /* Columns of one cache read as far as the last of them, and less is masked. */
            const int last = columns[shared ? c + Q - 1 : c + i].position + 1 - before;
            own[i] = (struct segment){place_of(config, columns[c + i].cache, layer, head, size), last,
                                      at};
        }
        if (before) score_segment(&common, dim, Q, q, stride, scores, room);
        if (shared)
            score_segment(own, dim, Q, q, stride, scores, room);
        else
            for (int i = 0; i < Q; i++)
                score_segment(own + i, dim, 1, q + i * stride, stride, scores + i * room, room);
        for (int i = 0; i < Q; i++) {
            float *row = scores + i * room;
            const int length = at + columns[c + i].position + 1 - before;
            const int end = at + (int)rounded((size_t)own[i].count);
            for (int j = before; j < at; j++) row[j] = -INFINITY;
            for (int j = length; j < end; j++) row[j] = -INFINITY;
            factors[i] = soften(row, end);
        }
        if (before) add_segment(&common, width, Q, scores, room, sums);
        if (shared)
            add_segment(own, width, Q, scores, room, sums);
        else
            for (int i = 0; i < Q; i++)
                add_segment(own + i, width, 1, scores + i * room, room,
                            sums + (size_t)i * width);
        finish(sums, factors, width, dim, Q, out + c * out_stride, out_stride);
    }
}

static void attend_text(const struct config *config, int layer, int head,
                        const struct column *columns, int n, const float *x, size_t stride,
                        float *scores, size_t room, float *out, size_t out_stride) {
    const int dim = config->dim / config->heads, width = (int)rounded((size_t)dim);
    const struct cache *text = columns[0].text;
    const struct segment all = {place_of(config, text, layer, head, text_size(config)),
                                text->length, 0};
    for (int c = 0; c < n; c += QUERIES) {
        const int Q = n - c < QUERIES ? n - c : QUERIES;
        float sums[QUERIES * MAX_HEAD_DIM], factors[QUERIES];
        memset(sums, 0, sizeof(float) * (size_t)(Q * width));
        score_segment(&all, dim, Q, x + c * stride + (size_t)head * dim, stride,
                      scores, room);
        for (int i = 0; i < Q; i++) {
            const int end = (int)rounded((size_t)text->length);
            for (int j = text->length; j < end; j++) scores[i * room + j] = -INFINITY;
            factors[i] = soften(scores + i * room, end);
        }
        add_segment(&all, width, Q, scores, room, sums);
        finish(sums, factors, width, dim, Q, out + c * out_stride + (size_t)head * dim, out_stride);
    }
}
