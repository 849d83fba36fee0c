/* A path whole: include its simd_*.h, define PATH and PATH_NAME, then include this. */
#include <math.h>
#include <string.h>

#include "kernels.h"

#include "product.h"

#include "elementwise.h"

#include "attention.h"

const struct kernels PATH = {PATH_NAME, TILE, prepare, product, norm, gelu, attend, attend_text, store_text};
