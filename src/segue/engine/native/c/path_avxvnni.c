#include "segue_native.h"
#include "simd_avx2.h"
#define PATH segue_avxvnni
#define PATH_NAME "avxvnni"
#include "path.h"
