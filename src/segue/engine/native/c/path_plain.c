#include "segue_native.h"
#include "simd_plain.h"
#define PATH segue_plain
#define PATH_NAME "plain"
#include "path.h"
