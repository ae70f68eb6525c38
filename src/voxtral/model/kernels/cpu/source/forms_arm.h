/* The forms of 64-bit ARM processors: sums of four products (dotprod), and of two rows times two outputs (i8mm). */
#include <arm_neon.h>

#if defined(__clang__)
#define TARGET_DOTPROD "dotprod"
#define TARGET_I8MM "dotprod,i8mm"
#else
#define TARGET_DOTPROD "arch=armv8.2-a+dotprod"
#define TARGET_I8MM "arch=armv8.2-a+dotprod+i8mm"
#endif

#if defined(__APPLE__)
#include <sys/sysctl.h>
static int asks_system(const char *name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, 0, 0) == 0 && value;
}
static int has_dotprod(void) { return asks_system("hw.optional.arm.FEAT_DotProd"); }
static int has_i8mm(void) { return has_dotprod() && asks_system("hw.optional.arm.FEAT_I8MM"); }
#elif defined(__linux__)
#include <sys/auxv.h>
static int has_dotprod(void) { return getauxval(AT_HWCAP) >> 20 & 1; }
static int has_i8mm(void) { return has_dotprod() && getauxval(AT_HWCAP2) >> 13 & 1; }
#else
static int has_dotprod(void) { return 0; }
static int has_i8mm(void) { return 0; }
#endif

/* Four lanes. */
#define VI int32x4_t
#define VF float32x4_t
#define LANES 4
#define HAS_PLANES 1
#define ADDS_128 0
#define CODE int8_t
#define ZERO_I vdupq_n_s32(0)
#define SET_I vdupq_n_s32
#define ADD_I vaddq_s32
#define SHIFT8_I(x) vshlq_n_s32(x, 8)
#define TO_FLOAT vcvtq_f32_s32
#define ZERO_F vdupq_n_f32(0)
#define SET_F vdupq_n_f32
#define LOAD_F vld1q_f32
#define STORE_F vst1q_f32
#define MUL vmulq_f32
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define FNMA(a, b, c) vfmsq_f32(c, a, b)
#define LOAD_BF16(p) vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16))
#define LOAD_HALF(p) vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))

/* 16 bytes of numbers of 4 bits: those in the low halves, and those in the high ones. */
#define LOAD4(p, first, second)                                          \
    do {                                                                 \
        const uint8x16_t both = vld1q_u8(p);                             \
        first = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));     \
        second = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));               \
    } while (0)
#define LOAD8(p) vld1q_s8((const int8_t *)(p))

BEGIN_TARGET(TARGET_DOTPROD)
#define NAME(x) dotprod_##x
#define W int8x16_t
#define A int8x16_t
#define VECTORS 4
#define UNIT 4
#define TILE_OF_ONE 4
#define TILE_OF_TWO 2
#define EACH_TILE(X) X(4) X(3) X(2) X(1)
#define SPREAD(p) vreinterpretq_s8_s32(vdupq_n_s32(load_int32(p)))
#define DOT(sum, w, a) vdotq_s32(sum, w, a)
#include "rows.h"
#include "attend.h"
#include "tile.h"
#undef NAME
#undef UNIT
#undef PASSES
#undef AHEAD
#undef LANES_OF_SUM
#undef ROUNDING
#undef PLACE
END_TARGET

BEGIN_TARGET(TARGET_I8MM)
#define NAME(x) i8mm_##x
#include "rows.h"
#include "attend.h"
#include "tile_i8mm.h"
END_TARGET

/* The best last. */
static const form FORMS[] = {
    {"dotprod", 4, 1, 0, has_dotprod, dotprod_tile, dotprod_quantize, dotprod_inverse_rms, dotprod_attend_pages, dotprod_attend_tokens,
     dotprod_table_product},
    {"i8mm", 8, 1, 0, has_i8mm, i8mm_tile, i8mm_quantize, i8mm_inverse_rms, i8mm_attend_pages, i8mm_attend_tokens,
     i8mm_table_product},
};
