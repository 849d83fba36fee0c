/* Activations as products take them: integers with a scale for each group; included by product.h.
 *
 * int16 is multiplied as such, two columns in a lane, or, where there is an instruction for unsigned
 * by signed bytes, as two planes of bytes, four columns in a lane: as many products, but weights of 4
 * and 8 bits take half as many instructions to unpack, or none.  Of int8 (`narrow`) there is one plane.
 * AVX2's instruction saturates with weights of 8 bits, so those are multiplied as int16 there. */
#if defined(PACKED_PRODUCT) || defined(vi_dot_bytes)
#define IN_BYTES(bits, narrow) 1
#elif defined(FEW_BITS)
#define IN_BYTES(bits, narrow) ((narrow) && (bits) <= 4)
#else
#define IN_BYTES(bits, narrow) 0
#endif
#define PLANES(bits, narrow) (IN_BYTES(bits, narrow) && !(narrow) ? 2 : 1)

/* The largest integers, on every path, so that all multiply the same ones. */
#define MOST 32639.0f /* 127 * 256 + 127 */
#define MOST_NARROW 127.0f

/* Lanes that some columns take. */
INLINE size_t lanes_for(size_t columns, int bits, int narrow) {
    (void)bits, (void)narrow; /* of no matter on some paths */
    return columns / (IN_BYTES(bits, narrow) ? 4 : 2) * (size_t)PLANES(bits, narrow);
}

#ifdef SHUFFLES
/* Where the bytes of columns go, by their bits, 4 or 8.  Of int16, low bytes of 8 columns are even, high
 * ones odd; of int8 there are 16 columns. */
#ifdef vi_dot_bytes
static const uint8_t ORDER[2][16] = {{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15},
                                     {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15}};
#else
static const uint8_t ORDER[2][16] = {{0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15},
                                     {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15}};
#endif
static const uint8_t NARROW_ORDER[2][16] = {{0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15},
                                            {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
#endif

/* What is multiplied with the columns of one lane, which lie `apart`. */
INLINE int32_t lane_of(const int16_t *x, int apart, int bytes, int planes, int plane) {
    uint32_t lane = 0;
    if (!bytes) return (int32_t)((uint16_t)x[0] | (uint32_t)(uint16_t)x[apart] << 16);
    for (int j = 0; j < 4; j++) {
        const int value = x[j * apart], low = planes == 1 ? value : (int8_t)value;
        lane |= (uint32_t)(uint8_t)(plane ? (value - low) >> 8 : low) << 8 * j;
    }
    return (int32_t)lane;
}

/* Quantize the columns of a group into lanes; return their sum. */
INLINE int32_t lanes_of(const float *x, int group, int bits, int narrow, float inverse, int32_t *lanes) {
    const int bytes = IN_BYTES(bits, narrow), planes = PLANES(bits, narrow);
    const int take = (bytes ? 8 : 16) / bits;
    const vf factor = vf_set(inverse);
#ifdef SHUFFLES
    if (bits > 2) {
        vi sum = vi_set(0);
        for (int j = 0; j < group; j += LANES) {
            const vf value = vf_mul(vf_load(x + j), factor);
            sum = vi_add(sum, bytes && planes == 1
                                  ? vf_store_bytes(lanes + j / 4, value, NARROW_ORDER[bits / 8])
                                  : vf_store_lanes(lanes + j / 2, value, ORDER[bits / 8]));
        }
        return vi_sum(sum);
    }
#endif
    int16_t whole[128];
    int32_t sum = 0;
    for (int j = 0; j < group; j += LANES) vf_store_int16(whole + j, vf_mul(vf_load(x + j), factor));
    for (int j = 0; j < group; j++) sum += whole[j];
    for (int w = 0; w < group; w += 32 / bits)
        for (int k = 0; k < take; k++)
            for (int plane = 0; plane < planes; plane++)
                *lanes++ = lane_of(whole + w + k, take, bytes, planes, plane);
    return sum;
}

/* The groups from..end-1 of column r, of a tile of R that begins with `first`. */
INLINE void prepare_as(const struct matrix *m, const float *x, int bits, int narrow, int r, int first,
                       int R, int from, int end, struct input *to) {
    const int groups = m->columns / m->group;
    const size_t each = lanes_for((size_t)m->group, bits, narrow);
    int32_t *into = to->lanes + (size_t)first * lanes_for((size_t)m->columns, bits, narrow) +
                    (size_t)from * each * (size_t)R + (r - first);
    x += (size_t)from * m->group;
    for (int g = from; g < end; g++, x += m->group, into += each * (size_t)R) {
        vf most = vf_set(0), finite = vf_set(0);
        for (int j = 0; j < m->group; j += LANES) {
            const vf value = vf_load(x + j);
            most = vf_max(vf_abs(value), most);
            finite = vf_fma(value, vf_set(0), finite); /* NaN of NaN and of infinity */
        }
        const float top = vf_top(most), wrong = vf_sum(finite);
        /* Below, its inverse would be infinite. */
        const float step = wrong != wrong ? wrong : top < 1e-30f ? 0 : top / (narrow ? MOST_NARROW : MOST);
        const float inverse = step > 0 ? 1.0f / step : 0;
        int32_t lanes[64];
        const int32_t sum = lanes_of(x, m->group, bits, narrow, inverse, R == 1 ? into : lanes);
        for (size_t n = 0; R > 1 && n < each; n++) into[n * (size_t)R] = lanes[n];
        to->scale[(size_t)first * groups + (size_t)g * R + (r - first)] = step;
        to->sum[(size_t)first * groups + (size_t)g * R + (r - first)] = sum;
    }
}

static void prepare(const struct matrix *m, const float *x, int r, int n, int from, int end,
                    struct input *to) {
    const int first = r / TILE * TILE, R = n - first < TILE ? n - first : TILE;
    if (m->kind != PACKED) {
        float *floats = to->floats + (size_t)first * m->columns + (r - first);
        for (int j = from; j < end; j++) floats[(size_t)j * R] = x[j];
        return;
    }
    from /= m->group, end /= m->group;
    if (m->bits == 4 && to->narrow)
        prepare_as(m, x, 4, 1, r, first, R, from, end, to);
    else if (m->bits == 4)
        prepare_as(m, x, 4, 0, r, first, R, from, end, to);
    else
        prepare_as(m, x, m->bits, to->narrow, r, first, R, from, end, to);
}
