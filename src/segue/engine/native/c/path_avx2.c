#include "segue_native.h"
#include "simd_avx2.h"
#define PATH segue_avx2
#define PATH_NAME "avx2"
#include "path.h"
