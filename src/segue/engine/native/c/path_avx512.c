#include "segue_native.h"
#include "simd_avx512.h"
#define PATH segue_avx512
#define PATH_NAME "avx512"
#include "path.h"
