/* What passes between Python and this library, and between its parts. Plain data: whoever calls owns all memory.
 *
 * A matrix [n, k] lies in blocks of BLOCK outputs, padded with zeros. Its inputs lie in groups, each padded to a
 * multiple of GROUP_STEP numbers; within a block come units of consecutive inputs, for each unit all outputs:
 *
 *     int8   [blocks][inputs / unit][BLOCK][unit], a byte each
 *     int4   [blocks][inputs / unit][BLOCK / 2][unit], outputs 0 .. 15 in the low nibbles, 16 .. 31 in the high ones
 *
 * The unit is what one instruction of a form adds up: 2, 4 or 8 inputs. Activations are whole numbers of one or two
 * bytes with a step for each row and group, so that all sums within a group are exact and their order is no matter. */
#ifndef VOXTRAL_SHAPES_H
#define VOXTRAL_SHAPES_H

#include <stdint.h>
#include <string.h>

#define BLOCK 32
#define GROUP_STEP 8

/* Largest whole number of an activation. Two bytes are split into 256 * high + low, where both fit a signed byte. */
#define ONE_BYTE_MAX 127
#define TWO_BYTES_MAX (127 * 256)

/* Beyond this many inputs to a group a sum of 4-bit numbers times two bytes might not fit 32 bits. */
#define MAX_GROUP 4096

#define INLINE static inline __attribute__((always_inline))

enum number_type { FLOAT32 = 0, BFLOAT16 = 1 };

typedef struct {
    int32_t bits;         /* 8 or 4 */
    int32_t group;        /* inputs to a group */
    int64_t num_outputs;  /* n */
    int64_t num_inputs;   /* k */
    const uint8_t *packed;
    const void *scales;   /* int8: float [n padded]; int4: uint16 [blocks][groups][2][BLOCK], bfloat16 scale, half zero */
} matrix;

typedef struct {
    const matrix *weights;
    const void *inputs;   /* [rows, k], or [rows, 2 k] where gated */
    const void *norm;     /* [k], weight of the norm of the inputs, or null */
    const void *bias;     /* [n] or null */
    const void *residual; /* [rows, n] or null; may be `outputs` */
    void *outputs;        /* [rows, n] */
    int64_t input_stride; /* numbers from a row to the next */
    int64_t residual_stride;
    int64_t output_stride;
    int32_t input_type;   /* of enum number_type; of inputs, and so on */
    int32_t norm_type;
    int32_t bias_type;
    int32_t residual_type;
    int32_t output_type;
    int32_t is_gated;     /* the first k inputs are gates of the other k: silu(gate) * up */
    int32_t num_bytes;    /* of an activation: 1 or 2 */
    float eps;            /* added to the mean square */
} product;

/* Tokens of the flow: state, time, hidden state. */
#define NUM_TOKENS 3

#define MAX_HEAD_DIM 256
#define MAX_HEADS_OF_GROUP 16

/* One new position of each row, its keys and values to be kept, and the pages that it sees. */
typedef struct {
    const float *projections; /* [rows, (heads + 2 kv heads) * head_dim]: queries, keys, values, not rotated */
    const float *cosines;     /* [rows, head_dim / 2] */
    const float *sines;
    const int64_t *slots;     /* [rows], where the new position goes */
    const int32_t *tables;    /* [rows, max_pages], pages in order */
    const int64_t *lengths;   /* [rows], positions that are seen, the new one included; 0 pads the pass */
    void *keys;               /* [pages, page_size, kv heads, head_dim], written to */
    void *values;
    float *outputs;           /* [rows, heads * head_dim] */
    float *rotated;           /* [rows, heads * head_dim], where the queries are wanted, or null */
    int64_t max_pages, page_size, num_heads, num_kv_heads;
    int32_t head_dim, page_type;
} paged;

/* What one head of a row sees of its keys or values: position s is in page table[s / page_size]. */
typedef struct {
    const void *numbers;
    const int32_t *table;
    int64_t seen;
    int64_t stride; /* numbers from a position to the next within a page */
    int64_t start;  /* number of the head within a position */
    int64_t page_size;
    int32_t type;
} page_view;

/* Vectors of the compiler's own, in which it needs no loop to recognise. */
#define ATTEND_LANES 16
typedef float float_lanes __attribute__((vector_size(4 * ATTEND_LANES)));
typedef float float_half_lanes __attribute__((vector_size(2 * ATTEND_LANES)));
typedef uint32_t bit_lanes __attribute__((vector_size(4 * ATTEND_LANES)));
typedef uint16_t short_lanes __attribute__((vector_size(2 * ATTEND_LANES)));

/* One layer of the backbone or of the flow. */
typedef struct {
    const matrix *wqkv, *wo, *w13, *w2;
    const void *attention_norm, *ffn_norm;
    const void *biases[4]; /* of the matrices in their order, or null */
    void *keys, *values;   /* pages of the layer, of a backbone */
} layer;

/* A decode step of the backbone: one new position of each row through all layers, `x` in place. */
typedef struct {
    const layer *layers;
    float *x;              /* [rows, dim] */
    paged positions;       /* without projections, pages and outputs */
    int64_t num_layers, num_rows, dim, hidden_dim;
    int32_t norm_type, bias_type, num_bytes;
    float eps;
} steps;

/* The folded flow (voxtral.model.folded) of some rows, `state` in place. */
typedef struct {
    const layer *layers;
    const float *state_table;    /* [dim + width, acoustic] */
    const float *biases;         /* [width], of the first layer's projections */
    const float *time_tokens;    /* [steps, dim] */
    const float *time_projected; /* [steps, width] */
    const float *llm_tokens;     /* [2 rows, dim], the conditional rows first */
    const float *llm_projected;  /* [2 rows, width] */
    const float *output;         /* [acoustic, dim] */
    const void *norm;            /* [dim], of the last norm */
    const float *step_sizes;     /* [steps] */
    const float *guidance;       /* [rows] */
    float *state;                /* [rows, acoustic] */
    int64_t num_layers, num_steps, num_rows, dim, hidden_dim, num_acoustic, num_heads, num_kv_heads;
    int32_t head_dim, norm_type, bias_type, num_bytes;
    float eps;
} flow;

/* Rows of activations as whole numbers. */
typedef struct {
    int8_t *codes;    /* [rows][planes][inputs padded]; in forms without planes int16_t [rows][inputs padded] */
    float *steps;     /* [rows][groups] */
    int32_t *sums;    /* [rows][planes][groups], of the codes */
    int64_t padded;   /* inputs padded */
    int64_t num_groups;
    int32_t group;    /* inputs to a group, padded */
    int32_t planes;   /* 1 or 2; 1 in forms without planes */
} quantized;

/* What computes in one kind of processor. */
typedef struct {
    const char *name;
    int32_t unit;
    int32_t has_planes;     /* two bytes are two rows of one byte */
    int32_t adds_128;       /* weights of 8 bits are stored without a sign, 128 more than they are */
    int (*is_supported)(void);
    /* Multiplies `count` <= MAX_TILE rows with a block: out[count][BLOCK], scales applied. */
    void (*tile)(const matrix *w, int64_t block, const quantized *a, int64_t row, int count, float *out);
    void (*quantize)(const product *p, const quantized *a, int64_t row, int64_t first, int64_t last, float scale);
    float (*inverse_rms)(const void *x, int type, int64_t count, float eps);
    void (*attend_pages)(const paged *p, int64_t row, int64_t head, float *scores);
    void (*attend_tokens)(const float *qkv, int heads, int kv_heads, int dim, int queries, int head, float *outputs);
    void (*table_product)(const float *table, int64_t first, int64_t last, int64_t inputs, const float *x, float *y);
} form;

#define MAX_TILE 12

INLINE int64_t pad(int64_t value, int64_t step) { return (value + step - 1) / step * step; }
INLINE int64_t groups_of(const matrix *w) { return (w->num_inputs + w->group - 1) / w->group; }

INLINE float as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE uint32_t as_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE int32_t load_int32(const void *p) {
    int32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

INLINE float load_number(const void *x, int type, int64_t index) {
    return type == FLOAT32 ? ((const float *)x)[index] : as_float((uint32_t)((const uint16_t *)x)[index] << 16);
}

/* To the nearest, ties to even; what is no number stays none. */
INLINE uint16_t to_bfloat16(float value) {
    uint32_t bits = as_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

INLINE void store_number(void *x, int type, int64_t index, float value) {
    if (type == FLOAT32)
        ((float *)x)[index] = value;
    else
        ((uint16_t *)x)[index] = to_bfloat16(value);
}

#endif
