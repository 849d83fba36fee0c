/* The structures that Python fills (structures.py mirrors them) and the functions that it calls. */
#ifndef SEGUE_NATIVE_H
#define SEGUE_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#define SEGUE_VERSION 3 /* of these structures; Python refuses a library of another one */
#define BLOCK 16        /* output rows that lie interleaved in a matrix, positions in a block of keys */
#define MAX_COLUMNS 256 /* columns of one call */
#define MAX_THREADS 1024
#define MAX_HEAD_DIM 512
/* Far beyond any model, and small enough for sizes to be computed in int. */
#define MAX_WIDTH (1 << 17)
#define MAX_LAYERS (1 << 12)
#define MAX_POSITIONS (1 << 20)

#if defined(_WIN32)
#define SEGUE_API __declspec(dllexport)
#else
#define SEGUE_API __attribute__((visibility("default")))
#endif

/* How the numbers of a matrix are stored. */
enum kind { FLOAT32, FLOAT16, BFLOAT16, PACKED };

/* How a group of a row is scaled. */
enum head {
    HALF_BIAS,  /* float16 scale, float16 bias: w = scale * q + bias */
    FLOAT_BIAS, /* float32 scale, float32 bias */
    ZERO_POINT  /* float32 scale, uint8 zero point: w = scale * (q - zero) */
};

/* A matrix in blocks of BLOCK rows, the last one filled up with zeros.
 *
 * Floats: [block][column][BLOCK].  Packed: [block] of `record` bytes: scales [group][BLOCK], biases or
 * zero points likewise, and from the next multiple of 64 bytes on 32-bit words [word][BLOCK], each with
 * 32 / bits columns of one row, lowest bits first. */
struct matrix {
    const uint8_t *data;
    int32_t rows, columns;
    int32_t kind, bits, group, head, record;
    int32_t unused;
};

struct layer {
    const float *self_norm, *cross_norm, *ffn_norm; /* weights [dim], then biases [dim] */
    struct matrix qkv, self_out, cross_q, cross_out, fc1, fc2;
};

struct config {
    int32_t dim, heads, ffn, layers, logits; /* logits: of all codebooks */
    int32_t threads, cache_size, text; /* bytes of a key or value; whether layers attend to a text */
    int32_t activations; /* bits of what packed weights are multiplied with: 8 or 16 */
};

/* Keys and values of consecutive positions, of all layers.
 *
 * Per layer, [head][position / BLOCK][head_dim][BLOCK] keys, then [head][position][padded head_dim]
 * values; `capacity` is a multiple of BLOCK.  In 8 bits, every BLOCK positions of a head's keys, and of
 * its values, begin with a float32 scale for each.  Positions before `base_length` lie in `base`. */
struct cache {
    void *data;
    const struct cache *base;
    int32_t capacity, base_length;
    int32_t length; /* of a text: how many of its positions there are */
    int32_t unused;
};

/* One column to run: it is written at `position` of `cache`, and attends to all up to there. */
struct column {
    struct cache *cache;
    const struct cache *text; /* NULL attends to nothing, which adds nothing */
    int32_t position;
    int32_t wanted; /* whether its logits are returned */
};

struct model;

SEGUE_API int32_t segue_version(void);
SEGUE_API const char *segue_sources(void); /* a hash of them */
SEGUE_API const char *segue_paths(void);   /* those that run here, best first, by spaces */
SEGUE_API struct model *segue_new(const struct config *, const struct layer *,
                                  const float *last_norm, const struct matrix *heads,
                                  const char *path);
SEGUE_API void segue_free(struct model *);
SEGUE_API const char *segue_path(const struct model *);
SEGUE_API size_t segue_cache_bytes(const struct config *, int32_t capacity);
SEGUE_API int32_t segue_reserve(struct model *, int32_t positions);
SEGUE_API int32_t segue_forward(struct model *, const struct column *, int32_t columns,
                                const float *hidden, float *logits);
SEGUE_API int32_t segue_store_text(struct model *, struct cache *, int32_t layer, const float *keys,
                                   const float *values);
SEGUE_API int32_t segue_product(struct model *, const struct matrix *, const float *x,
                                int32_t columns, float *out);

#endif
