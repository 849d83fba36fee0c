/* What a path computes; each path_*.c makes one table of them. */
#ifndef SEGUE_KERNELS_H
#define SEGUE_KERNELS_H

#include "segue_native.h"

/* The columns that a matrix is multiplied with, as its kind wants them.
 *
 * Columns lie in tiles of `kernels.tile`, the last one narrower; in a tile of R columns from c on,
 * entry i of column r is at c * entries + i * R + (r - c).
 *
 * floats: of matrices that are not packed.  lanes: two int16 or four bytes each, in the order in which
 * the packed words yield columns (quantize.h); scale and sum: of each group, the value of 1 and the sum
 * of its integers.  narrow: these are int8. */
struct input {
    float *floats;
    int32_t *lanes;
    float *scale;
    int32_t *sum;
    int narrow;
};

struct kernels {
    const char *name;
    int tile;
    /* Make the entries from..end-1 of column r of n in `to` from x [columns of the matrix]; of packed
     * matrices, whole groups. */
    void (*prepare)(const struct matrix *, const float *x, int r, int n, int from, int end,
                    struct input *to);
    /* out [n][stride]: set, or add, the rows of the blocks from..to-1 of the product. */
    void (*product)(const struct matrix *, int from, int to, const struct input *, int n,
                    float *out, size_t stride, int add);
    void (*norm)(const float *x, const float *weight_and_bias, int dim, float *out);
    void (*gelu)(float *x, int count);
    /* Store keys and values of n columns, then attend with their queries: one head of one layer.
     * x [n][stride] holds queries, keys, values.  All have one cache, or caches on one base. */
    void (*attend)(const struct config *, int layer, int head, const struct column *, int n,
                   const float *x, size_t stride, float *scores, size_t room, float *out,
                   size_t out_stride);
    /* Likewise of queries alone, over the text that all n columns have. */
    void (*attend_text)(const struct config *, int layer, int head, const struct column *, int n,
                        const float *x, size_t stride, float *scores, size_t room, float *out,
                        size_t out_stride);
    /* Store keys and values of a text of one head at one position; both [head_dim]. */
    void (*store_text)(const struct config *, struct cache *, int layer, int head, int position,
                       const float *key, const float *value);
};

extern const struct kernels segue_plain, segue_avx2, segue_avxvnni, segue_avx512, segue_neon;
/* Whether the processor has, and the system saves, what a path other than segue_plain takes. */
int processor_runs(const struct kernels *path);

static inline size_t rounded(size_t n) { return (n + BLOCK - 1) / BLOCK * BLOCK; }
static inline size_t at_least(size_t n, size_t m) { return n < m ? n : m; }

#endif
