/* A call: some columns through all layers.  Every thread runs `run_columns`; between two meetings
 * they share the work of one phase. */
#include "step.h"

#include <string.h>

/* Parts of each thread's share of a product: many, so that all end together when some help others. */
#define PARTS_OF_SHARE 8
/* Bytes at its beginning that are asked for while activations are quantized. */
#define ASKED 8192

static int blocks_of(const struct matrix *m) { return (m->rows + BLOCK - 1) / BLOCK; }

static int phase_of(struct model *m) {
    return atomic_load_explicit(&m->team.phase, memory_order_relaxed) & 1;
}

/* End a phase. */
static void meet(struct model *m, int thread) {
    const int next = m->team.size > 1 ? !phase_of(m) : 0; /* one thread alone has one phase */
    atomic_store_explicit(&m->shares[next][thread].begun, 0, memory_order_relaxed);
    team_meet(&m->team);
}

/* Ask for where a share begins; what follows is asked for as it is read. */
static void ask_for(const struct matrix *by, int block) {
    const size_t each = by->kind == PACKED ? (size_t)by->record
                                           : (size_t)by->columns * BLOCK * (by->kind == FLOAT32 ? 4 : 2);
    const size_t first = (size_t)block * each, all = (size_t)blocks_of(by) * each;
    for (size_t n = first; n < all && n < first + ASKED; n += 64) __builtin_prefetch(by->data + n);
}

/* Quantize some entries of row r of n, normed first where there is a norm. */
static void prepare_row(struct model *m, int thread, const struct matrix *by, const float *row,
                        const float *norm, int r, int n, int from, int end, struct input *in) {
    float *normed = m->normed + (size_t)thread * m->hidden_stride;
    if (norm) m->kernels->norm(row, norm, m->config.dim, normed);
    m->kernels->prepare(by, norm ? normed : row, r, n, from, end, in);
}

/* Quantize n rows of x.  One row is quantized by each thread for itself, which takes less time than
 * waiting for another.  Of more, one thread at a time has a tile, since its rows lie in the same lines of
 * the cache; of few tiles, some groups of one. */
static struct input prepare(struct model *m, int thread, const struct matrix *by, const float *x,
                            size_t stride, const float *norm, const int *rows, int n) {
    const int threads = m->team.size, tile = m->kernels->tile, tiles = (n + tile - 1) / tile;
    const int whole = by->kind == PACKED ? by->group : by->columns, groups = by->columns / whole;
    const int most = groups < threads ? groups : threads, parts = tiles < 2 * threads ? most : 1;
    struct input in = m->input;
    if (n == 1 && threads <= MAX_COLUMNS) {
        in.floats += (size_t)thread * by->columns;
        in.lanes += (size_t)thread * (by->columns / 2);
        in.scale += (size_t)thread * (by->columns / 32);
        in.sum += (size_t)thread * (by->columns / 32);
        prepare_row(m, thread, by, x + stride * (size_t)(rows ? rows[0] : 0), norm, 0, 1, 0,
                    by->columns, &in);
        return in;
    }
    for (int claimed; (claimed = team_claim(&m->team)) < tiles * parts;) {
        const int first = claimed / parts * tile, part = claimed % parts;
        for (int r = first; r < n && r < first + tile; r++)
            prepare_row(m, thread, by, x + stride * (size_t)(rows ? rows[r] : r), norm, r, n,
                        groups * part / parts * whole, groups * (part + 1) / parts * whole, &in);
    }
    meet(m, thread);
    return in;
}

/* A product of n rows of x.  Each thread reads memory in order through its own share of the matrix, and
 * then helps others with theirs. */
static void multiply(struct model *m, int thread, const struct matrix *by, const float *x,
                     size_t x_stride, const float *norm, const int *rows, int n, float *out,
                     size_t stride, int add, int gelu) {
    const int blocks = blocks_of(by), threads = m->team.size;
    ask_for(by, (int)((int64_t)blocks * thread / threads));
    const struct input in = prepare(m, thread, by, x, x_stride, norm, rows, n);
    struct share *shares = m->shares[phase_of(m)];
    for (int k = 0; k < threads; k++) {
        const int whose = (thread + k) % threads;
        const int first = (int)((int64_t)blocks * whose / threads);
        const int last = (int)((int64_t)blocks * (whose + 1) / threads);
        const int each = (last - first + PARTS_OF_SHARE - 1) / PARTS_OF_SHARE;
        atomic_int *begun = &shares[whose].begun;
        for (int from; first + atomic_load_explicit(begun, memory_order_relaxed) < last;) {
            from = first + atomic_fetch_add_explicit(begun, each, memory_order_relaxed);
            const int to = from + each < last ? from + each : last;
            if (from >= to) break;
            m->kernels->product(by, from, to, &in, n, out, stride, add);
            for (int c = 0; gelu && c < n; c++)
                m->kernels->gelu(out + (size_t)c * stride + (size_t)from * BLOCK,
                                 (to - from) * BLOCK);
        }
    }
    meet(m, thread);
}

static void attend(struct model *m, int layer, int thread, int text) {
    const struct config *config = &m->config;
    const struct unit *units = text ? m->text_units : m->self_units;
    const int count = (text ? m->text_count : m->self_count) * config->heads;
    float *scores = m->scores + (size_t)thread * 4 * m->room;
    for (int part; (part = team_claim(&m->team)) < count;) {
        const struct unit *unit = units + part / config->heads;
        const size_t first = (size_t)unit->first;
        (text ? m->kernels->attend_text : m->kernels->attend)(
            config, layer, part % config->heads, m->columns + first, unit->count,
            m->qkv + first * m->qkv_stride, m->qkv_stride, scores, m->room,
            m->attended + first * m->hidden_stride, m->hidden_stride);
    }
    meet(m, thread);
}

/* Go on with those columns alone whose logits are wanted; return how many. */
static int keep_wanted(struct model *m, int thread) {
    const size_t dim = m->hidden_stride;
    for (int n = 0; !thread && n < m->wanted; n++) {
        const size_t from = (size_t)m->rows[n] * dim, to = (size_t)n * dim;
        memmove(m->hidden + to, m->hidden + from, dim * sizeof(float));
        memmove(m->attended + to, m->attended + from, dim * sizeof(float));
        m->rows[n] = n;
    }
    meet(m, thread);
    return m->wanted;
}

static void run_layer(struct model *m, int n, int thread) {
    const struct layer *layer = m->layers + n;
    const size_t dim = m->hidden_stride, qkv = m->qkv_stride, ffn = m->ffn_stride;
    /* Beyond the last layer's keys and values, nothing comes of the others. */
    const int fewer = n + 1 == m->config.layers && m->wanted < m->count;
    int count = m->count;
    multiply(m, thread, &layer->qkv, m->hidden, dim, layer->self_norm, NULL, count, m->qkv, qkv, 0, 0);
    attend(m, n, thread, 0);
    if (fewer && !m->text_count) count = keep_wanted(m, thread);
    if (!count) return;
    multiply(m, thread, &layer->self_out, m->attended, dim, NULL, NULL, count, m->hidden, dim, 1, 0);
    if (m->text_count) {
        multiply(m, thread, &layer->cross_q, m->hidden, dim, layer->cross_norm, NULL, count, m->qkv,
                 qkv, 0, 0);
        for (int c = thread; c < count; c += m->team.size)
            if (!m->columns[c].text) memset(m->attended + (size_t)c * dim, 0, dim * sizeof(float));
        attend(m, n, thread, 1);
        multiply(m, thread, &layer->cross_out, m->attended, dim, NULL, NULL, count, m->hidden, dim, 1,
                 0);
        if (fewer) count = keep_wanted(m, thread);
        if (!count) return;
    }
    multiply(m, thread, &layer->fc1, m->hidden, dim, layer->ffn_norm, NULL, count, m->ffn, ffn, 0, 1);
    multiply(m, thread, &layer->fc2, m->ffn, ffn, NULL, NULL, count, m->hidden, dim, 1, 0);
}

void run_columns(void *argument, int thread) {
    struct model *m = argument;
    if (m->single) {
        multiply(m, thread, m->single, m->single_x, (size_t)m->single->columns, NULL, NULL, m->count,
                 m->single_out, rounded((size_t)m->single->rows), 0, 0);
        return;
    }
    for (int n = 0; n < m->config.layers; n++) run_layer(m, n, thread);
    if (!m->wanted) return;
    multiply(m, thread, &m->heads, m->hidden, m->hidden_stride, m->last_norm, m->rows, m->wanted,
             m->logits, m->logits_stride, 0, 0);
}
