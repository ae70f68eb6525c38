/* The forms of x86 processors: AVX2, AVX-VNNI and AVX-512 with VNNI. */
#include <cpuid.h>
#include <immintrin.h>

static uint64_t saved_by_system(void) {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

/* Registers of the instruction `cpuid`: [leaf 1 ecx, leaf 7 ebx, leaf 7 ecx, leaf 7.1 eax]. */
static void read_features(unsigned features[4]) {
    unsigned a, b, c, d;
    memset(features, 0, 4 * sizeof *features);
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    features[0] = c;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    features[1] = b;
    features[2] = c;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) features[3] = a;
}

static int has_avx2(void) {
    unsigned f[4];
    read_features(f);
    const unsigned wanted = 1u << 12 | 1u << 27 | 1u << 29; /* FMA, OSXSAVE, F16C */
    return (f[0] & wanted) == wanted && (saved_by_system() & 6) == 6 && (f[1] >> 5 & 1);
}

static int has_avxvnni(void) {
    unsigned f[4];
    read_features(f);
    return has_avx2() && (f[3] >> 4 & 1);
}

static int has_avx512vnni(void) {
    unsigned f[4];
    read_features(f);
    const unsigned wanted = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    return has_avx2() && (saved_by_system() & 0xe6) == 0xe6 && (f[1] & wanted) == wanted && (f[2] >> 11 & 1);
}

BEGIN_TARGET("avx2,fma,f16c")
INLINE __m256i pairs_256(__m256i sum, __m256i w, __m256i a) {
    __m256i products;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(w), "x"(a));
    return sum;
}
#define NAME(x) avx2_##x
#define VI __m256i
#define VF __m256
#define W __m256i
#define A __m256i
#define LANES 8
#define VECTORS 2
#define UNIT 2
#define CODE int16_t
#define HAS_PLANES 0
#define ADDS_128 0
#define TILE_OF_ONE 4
#define TILE_OF_TWO 4
#define EACH_TILE(X) X(4) X(3) X(2) X(1)
/* Products of 16 bits: without VNNI two bytes cost what one does, and nothing saturates. */
#define LOAD8(p) _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p)))
#define LOAD4(p, first, second)                                                            \
    do {                                                                                   \
        const __m128i both = _mm_loadu_si128((const __m128i *)(p)), low = _mm_set1_epi8(15); \
        first = _mm256_cvtepu8_epi16(_mm_and_si128(both, low));                            \
        second = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(both, 4), low));        \
    } while (0)
#define SPREAD(p) _mm256_set1_epi32(load_int32(p))
#define DOT(sum, w, a) pairs_256(sum, w, a)
#include "vectors_256.h"
#include "rows.h"
#include "attend.h"
#include "tile.h"
#include "undefine.h"
END_TARGET

BEGIN_TARGET("avx2,fma,f16c,avxvnni")
INLINE __m256i dot_256(__m256i sum, __m256i w, __m256i a) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(w), "x"(a));
    return sum;
}
#define NAME(x) avxvnni_##x
#define VI __m256i
#define VF __m256
#define W __m256i
#define A __m256i
#define LANES 8
#define VECTORS 2
#define UNIT 4
#define CODE int8_t
#define HAS_PLANES 1
#define ADDS_128 1
#define TILE_OF_ONE 6
#define TILE_OF_TWO 3
#define EACH_TILE(X) X(6) X(4) X(3) X(2) X(1)
#define LOAD8(p) _mm256_loadu_si256((const __m256i *)(p))
#define LOAD4(p, first, second)                                                                 \
    do {                                                                                        \
        const __m256i both = _mm256_loadu_si256((const __m256i *)(p)), low = _mm256_set1_epi8(15); \
        first = _mm256_and_si256(both, low);                                                    \
        second = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);                             \
    } while (0)
#define SPREAD(p) _mm256_set1_epi32(load_int32(p))
#define DOT(sum, w, a) dot_256(sum, w, a)
#include "vectors_256.h"
#include "rows.h"
#include "attend.h"
#include "tile.h"
#include "undefine.h"
END_TARGET

BEGIN_TARGET("avx2,fma,f16c,avx512f,avx512dq,avx512bw,avx512vl,avx512vnni")
INLINE __m512i dot_512(__m512i sum, __m512i w, __m512i a) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(a));
    return sum;
}
#define NAME(x) avx512vnni_##x
#define VI __m512i
#define VF __m512
#define W __m512i
#define A __m512i
#define LANES 16
#define VECTORS 2
#define UNIT 4
#define CODE int8_t
#define HAS_PLANES 1
#define ADDS_128 1
#define TILE_OF_ONE 12
#define TILE_OF_TWO 6
#define EACH_TILE(X) X(12) X(6) X(4) X(3) X(2) X(1)
#define LOAD8(p) _mm512_loadu_si512(p)
#define LOAD4(p, first, second)                                             \
    do {                                                                    \
        const __m512i both = _mm512_loadu_si512(p), low = _mm512_set1_epi8(15); \
        first = _mm512_and_si512(both, low);                                \
        second = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);         \
    } while (0)
#define SPREAD(p) _mm512_set1_epi32(load_int32(p))
#define DOT(sum, w, a) dot_512(sum, w, a)
#define ZERO_I _mm512_setzero_si512()
#define SET_I _mm512_set1_epi32
#define ADD_I _mm512_add_epi32
#define SHIFT8_I(x) _mm512_slli_epi32(x, 8)
#define TO_FLOAT _mm512_cvtepi32_ps
#define ZERO_F _mm512_setzero_ps()
#define SET_F _mm512_set1_ps
#define LOAD_F _mm512_loadu_ps
#define STORE_F _mm512_storeu_ps
#define MUL _mm512_mul_ps
#define FMA _mm512_fmadd_ps
#define FNMA _mm512_fnmadd_ps
#define LOAD_BF16(p) \
    _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p))), 16))
#define LOAD_HALF(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#include "rows.h"
#include "attend.h"
#include "tile.h"
#include "undefine.h"
END_TARGET

/* The best last. */
static const form FORMS[] = {
    {"avx2", 2, 0, 0, has_avx2, avx2_tile, avx2_quantize, avx2_inverse_rms, avx2_attend_pages, avx2_attend_tokens,
     avx2_table_product},
    {"avxvnni", 4, 1, 1, has_avxvnni, avxvnni_tile, avxvnni_quantize, avxvnni_inverse_rms, avxvnni_attend_pages, avxvnni_attend_tokens,
     avxvnni_table_product},
    {"avx512vnni", 4, 1, 1, has_avx512vnni, avx512vnni_tile, avx512vnni_quantize, avx512vnni_inverse_rms, avx512vnni_attend_pages, avx512vnni_attend_tokens,
     avx512vnni_table_product},
};
