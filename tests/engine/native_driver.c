/* Runs the native library without Python: on an emulated processor, and under sanitizers.
 *
 * `native_driver paths|threads|hostile|limits [PATH [THREADS]]` prints what it found, a line each, and "done";
 * see test_native_building.py. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "segue_native.h"

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

static void fail(const char *why) {
    printf("%s\n", why);
    exit(1);
}

static uint32_t random_bits(void) {
    static _Thread_local uint64_t state = 88172645463325252ull;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 16);
}
static float random_float(void) { return (float)(int32_t)random_bits() / 2147483648.0f; }

static void *memory(size_t bytes) { /* of its very size, so that what lies beside it is guarded */
    void *made = calloc(bytes ? bytes : 1, 1);
    if (!made) fail("no memory");
    return made;
}

static float *floats(size_t count, float size) {
    float *made = memory(count * sizeof *made);
    for (size_t n = 0; n < count; n++) made[n] = size * random_float();
    return made;
}

static size_t head_size(int head) { return head == HALF_BIAS ? 4 : head == FLOAT_BIAS ? 8 : 5; }

static struct matrix matrix(int rows, int columns, int kind, int bits, int group, int head) {
    const size_t blocks = ((size_t)rows + BLOCK - 1) / BLOCK;
    struct matrix made = {.rows = rows, .columns = columns, .kind = kind};
    if (kind != PACKED) {
        const size_t count = blocks * (size_t)columns * BLOCK;
        if (kind == FLOAT32) {
            made.data = (uint8_t *)floats(count, 0.1f);
            return made;
        }
        uint16_t *halves = memory(count * 2);
        for (size_t n = 0; n < count; n++) /* between 2^-5 and 2^-3, in either sign */
            halves[n] = kind == FLOAT16 ? (uint16_t)((random_bits() & 0x87ff) | 0x2800)
                                        : (uint16_t)((random_bits() & 0x80ff) | 0x3d00);
        made.data = (uint8_t *)halves;
        return made;
    }
    made.bits = bits, made.group = group, made.head = head;
    const size_t groups = (size_t)(columns / group), scale = head == HALF_BIAS ? 2 : 4;
    const size_t heads = (groups * BLOCK * head_size(head) + 63) / 64 * 64;
    made.record = (int32_t)(heads + (size_t)columns * BLOCK * (size_t)bits / 8);
    uint8_t *data = memory(blocks * (size_t)made.record), *record = data;
    for (size_t n = 0; n < blocks; n++, record += made.record) {
        uint8_t *words = record + heads, *biases = record + groups * BLOCK * scale;
        for (size_t i = 0; i < groups * BLOCK; i++) {
            const float floats[2] = {0.05f * random_float(), 0.05f * random_float()};
            const uint16_t halves[2] = {(uint16_t)((random_bits() & 0x83ff) | 0x2400),
                                        (uint16_t)((random_bits() & 0x87ff) | 0x2800)};
            memcpy(record + scale * i, scale == 2 ? (const void *)halves : floats, scale);
            if (head == ZERO_POINT)
                biases[i] = (uint8_t)(random_bits() & ((1u << bits) - 1));
            else
                memcpy(biases + scale * i, scale == 2 ? (const void *)(halves + 1) : floats + 1, scale);
        }
        while (words < record + made.record) *words++ = (uint8_t)random_bits();
    }
    made.data = data;
    return made;
}

/* --- Models ------------------------------------------------------------------------------------ */

#define LAYERS 2

struct shape {
    int dim, heads, ffn, logits, kind, bits, group, head, cache_size, text, activations;
};

struct weights {
    struct config config;
    struct layer layers[LAYERS];
    struct matrix heads;
    const float *norm;
};

static struct weights weights_of(struct shape s, int threads) {
    struct weights made = {.config = {.dim = s.dim, .heads = s.heads, .ffn = s.ffn, .layers = LAYERS,
                                      .logits = s.logits, .threads = threads,
                                      .cache_size = s.cache_size, .text = s.text,
                                      .activations = s.activations}};
#define MATRIX(rows, columns) matrix(rows, columns, s.kind, s.bits, s.group, s.head)
    for (int n = 0; n < LAYERS; n++)
        made.layers[n] = (struct layer){
            floats(2 * (size_t)s.dim, 1), floats(2 * (size_t)s.dim, 1), floats(2 * (size_t)s.dim, 1),
            MATRIX(3 * s.dim, s.dim), MATRIX(s.dim, s.dim), MATRIX(s.dim, s.dim),
            MATRIX(s.dim, s.dim), MATRIX(s.ffn, s.dim), MATRIX(s.dim, s.ffn)};
    made.heads = MATRIX(s.logits, s.dim);
    made.norm = floats(2 * (size_t)s.dim, 1);
    return made;
}

static void drop_weights(struct weights *w) {
    for (int n = 0; n < LAYERS; n++) {
        struct layer *l = w->layers + n;
        const void *all[] = {l->self_norm,    l->cross_norm,   l->ffn_norm,      l->qkv.data, l->self_out.data,
                             l->cross_q.data, l->cross_out.data, l->fc1.data, l->fc2.data};
        for (int k = 0; k < COUNT(all); k++) free((void *)all[k]);
    }
    free((void *)w->heads.data);
    free((void *)w->norm);
}

static struct model *model_of(struct weights *w, int threads, const char *path) {
    w->config.threads = threads;
    struct model *made = segue_new(&w->config, w->layers, w->norm, &w->heads, path);
    if (!made) fail("a model is refused");
    return made;
}

static struct cache cache_of(const struct weights *w, struct model *m, int positions,
                             const struct cache *base, int before) {
    const int capacity = (positions + BLOCK - 1) / BLOCK * BLOCK;
    if (segue_reserve(m, before + capacity)) fail("no room for scores");
    return (struct cache){memory(segue_cache_bytes(&w->config, capacity)), base, capacity, before, 0, 0};
}

/* Texts have no bytes, but 16 bits. */
static struct cache text_of(const struct weights *w, struct model *m, int length) {
    struct weights wider = *w;
    if (w->config.cache_size == 1) wider.config.cache_size = 2;
    struct cache made = cache_of(&wider, m, length, NULL, 0);
    made.length = length;
    return made;
}

#define PREFILL 48
#define STEPS 20
#define ROWS 6

/* The logits of a prefill, and of steps of rows on it, which leave one after the other. */
static float *generated(struct weights *w, int threads, const char *path, const float *hidden, int *count) {
    const int dim = w->config.dim, width = (w->config.logits + BLOCK - 1) / BLOCK * BLOCK;
    struct model *m = model_of(w, threads, path);
    struct cache text = text_of(w, m, 5), base = cache_of(w, m, PREFILL, NULL, 0), own[ROWS];
    struct column columns[PREFILL];
    float *logits = memory((size_t)(PREFILL + STEPS * ROWS) * (size_t)width * sizeof(float)), *to = logits;
    for (int n = 0; n < LAYERS && w->config.text; n++) {
        float *keys = floats(5 * (size_t)dim, 1), *values = floats(5 * (size_t)dim, 1);
        /* The same ones, whatever was drawn before. */
        for (int k = 0; k < 5 * dim; k++) keys[k] = hidden[k], values[k] = hidden[k + 1];
        if (segue_store_text(m, &text, n, keys, values)) fail("a text is refused");
        free(keys), free(values);
    }
    for (int n = 0; n < PREFILL; n++)
        columns[n] = (struct column){&base, w->config.text ? &text : NULL, n, n >= PREFILL - 3};
    if (segue_forward(m, columns, PREFILL, hidden, to)) fail("a prefill is refused");
    to += 3 * width;
    for (int r = 0; r < ROWS; r++) own[r] = cache_of(w, m, STEPS, &base, PREFILL);
    for (int step = 0; step < STEPS; step++) {
        const int rows = step < ROWS ? ROWS - step : 1 + step % 2;
        if (step == STEPS / 2) nanosleep(&(struct timespec){0, 3000000}, NULL); /* threads fall asleep */
        for (int r = 0; r < rows; r++)
            columns[r] = (struct column){own + r, r % 2 && w->config.text ? &text : NULL, PREFILL + step, 1};
        if (step >= ROWS) /* a row that has left does not come back: only those that were in all */
            for (int r = 1; r < rows; r++) columns[r] = (struct column){own + r, NULL, PREFILL + ROWS - r, 1};
        if (segue_forward(m, columns, rows, hidden + (size_t)step * dim, to)) fail("a step is refused");
        to += (size_t)rows * (size_t)width;
    }
    segue_free(m);
    for (int r = 0; r < ROWS; r++) free(own[r].data);
    free(base.data), free(text.data);
    *count = (int)(to - logits);
    return logits;
}

static const struct shape SHAPES[] = {
    {96, 3, 160, 50, PACKED, 4, 32, ZERO_POINT, 2, 1, 16}, {128, 2, 256, 33, PACKED, 8, 128, FLOAT_BIAS, 4, 1, 16},
    {64, 4, 64, 16, PACKED, 2, 64, HALF_BIAS, 1, 0, 16},   {33, 3, 35, 17, FLOAT32, 0, 0, 0, 4, 1, 16},
    {40, 1, 17, 5, FLOAT16, 0, 0, 0, 1, 1, 8},             {16, 16, 1, 1, BFLOAT16, 0, 0, 0, 2, 0, 16},
    {96, 3, 160, 50, PACKED, 4, 32, ZERO_POINT, 2, 1, 8},  {128, 2, 256, 33, PACKED, 8, 128, FLOAT_BIAS, 4, 1, 8}};

/* --- paths ------------------------------------------------------------------------------------- */

static void compare_products(const char *path, int threads, int activations) {
    static const int BITS[] = {2, 4, 8}, GROUPS[] = {32, 64, 128}, COLUMNS[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 20};
    enum { WIDTH = 256, OUTPUTS = 40, PADDED = 48 };
    const struct shape shape = {WIDTH, 4, 32, 1, FLOAT32, 0, 0, 0, 4, 0, activations};
    struct weights w = weights_of(shape, 2);
    struct model *m = model_of(&w, threads, path), *plain = model_of(&w, 1, "plain");
    int products = 0, different = 0;
    double largest = 0;
    for (int b = 0; b < COUNT(BITS) * COUNT(GROUPS) * 3; b++)
        for (int c = 0; c < COUNT(COLUMNS); c++) {
            const int bits = BITS[b % 3], group = GROUPS[b / 3 % 3], count = COLUMNS[c];
            struct matrix by = matrix(OUTPUTS, WIDTH, PACKED, bits, group, b / 9);
            float *x = floats((size_t)count * WIDTH, 1), out[2][20 * PADDED];
            x[5] = 300; /* an outlier */
            if (segue_product(m, &by, x, count, out[0]) || segue_product(plain, &by, x, count, out[1]))
                fail("a product is refused");
            const size_t size = (size_t)count * PADDED;
            different += memcmp(out[0], out[1], size * sizeof(float)) != 0;
            for (size_t n = 0; n < size; n++)
                largest = fmax(largest, fabs((double)out[0][n] - (double)out[1][n]));
            products++;
            free(x), free((void *)by.data);
        }
    printf("%s %d products of int%d %d different %.2g\n", path, products, activations, different, largest);
    segue_free(m), segue_free(plain), drop_weights(&w);
}

/* The largest difference of logits, of their root mean square. */
static void compare_models(const char *path, int threads) {
    double largest = 0;
    for (int n = 0; n < COUNT(SHAPES); n++) {
        struct weights w = weights_of(SHAPES[n], 2);
        float *hidden = floats((size_t)PREFILL * (size_t)SHAPES[n].dim + 1, 2);
        double squares = 0, apart = 0;
        int count;
        float *own = generated(&w, threads, path, hidden, &count), *plain = generated(&w, 1, "plain", hidden, &count);
        for (int k = 0; k < count; k++) {
            if (own[k] != own[k] || plain[k] != plain[k]) fail("a logit is no number");
            squares += (double)plain[k] * (double)plain[k];
            apart = fmax(apart, fabs((double)own[k] - (double)plain[k]));
        }
        largest = fmax(largest, apart / sqrt(squares / count));
        free(own), free(plain), free(hidden), drop_weights(&w);
    }
    printf("%s %d models %.2g\n", path, COUNT(SHAPES), largest);
}

/* --- threads ----------------------------------------------------------------------------------- */

static void *run_some(void *argument) {
    struct weights w = weights_of(SHAPES[*(int *)argument], 1);
    float *hidden = floats((size_t)PREFILL * (size_t)w.config.dim + 1, 2);
    int count;
    float *one = generated(&w, 1, "", hidden, &count);
    for (int threads = 2; threads <= (w.config.dim > 100 ? 17 : 5); threads += threads < 5 ? 1 : 6) {
        float *more = generated(&w, threads, "", hidden, &count);
        if (memcmp(one, more, (size_t)count * sizeof(float))) fail("the number of threads matters");
        free(more);
        segue_free(model_of(&w, threads, "")); /* at once, with nothing run */
    }
    free(one), free(hidden), drop_weights(&w);
    return NULL;
}

static void run_threads(void) {
    pthread_t two[2];
    int shapes[COUNT(SHAPES)];
    for (int n = 0; n < COUNT(SHAPES); n++) shapes[n] = n, run_some(shapes + n);
    for (int n = 0; n < 2; n++) /* models of their own, at once */
        if (pthread_create(two + n, NULL, run_some, shapes + n)) fail("no thread");
    for (int n = 0; n < 2; n++) pthread_join(two[n], NULL);
}

/* --- hostile ----------------------------------------------------------------------------------- */

static void run_values(const char *path, int threads) {
    static const float VALUES[] = {NAN, INFINITY, -INFINITY, 3.4e38f, -3.4e38f, 1e-45f, 65504, 65520, 0};
    for (int n = 0; n < COUNT(SHAPES); n++) {
        struct weights w = weights_of(SHAPES[n], 2);
        const size_t count = (size_t)PREFILL * (size_t)w.config.dim + 1;
        float *hidden = floats(count, 2);
        int logits;
        for (int v = 0; v < COUNT(VALUES); v++) {
            hidden[random_bits() % count] = VALUES[v];
            if (v % 3 == 2) /* and a weight: any bits are a weight of some value */
                memcpy((void *)w.layers[v % LAYERS].qkv.data, VALUES + v, 4);
            free(generated(&w, threads, path, hidden, &logits));
        }
        for (size_t k = 0; k < count; k++) hidden[k] = VALUES[k % COUNT(VALUES)];
        free(generated(&w, n || threads == 1 ? threads : 17, path, hidden, &logits));
        memset(hidden, 0, count * sizeof *hidden);
        free(generated(&w, 2, path, hidden, &logits));
        free(hidden), drop_weights(&w);
    }
}

#define REFUSED(what) \
    if (what) fail("not refused: " #what)

static void refuse(void) {
    struct weights w = weights_of(SHAPES[0], 2), bad;
    struct model *m = model_of(&w, 2, "");
    float x[256] = {0}, out[256];
    static const int NUMBERS[] = {0, -1, 95, 1 << 20, INT32_MAX, INT32_MIN};
    for (int n = 0; n < COUNT(NUMBERS); n++)
        for (int field = 0; field < 5; field++) {
            bad = w;
            int32_t *fields[] = {&bad.config.dim, &bad.config.heads, &bad.config.ffn, &bad.config.logits,
                                 &bad.config.threads};
            if (field == 4 && NUMBERS[n] == 95) continue;
            *fields[field] = NUMBERS[n];
            REFUSED(segue_new(&bad.config, bad.layers, bad.norm, &bad.heads, ""));
            segue_cache_bytes(&bad.config, 16);
            struct matrix by = w.heads;
            int32_t *parts[] = {&by.rows, &by.columns, &by.bits, &by.group, &by.record};
            *parts[field] = NUMBERS[n];
            if (field == 0 && NUMBERS[n] == 95) continue; /* more rows than there are: not told by a shape */
            if (field == 4 && NUMBERS[n] > 1000) continue; /* nor longer records */
            REFUSED(!segue_product(m, &by, x, 1, out));
        }
    REFUSED(segue_new(&w.config, w.layers, w.norm, &w.heads, "none"));
    REFUSED(segue_new(&w.config, w.layers, NULL, &w.heads, ""));
    bad = w, bad.config.activations = 4;
    REFUSED(segue_new(&bad.config, bad.layers, bad.norm, &bad.heads, ""));
    bad = w, bad.layers[1].fc2.data = NULL;
    REFUSED(segue_new(&bad.config, bad.layers, bad.norm, &bad.heads, ""));
    REFUSED(!segue_product(m, &w.heads, x, 0, out));
    REFUSED(!segue_product(m, &w.heads, x, MAX_COLUMNS + 1, out));
    REFUSED(!segue_reserve(m, -1));
    REFUSED(!segue_reserve(m, INT32_MAX));

    struct cache cache = cache_of(&w, m, 20, NULL, 0), other = cache, based = cache;
    float *hidden = floats(3 * (size_t)w.config.dim, 1), *logits = memory(3 * 64 * sizeof(float));
    struct column columns[3] = {{&cache, NULL, 31, 1}, {&cache, NULL, 32, 1}, {&other, NULL, 0, 1}};
    if (segue_forward(m, columns, 1, hidden, logits)) fail("the last position is refused");
    REFUSED(!segue_forward(m, columns, 2, hidden, logits));
    REFUSED(!segue_forward(m, columns, 1, hidden, NULL));
    REFUSED(!segue_forward(m, columns, 0, hidden, logits));
    for (int n = 0; n < 3; n++) {
        columns[0].position = ((int[]){-1, 32, INT32_MAX})[n];
        REFUSED(!segue_forward(m, columns, 1, hidden, logits));
    }
    columns[0].position = 3, columns[1].position = 3;
    REFUSED(!segue_forward(m, columns, 2, hidden, logits)); /* one position twice */
    columns[1] = columns[2], columns[2] = columns[0], columns[2].position = 4;
    REFUSED(!segue_forward(m, columns, 3, hidden, logits)); /* one cache in two places */
    other.capacity = 17;
    REFUSED(!segue_forward(m, columns + 1, 1, hidden, logits));
    other.capacity = 32, other.data = NULL;
    REFUSED(!segue_forward(m, columns + 1, 1, hidden, logits));
    based.base = &cache, based.base_length = 33;
    columns[0] = (struct column){&based, NULL, 33, 1};
    REFUSED(!segue_forward(m, columns, 1, hidden, logits));
    based.base_length = -1;
    REFUSED(!segue_forward(m, columns, 1, hidden, logits));
    cache.length = 33;
    columns[0] = (struct column){&cache, &cache, 0, 1};
    REFUSED(!segue_forward(m, columns, 1, hidden, logits)); /* a text longer than its room */
    REFUSED(!segue_store_text(m, &cache, 0, hidden, hidden));
    cache.length = 1;
    REFUSED(!segue_store_text(m, &cache, LAYERS, hidden, hidden));
    REFUSED(!segue_store_text(m, &cache, -1, hidden, hidden));
    free(cache.data), free(hidden), free(logits);
    segue_free(m), segue_free(NULL), drop_weights(&w);
}

/* --- limits ------------------------------------------------------------------------------------ */

/* Threads that the system does not give: the model is refused, and what was started ends. */
static void run_limits(void) {
    struct weights w = weights_of(SHAPES[0], 1);
    setrlimit(RLIMIT_AS, &(struct rlimit){512 << 20, 512 << 20});
    w.config.threads = MAX_THREADS;
    for (int n = 0; n < 3; n++) REFUSED(segue_new(&w.config, w.layers, w.norm, &w.heads, ""));
    segue_free(model_of(&w, 3, ""));
    drop_weights(&w);
}

int main(int count, char **arguments) {
    const char *mode = count > 1 ? arguments[1] : "";
    char paths[64], *name = paths, *next;
    const char *only = count > 2 ? arguments[2] : NULL;
    const int threads = count > 3 ? atoi(arguments[3]) : 3;
    if (!strcmp(mode, "threads")) run_threads();
    if (!strcmp(mode, "hostile")) refuse();
    if (!strcmp(mode, "limits")) run_limits();
    if (!strcmp(mode, "paths") || !strcmp(mode, "hostile"))
        for (strcpy(paths, segue_paths()); name; name = next) {
            if ((next = strchr(name, ' '))) *next++ = 0;
            if (only && strcmp(only, name)) continue;
            if (!strcmp(mode, "hostile")) {
                run_values(name, threads);
                printf("%s\n", name);
            } else {
                compare_products(name, threads, 16);
                compare_products(name, threads, 8);
                compare_models(name, threads);
            }
        }
    printf("done\n");
    return 0;
}
