#ifndef SEGUE_STEP_H
#define SEGUE_STEP_H

#include "kernels.h"
#include "threads.h"

/* Columns first..first+count-1 attend together: they have one cache, or caches on one base. */
struct unit {
    int first, count;
};

/* What a thread has begun of its share of a product; in a line of the cache of its own. */
struct share {
    atomic_int begun;
    char unused[60];
};

struct model {
    struct config config;
    struct layer *layers;
    const float *last_norm;
    struct matrix heads;
    const struct kernels *kernels;
    struct team team;
    /* Those of a phase, and those of the next, which are set to 0 meanwhile. */
    struct share shares[2][MAX_THREADS];
    /* What a call works on; the rows of all are `stride` floats long. */
    const struct column *columns;
    int count, wanted;
    const struct matrix *single; /* the product that is asked for alone, or NULL */
    const float *single_x;
    float *single_out;
    struct unit self_units[MAX_COLUMNS], text_units[MAX_COLUMNS];
    int self_count, text_count;
    int rows[MAX_COLUMNS]; /* columns whose logits are wanted */
    float *hidden, *normed, *qkv, *attended, *ffn, *logits;
    size_t hidden_stride, qkv_stride, ffn_stride, logits_stride;
    struct input input;
    float *scores; /* [threads][4][room] */
    size_t room;
};

void run_columns(void *model, int thread);

#endif
