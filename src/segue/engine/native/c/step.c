/* A call: some columns through all layers.  Every thread runs `run_columns`; between two meetings
 * they share the work of one phase by claiming parts of it. */
#include "step.h"

#include <string.h>

/* Parts of a product, for each thread: few enough to stream memory, many enough to end together. */
#define PARTS_PER_THREAD 3

static int blocks_of(const struct matrix *m) { return (m->rows + BLOCK - 1) / BLOCK; }

/* Quantize n rows of x, each normed first where there is a norm. */
static void prepare(struct model *m, const struct matrix *by, const float *x, size_t stride,
                    const float *norm, const int *rows, int n) {
    for (int r; (r = team_claim(&m->team)) < n;) {
        const float *row = x + stride * (size_t)(rows ? rows[r] : r);
        float *normed = m->normed + (size_t)r * m->hidden_stride;
        if (norm) m->kernels->norm(row, norm, m->config.dim, normed);
        m->kernels->prepare(by, norm ? normed : row, r, n, &m->input);
    }
    team_meet(&m->team);
}

static void multiply(struct model *m, const struct matrix *by, int n, float *out, size_t stride,
                     int add, int gelu) {
    const int blocks = blocks_of(by), parts = m->team.size * PARTS_PER_THREAD;
    const int each = (blocks + parts - 1) / parts;
    for (int part; (part = team_claim(&m->team)) * each < blocks;) {
        const int from = part * each, to = from + each < blocks ? from + each : blocks;
        m->kernels->product(by, from, to, &m->input, n, out, stride, add);
        for (int c = 0; gelu && c < n; c++)
            m->kernels->gelu(out + (size_t)c * stride + (size_t)from * BLOCK, (to - from) * BLOCK);
    }
    team_meet(&m->team);
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
    team_meet(&m->team);
}

static void run_layer(struct model *m, int n, int thread) {
    const struct layer *layer = m->layers + n;
    const size_t hidden = m->hidden_stride;
    prepare(m, &layer->qkv, m->hidden, hidden, layer->self_norm, NULL, m->count);
    multiply(m, &layer->qkv, m->count, m->qkv, m->qkv_stride, 0, 0);
    attend(m, n, thread, 0);
    prepare(m, &layer->self_out, m->attended, hidden, NULL, NULL, m->count);
    multiply(m, &layer->self_out, m->count, m->hidden, hidden, 1, 0);
    if (m->text_count) {
        prepare(m, &layer->cross_q, m->hidden, hidden, layer->cross_norm, NULL, m->count);
        multiply(m, &layer->cross_q, m->count, m->qkv, m->qkv_stride, 0, 0);
        for (int c = thread; c < m->count; c += m->team.size)
            if (!m->columns[c].text)
                memset(m->attended + (size_t)c * hidden, 0, hidden * sizeof(float));
        attend(m, n, thread, 1);
        prepare(m, &layer->cross_out, m->attended, hidden, NULL, NULL, m->count);
        multiply(m, &layer->cross_out, m->count, m->hidden, hidden, 1, 0);
    }
    prepare(m, &layer->fc1, m->hidden, hidden, layer->ffn_norm, NULL, m->count);
    multiply(m, &layer->fc1, m->count, m->ffn, m->ffn_stride, 0, 1);
    prepare(m, &layer->fc2, m->ffn, m->ffn_stride, NULL, NULL, m->count);
    multiply(m, &layer->fc2, m->count, m->hidden, hidden, 1, 0);
}

void run_columns(void *argument, int thread) {
    struct model *m = argument;
    if (m->single) {
        prepare(m, m->single, m->single_x, (size_t)m->single->columns, NULL, NULL, m->count);
        multiply(m, m->single, m->count, m->single_out, rounded((size_t)m->single->rows), 0, 0);
        return;
    }
    for (int n = 0; n < m->config.layers; n++) run_layer(m, n, thread);
    if (!m->wanted) return;
    prepare(m, &m->heads, m->hidden, m->hidden_stride, m->last_norm, m->rows, m->wanted);
    multiply(m, &m->heads, m->wanted, m->logits, m->logits_stride, 0, 0);
}
