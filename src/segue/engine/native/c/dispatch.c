/* Choose a path, make a model, check what a call asks for. */
#include <stdlib.h>
#include <string.h>

#include "step.h"

static const struct kernels *const PATHS[] = {
#if defined(__x86_64__)
    &segue_avx512, &segue_avxvnni, &segue_avx2,
#elif defined(__aarch64__)
    &segue_neon,
#endif
    &segue_plain};
#define PATH_COUNT (int)(sizeof PATHS / sizeof *PATHS)

/* What the sources were when this was compiled; Python tells by it whether they still are. */
#ifndef SEGUE_SOURCES
#define SEGUE_SOURCES unknown
#endif
#define QUOTED(name) #name
#define QUOTED_VALUE(name) QUOTED(name)

static int runs_here(const struct kernels *path) {
    return path == &segue_plain || processor_runs(path);
}

int32_t segue_version(void) { return SEGUE_VERSION; }

const char *segue_sources(void) { return QUOTED_VALUE(SEGUE_SOURCES); }

const char *segue_paths(void) {
    static char names[64];
    char found[64] = "";
    for (int n = 0; n < PATH_COUNT; n++)
        if (runs_here(PATHS[n])) {
            if (*found) strcat(found, " ");
            strcat(found, PATHS[n]->name);
        }
    memcpy(names, found, sizeof names);
    return names;
}

static const struct kernels *path_named(const char *name) {
    for (int n = 0; n < PATH_COUNT; n++)
        if (runs_here(PATHS[n]) && (!*name || !strcmp(name, PATHS[n]->name))) return PATHS[n];
    return NULL;
}

size_t segue_cache_bytes(const struct config *config, int32_t capacity) {
    if (config->heads < 1 || config->dim < 1 || config->layers < 0 || capacity < 0) return 0;
    const size_t dim = (size_t)(config->dim / config->heads);
    const size_t scales = config->cache_size == 1 ? 2 * sizeof(float) : 0;
    return (size_t)config->layers * (size_t)config->heads * rounded((size_t)capacity) *
           ((dim + rounded(dim)) * (size_t)config->cache_size + scales);
}

static int sound(const struct matrix *m, int rows, int columns) {
    if (!m->data || m->rows != rows || m->columns != columns) return 0;
    if (rows < 1 || rows > MAX_WIDTH || columns < 1 || columns > MAX_WIDTH) return 0;
    if (m->kind == FLOAT32 || m->kind == FLOAT16 || m->kind == BFLOAT16) return 1;
    if (m->kind != PACKED || (m->bits != 2 && m->bits != 4 && m->bits != 8)) return 0;
    if (m->group != 32 && m->group != 64 && m->group != 128) return 0;
    const int head = m->head == HALF_BIAS    ? 4
                     : m->head == FLOAT_BIAS ? 8
                     : m->head == ZERO_POINT ? 5
                                             : 0;
    if (!head || columns % m->group) return 0;
    const int64_t heads = ((int64_t)columns / m->group * BLOCK * head + 63) / 64 * 64;
    return m->record % 64 == 0 && m->record >= heads + (int64_t)columns * BLOCK * m->bits / 8;
}

static int all_sound(const struct config *c, const struct layer *layers,
                     const struct matrix *heads) {
    if (c->dim < 1 || c->heads < 1 || c->ffn < 1 || c->layers < 0 || c->logits < 1) return 0;
    if (c->dim > MAX_WIDTH / 3 || c->ffn > MAX_WIDTH || c->layers > MAX_LAYERS) return 0;
    if (c->dim % c->heads || c->dim / c->heads > MAX_HEAD_DIM) return 0;
    if (c->threads < 1 || c->threads > MAX_THREADS) return 0;
    if (c->cache_size != 1 && c->cache_size != 2 && c->cache_size != 4) return 0;
    if (c->activations != 8 && c->activations != 16) return 0;
    for (int n = 0; n < c->layers; n++) {
        const struct layer *layer = layers + n;
        if (!layer->self_norm || !layer->ffn_norm || !sound(&layer->qkv, 3 * c->dim, c->dim) ||
            !sound(&layer->self_out, c->dim, c->dim) || !sound(&layer->fc1, c->ffn, c->dim) ||
            !sound(&layer->fc2, c->dim, c->ffn))
            return 0;
        if (c->text && (!layer->cross_norm || !sound(&layer->cross_q, c->dim, c->dim) ||
                        !sound(&layer->cross_out, c->dim, c->dim)))
            return 0;
    }
    return sound(heads, c->logits, c->dim);
}

static void *room_for(size_t count, size_t size) { return aligned_zeros(count * size); }

static void let_go(struct model *m) {
    void *all[] = {m->hidden,       m->normed,      m->qkv,         m->attended,
                   m->ffn,          m->logits,      m->scores,      m->input.floats,
                   m->input.lanes,  m->input.scale, m->input.sum};
    for (size_t n = 0; n < sizeof all / sizeof *all; n++) aligned_free(all[n]);
    free(m->layers);
    free(m);
}

struct model *segue_new(const struct config *config, const struct layer *layers,
                        const float *last_norm, const struct matrix *heads, const char *path) {
    const struct kernels *kernels = path_named(path);
    if (!kernels || !last_norm || !all_sound(config, layers, heads)) return NULL;
    struct model *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->config = *config, m->last_norm = last_norm, m->heads = *heads, m->kernels = kernels;
    const size_t widest = (size_t)(config->dim > config->ffn ? config->dim : config->ffn);
    m->hidden_stride = rounded((size_t)config->dim);
    m->qkv_stride = rounded((size_t)config->dim * 3);
    m->ffn_stride = rounded((size_t)config->ffn);
    m->logits_stride = rounded((size_t)config->logits);
    m->layers = calloc((size_t)config->layers + 1, sizeof *layers);
    m->hidden = room_for(MAX_COLUMNS * m->hidden_stride, 4);
    m->normed = room_for((size_t)config->threads * m->hidden_stride, 4);
    m->attended = room_for(MAX_COLUMNS * m->hidden_stride, 4);
    m->qkv = room_for(MAX_COLUMNS * m->qkv_stride, 4);
    m->ffn = room_for(MAX_COLUMNS * m->ffn_stride, 4);
    m->input.floats = room_for(MAX_COLUMNS * widest, 4);
    m->input.lanes = room_for(MAX_COLUMNS * (widest / 2 + 1), 4);
    m->input.scale = room_for(MAX_COLUMNS * (widest / 32 + 1), 4);
    m->input.narrow = config->activations == 8;
    m->input.sum = room_for(MAX_COLUMNS * (widest / 32 + 1), 4);
    if (!m->layers || !m->hidden || !m->normed || !m->attended || !m->qkv || !m->ffn ||
        !m->input.floats || !m->input.lanes || !m->input.scale || !m->input.sum) {
        let_go(m);
        return NULL;
    }
    memcpy(m->layers, layers, (size_t)config->layers * sizeof *layers);
    if (segue_reserve(m, BLOCK) || team_start(&m->team, config->threads, run_columns, m)) {
        let_go(m);
        return NULL;
    }
    return m;
}

void segue_free(struct model *m) {
    if (!m) return;
    team_stop(&m->team);
    m->logits = NULL; /* the caller's */
    let_go(m);
}

const char *segue_path(const struct model *m) { return m->kernels->name; }

int32_t segue_reserve(struct model *m, int32_t positions) {
    if (positions < 0 || positions > MAX_POSITIONS) return -1;
    /* A base and what follows it are both filled up to a block. */
    const size_t room = rounded((size_t)positions) + 2 * BLOCK;
    if (room <= m->room) return 0;
    float *scores = room_for((size_t)m->config.threads * 4 * room, 4);
    if (!scores) return -1;
    aligned_free(m->scores);
    m->scores = scores, m->room = room;
    return 0;
}

/* Whether a column can be run; the cases that would write or read where nothing is. */
static int can_run(const struct model *m, const struct column *c) {
    const struct cache *cache = c->cache;
    if (!cache || !cache->data || cache->base_length < 0 || c->position < cache->base_length)
        return 0;
    if (cache->capacity % BLOCK || c->position - cache->base_length >= cache->capacity) return 0;
    if ((size_t)c->position + 1 + 2 * BLOCK > m->room) return 0;
    if (!cache->base != !cache->base_length) return 0;
    if (cache->base && (!cache->base->data || cache->base->base || cache->base->capacity % BLOCK ||
                        cache->base_length > cache->base->capacity))
        return 0;
    if (!c->text) return 1;
    return m->config.text && c->text->data && c->text->length > 0 &&
           c->text->capacity % BLOCK == 0 && c->text->length <= c->text->capacity &&
           (size_t)c->text->length + 2 * BLOCK <= m->room;
}

/* Columns of one cache lie beside each other, at positions that follow each other. */
static int make_units(struct model *m, const struct column *columns, int count) {
    m->self_count = m->text_count = 0;
    for (int n = 0; n < count; n++) {
        const struct column *c = columns + n, *before = n ? c - 1 : NULL;
        const int goes_on = before && before->cache == c->cache;
        if (goes_on && c->position != before->position + 1) return -1;
        for (int k = 0; !goes_on && k < n; k++)
            if (columns[k].cache == c->cache) return -1;
        struct unit *unit = m->self_units + m->self_count - 1;
        const int starts_a_cache = before && unit->first == n - 1;
        const int others = before && columns[unit->first].cache != before->cache;
        const int joins =
            before && (goes_on ? !others
                               : (starts_a_cache || others) && c->cache->base &&
                                     c->cache->base == before->cache->base &&
                                     c->cache->base_length == before->cache->base_length);
        if (joins)
            unit->count++;
        else
            m->self_units[m->self_count++] = (struct unit){n, 1};
        if (!c->text) continue;
        if (before && before->text == c->text)
            m->text_units[m->text_count - 1].count++;
        else
            m->text_units[m->text_count++] = (struct unit){n, 1};
    }
    return 0;
}

int32_t segue_forward(struct model *m, const struct column *columns, int32_t count,
                      const float *hidden, float *logits) {
    if (count < 1 || count > MAX_COLUMNS) return -1;
    for (int n = 0; n < count; n++)
        if (!can_run(m, columns + n)) return -1;
    if (make_units(m, columns, count)) return -1;
    m->wanted = 0;
    for (int n = 0; n < count; n++) {
        memcpy(m->hidden + (size_t)n * m->hidden_stride, hidden + (size_t)n * m->config.dim,
               (size_t)m->config.dim * 4);
        if (columns[n].wanted) m->rows[m->wanted++] = n;
    }
    if (m->wanted && !logits) return -1;
    m->columns = columns, m->count = count, m->logits = logits, m->single = NULL;
    team_run(&m->team);
    return 0;
}

int32_t segue_store_text(struct model *m, struct cache *text, int32_t layer, const float *keys,
                         const float *values) {
    const int dim = m->config.dim / m->config.heads;
    if (!text->data || layer < 0 || layer >= m->config.layers || text->capacity % BLOCK ||
        text->length < 1 || text->length > text->capacity)
        return -1;
    for (int head = 0; head < m->config.heads; head++)
        for (int n = 0; n < text->length; n++, keys += dim, values += dim)
            m->kernels->store_text(&m->config, text, layer, head, n, keys, values);
    return 0;
}

int32_t segue_product(struct model *m, const struct matrix *by, const float *x, int32_t count,
                      float *out) {
    const int widest = m->config.dim > m->config.ffn ? m->config.dim : m->config.ffn;
    if (count < 1 || count > MAX_COLUMNS || by->columns > widest) return -1;
    if (!sound(by, by->rows, by->columns)) return -1;
    m->single = by, m->single_x = x, m->single_out = out, m->count = count;
    team_run(&m->team);
    m->single = NULL;
    return 0;
}
