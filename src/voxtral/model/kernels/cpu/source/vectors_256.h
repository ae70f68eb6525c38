/* Operations on eight lanes of AVX2. */
#define ZERO_I _mm256_setzero_si256()
#define SET_I _mm256_set1_epi32
#define ADD_I _mm256_add_epi32
#define SHIFT8_I(x) _mm256_slli_epi32(x, 8)
#define TO_FLOAT _mm256_cvtepi32_ps
#define ZERO_F _mm256_setzero_ps()
#define SET_F _mm256_set1_ps
#define LOAD_F _mm256_loadu_ps
#define STORE_F _mm256_storeu_ps
#define MUL _mm256_mul_ps
#define FMA _mm256_fmadd_ps
#define FNMA _mm256_fnmadd_ps
#define LOAD_BF16(p) \
    _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p))), 16))
#define LOAD_HALF(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
