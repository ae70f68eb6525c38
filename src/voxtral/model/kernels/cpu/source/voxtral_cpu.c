/* Products of matrices of few bits with a few rows of activations, on the instructions that a processor has.
 *
 * Nothing is kept between calls and nothing is allocated: any number of threads may call at once. Compiled as one file,
 * by any C compiler that knows GNU attributes: cc -O3 -shared -fPIC, see ../building.py. */
#include "shapes.h"
#include "team.h"

#if defined(__clang__)
#define PRAGMA(text) _Pragma(#text)
#define UNROLL _Pragma("unroll")
#define BEGIN_TARGET(features) PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define END_TARGET _Pragma("clang attribute pop")
#else
#define PRAGMA(text) _Pragma(#text)
#define UNROLL _Pragma("GCC unroll 16")
#define BEGIN_TARGET(features) _Pragma("GCC push_options") PRAGMA(GCC target(features))
#define END_TARGET _Pragma("GCC pop_options")
#endif

#if defined(_WIN32)
#define PUBLIC __declspec(dllexport)
#else
#define PUBLIC __attribute__((visibility("default")))
#endif

#if defined(__x86_64__)
#include "forms_x86.h"
#elif defined(__aarch64__)
#include "forms_arm.h"
#else
#error "there is no form for this processor"
#endif

#define NUM_FORMS ((int)(sizeof FORMS / sizeof *FORMS))

/* Raised when a structure or a meaning changes: the caller refuses another. */
PUBLIC int voxtral_version(void) { return 2; }

PUBLIC int voxtral_num_forms(void) { return NUM_FORMS; }

PUBLIC const char *voxtral_form_name(int number) { return FORMS[number].name; }

PUBLIC int voxtral_form_is_supported(int number) { return FORMS[number].is_supported(); }

/* Bytes of a packed matrix. */
PUBLIC int64_t voxtral_packed_bytes(int64_t num_outputs, int64_t num_inputs, int group, int bits) {
    const int64_t groups = (num_inputs + group - 1) / group;
    return pad(num_outputs, BLOCK) * groups * pad(group, GROUP_STEP) * bits / 8;
}

/* Where one output's numbers of a unit of inputs are within a block. */
typedef struct {
    int64_t step;  /* bytes from a unit to the next */
    int64_t start; /* of the output's first unit */
    int shift;     /* of a number within its byte */
} place;

static place find_place(const form *f, int64_t output, int bits) {
    const int64_t lane = output % BLOCK, half = BLOCK / 2;
    if (bits == 8) return (place){BLOCK * f->unit, lane * f->unit, 0};
    return (place){half * f->unit, lane % half * f->unit, lane < half ? 0 : 4};
}

/* Packs the numbers of outputs [0, n), a byte each in [n][k]: int8, or 0 .. 15 of int4. `packed` holds zeros. */
PUBLIC void voxtral_pack(
    int number, const uint8_t *numbers, int64_t num_outputs, int64_t num_inputs, int group, int bits, uint8_t *packed
) {
    const form *f = &FORMS[number];
    const int64_t groups = (num_inputs + group - 1) / group, padded_group = pad(group, GROUP_STEP);
    const int64_t block_bytes = BLOCK * groups * padded_group * bits / 8;
    const uint8_t offset = bits == 8 && f->adds_128 ? 128 : 0;
    for (int64_t n = 0; n < pad(num_outputs, BLOCK); n++) {
        const place to = find_place(f, n, bits);
        uint8_t *unit = packed + n / BLOCK * block_bytes + to.start;
        for (int64_t g = 0; g < groups; g++) {
            const int64_t rest = num_inputs - g * group, count = n >= num_outputs ? 0 : rest < group ? rest : group;
            const uint8_t *from = numbers + n * num_inputs + g * group;
            for (int64_t i = 0; i < padded_group; unit += to.step)
                for (int u = 0; u < f->unit; u++, i++) {
                    const uint8_t value = i < count ? from[i] : 0;
                    if (bits == 8)
                        unit[u] = (uint8_t)(value + offset);
                    else
                        unit[u] |= (uint8_t)(value << to.shift);
                }
        }
    }
}

/* The inverse of `voxtral_pack`. */
PUBLIC void voxtral_unpack(
    int number, const uint8_t *packed, int64_t num_outputs, int64_t num_inputs, int group, int bits, uint8_t *numbers
) {
    const form *f = &FORMS[number];
    const int64_t groups = (num_inputs + group - 1) / group, padded_group = pad(group, GROUP_STEP);
    const int64_t block_bytes = BLOCK * groups * padded_group * bits / 8;
    const uint8_t offset = bits == 8 && f->adds_128 ? 128 : 0;
    for (int64_t n = 0; n < num_outputs; n++) {
        const place from = find_place(f, n, bits);
        const uint8_t *block = packed + n / BLOCK * block_bytes + from.start;
        for (int64_t k = 0; k < num_inputs; k++) {
            const int64_t i = k / group * padded_group + k % group;
            const uint8_t value = block[i / f->unit * from.step + i % f->unit];
            numbers[n * num_inputs + k] = bits == 8 ? (uint8_t)(value - offset) : value >> from.shift & 15;
        }
    }
}

static int planes_of(const form *f, const product *p) { return f->has_planes ? p->num_bytes : 1; }

/* Sizes of the parts of the scratch memory for the activations of one product. */
static int64_t scratch_parts(const form *f, const product *p, int64_t rows, int64_t sizes[3]) {
    const int64_t groups = groups_of(p->weights), padded = groups * pad(p->weights->group, GROUP_STEP);
    const int64_t planes = planes_of(f, p);
    sizes[0] = pad(rows * padded * (f->has_planes ? planes : 2), 64);
    sizes[1] = pad(rows * groups * 4, 64);
    sizes[2] = pad(rows * planes * groups * 4, 64);
    return sizes[0] + sizes[1] + sizes[2];
}

/* Bytes of scratch memory that a call needs; it is aligned to 64. */
PUBLIC int64_t voxtral_scratch_bytes(int number, const product *products, int count, int64_t rows) {
    int64_t most = 0, sizes[3];
    for (int i = 0; i < count; i++) {
        const int64_t bytes = scratch_parts(&FORMS[number], &products[i], rows, sizes);
        most = bytes > most ? bytes : most;
    }
    return most;
}

typedef struct {
    const form *f;
    const team *threads;
    const product *products;
    int64_t rows;
    uint8_t *scratch;
    int64_t next[2]; /* block of outputs that nobody has taken yet; of this product and the one after it */
    int count;
    int is_team;
    int64_t *shared; /* `next` of the call whose copy this is */
} call;

/* How often a thread takes blocks of a product. Two threads that read by turns what lies side by side are in each
 * other's way at the memory: long stretches bring a sixth. A few turns let the faster thread do more. */
#define TURNS 4

static quantized lay_out(const call *c, const product *p) {
    int64_t sizes[3];
    scratch_parts(c->f, p, c->rows, sizes);
    quantized a;
    a.codes = (int8_t *)c->scratch;
    a.steps = (float *)(c->scratch + sizes[0]);
    a.sums = (int32_t *)(c->scratch + sizes[0] + sizes[1]);
    a.num_groups = groups_of(p->weights);
    a.group = (int32_t)pad(p->weights->group, GROUP_STEP);
    a.padded = a.num_groups * a.group;
    a.planes = planes_of(c->f, p);
    return a;
}

/* Each thread rounds rows; of one row some groups, where there are fewer rows than threads. */
static void quantize_inputs(const call *c, const product *p, const quantized *a, int thread, int threads) {
    const int64_t slices = c->rows >= threads ? 1 : threads;
    for (int64_t item = thread; item < c->rows * slices; item += threads) {
        const int64_t row = item / slices, slice = item % slices;
        const int64_t first = a->num_groups * slice / slices, last = a->num_groups * (slice + 1) / slices;
        if (first == last) continue;
        float scale = 1;
        if (p->norm) {
            const int64_t at = row * p->input_stride * (p->input_type == FLOAT32 ? 4 : 2);
            scale = c->f->inverse_rms((const char *)p->inputs + at, p->input_type, p->weights->num_inputs, p->eps);
        }
        c->f->quantize(p, a, row, first, last, scale);
    }
}

static void store_block(const product *p, int64_t first_row, int rows, int64_t block, const float *out) {
    const int64_t start = block * BLOCK, rest = p->weights->num_outputs - start;
    const int64_t count = rest < BLOCK ? rest : BLOCK;
    for (int64_t row = first_row; row < first_row + rows; row++, out += BLOCK) {
        float values[BLOCK];
        memcpy(values, out, sizeof values);
        if (p->bias)
            for (int64_t i = 0; i < count; i++) values[i] += load_number(p->bias, p->bias_type, start + i);
        if (p->residual)
            for (int64_t i = 0; i < count; i++)
                values[i] += load_number(p->residual, p->residual_type, row * p->residual_stride + start + i);
        for (int64_t i = 0; i < count; i++)
            store_number(p->outputs, p->output_type, row * p->output_stride + start + i, values[i]);
    }
}

static void multiply(call *c, const product *p, const quantized *a, int64_t *next, int threads) {
    const int64_t blocks = pad(p->weights->num_outputs, BLOCK) / BLOCK, share = blocks / (threads * TURNS);
    const int64_t taken = share < 1 ? 1 : share;
    float out[MAX_TILE * BLOCK];
    for (;;) {
        const int64_t first = __atomic_fetch_add(next, taken, __ATOMIC_RELAXED);
        if (first >= blocks) return;
        const int64_t last = first + taken < blocks ? first + taken : blocks;
        for (int64_t block = first; block < last; block++)
            for (int64_t row = 0; row < c->rows; row += MAX_TILE) {
                const int rows = c->rows - row < MAX_TILE ? (int)(c->rows - row) : MAX_TILE;
                c->f->tile(p->weights, block, a, row, rows, out);
                store_block(p, row, rows, block, out);
            }
    }
}

static int thread_of(const call *c) { return c->is_team ? c->threads->thread_number() : 0; }

static int threads_of(const call *c) { return c->is_team ? c->threads->team_size() : 1; }

static void meet(const call *c, int threads) {
    if (threads > 1) wait_for_team(c->threads);
}

/* One product by all threads, who meet at its end; `number` counts products from 0. */
static void compute(call *c, const product *p, int number, int thread, int threads) {
    const quantized a = lay_out(c, p);
    quantize_inputs(c, p, &a, thread, threads);
    meet(c, threads);
    int64_t *next = c->shared ? c->shared : c->next;
    if (thread == 0) next[(number + 1) % 2] = 0;
    multiply(c, p, &a, &next[number % 2], threads);
    meet(c, threads);
}

static void work_on(void *data) {
    call *c = (call *)data;
    const int thread = thread_of(c), threads = threads_of(c);
    for (int i = 0; i < c->count; i++) compute(c, &c->products[i], i, thread, threads);
}

static call start(const team *t, int number, const product *products, int count, int64_t rows, uint8_t *scratch, int threads) {
    const int is_team = threads > 1 && t && (t->gnu_parallel || t->llvm_fork);
    return (call){&FORMS[number], t, products, rows, scratch, {0, 0}, count, is_team, 0};
}

/* Computes products one after the other, each of which may read what those before it wrote.
 *
 * outputs = residual + bias + weights @ (norm or gate of inputs), in float32, rounded once. */
PUBLIC void voxtral_products(
    const team *t, int number, const product *products, int count, int64_t rows, uint8_t *scratch, int threads
) {
    call c = start(t, number, products, count, rows, scratch, threads);
    run_in_team(t, c.is_team ? threads : 1, work_on, &c);
}

#include "whole.h"
