#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "segue_native.h"
/* Here and not on a command line, where not every compiler takes the same words. */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#include "simd_neon.h"
#define PATH segue_neon
#define PATH_NAME "neon"
#include "path.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
