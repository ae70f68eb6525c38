/* Checks the products of src/voxtral/model/kernels/cpu/source without Python: under sanitizers, and on a processor that
 * only an emulator has. `check.sh` builds and runs it. Prints what was tried and ends with 1 if anything is wrong.
 *
 * Each product is compared with its own in double precision, from the canonical numbers; rows together with each alone;
 * every form with every other, to the bit; and four callers at once with one. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/voxtral/model/kernels/cpu/source/voxtral_cpu.c"

extern int omp_get_thread_num(void);
extern int omp_get_num_threads(void);
#if defined(LLVM_OPENMP)
extern void __kmpc_fork_call(void *, int32_t, void *, ...);
extern int32_t __kmpc_global_thread_num(void *);
extern void __kmpc_push_num_threads(void *, int32_t, int32_t);
extern void __kmpc_barrier(void *, int32_t);
static const team TEAM = {0, 0, __kmpc_fork_call, __kmpc_global_thread_num, __kmpc_push_num_threads, __kmpc_barrier,
                          omp_get_thread_num, omp_get_num_threads};
#else
extern void GOMP_parallel(work, void *, unsigned, unsigned);
extern void GOMP_barrier(void);
static const team TEAM = {GOMP_parallel, GOMP_barrier, 0, 0, 0, 0, omp_get_thread_num, omp_get_num_threads};
#endif

static int failures;
static uint64_t seed = 88172645463325252u;

static uint32_t draw(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}

static float draw_float(void) { return (float)(int32_t)draw() / 2147483648.0f; }

/* Sized to the byte, so that a sanitizer sees the first one beyond. */
static void *take(size_t bytes) {
    void *memory = 0;
    if (posix_memalign(&memory, 64, bytes ? bytes : 1)) abort();
    memset(memory, 0, bytes);
    return memory;
}

typedef struct {
    int bits, group, num_bytes, is_gated, has_norm, has_bias, has_residual, type;
    int64_t n, k, rows;
} setting;

/* A half of a value that has one exactly: 0, 0.5, .. 15.5. */
static uint16_t half_of(float value) {
    if (value == 0) return 0;
    uint32_t bits = as_bits(value);
    return (uint16_t)(((bits >> 23) - 127 + 15) << 10 | (bits >> 13 & 0x3ff));
}

static double exp_of(double x) {
    double term = 1, sum = 1, y = x / 64;
    for (int i = 1; i < 20; i++) sum += term *= y / i;
    for (int i = 0; i < 6; i++) sum *= sum;
    return sum;
}

static double root_of(double x) {
    double y = x > 1 ? x : 1;
    for (int i = 0; i < 200; i++) y = (y + x / y) / 2;
    return y;
}

typedef struct {
    matrix w;
    product p;
    uint8_t *numbers, *packed;
    void *scales;
    float *x, *norm, *bias, *residual;
    void *inputs, *outputs;
} problem;

static void fill(problem *q, const setting *s) {
    const int64_t groups = (s->k + s->group - 1) / s->group, padded = pad(s->n, BLOCK);
    const int64_t columns = s->is_gated ? 2 * s->k : s->k;
    memset(q, 0, sizeof *q);
    q->numbers = take((size_t)(s->n * s->k));
    for (int64_t i = 0; i < s->n * s->k; i++) {
        int value = s->bits == 8 ? (int)(draw() % 256) - 128 : (int)(draw() % 16);
        /* Extremes, so that narrow sums would be cut off. */
        if (draw() % 3 == 0) value = s->bits == 8 ? (draw() % 2 ? 127 : -128) : 15;
        q->numbers[i] = (uint8_t)value;
    }
    if (s->bits == 8) {
        q->scales = take((size_t)padded * 4);
        for (int64_t i = 0; i < s->n; i++) ((float *)q->scales)[i] = 0.01f + 0.01f * (float)(draw() % 100);
    } else {
        q->scales = take((size_t)(padded * groups * 4));
        uint16_t *pairs = q->scales;
        for (int64_t n = 0; n < s->n; n++)
            for (int64_t g = 0; g < groups; g++) {
                uint16_t *pair = pairs + (n / BLOCK * groups + g) * 2 * BLOCK + n % BLOCK;
                pair[0] = to_bfloat16(0.01f + 0.01f * (float)(draw() % 100));
                pair[BLOCK] = half_of((float)(draw() % 32) / 2);
            }
    }
    q->x = take((size_t)(s->rows * columns) * 4);
    q->inputs = take((size_t)(s->rows * columns) * (s->type == FLOAT32 ? 4 : 2));
    for (int64_t i = 0; i < s->rows * columns; i++) {
        float value = draw_float() * (draw() % 17 ? 1.0f : 40.0f); /* outliers */
        if (i / columns == 1) value = 0;                           /* a row of zeros */
        store_number(q->inputs, s->type, i, value);
        q->x[i] = load_number(q->inputs, s->type, i);
    }
    q->norm = take((size_t)s->k * 4);
    q->bias = take((size_t)s->n * 4);
    q->residual = take((size_t)(s->rows * s->n) * 4);
    for (int64_t i = 0; i < s->k; i++) q->norm[i] = 0.5f + draw_float() / 4;
    for (int64_t i = 0; i < s->n; i++) q->bias[i] = draw_float();
    for (int64_t i = 0; i < s->rows * s->n; i++) q->residual[i] = draw_float();
    q->outputs = take((size_t)(s->rows * s->n) * 4);
    q->w = (matrix){s->bits, s->group, s->n, s->k, 0, q->scales};
    q->p = (product){&q->w, q->inputs, s->has_norm ? q->norm : 0, s->has_bias ? q->bias : 0,
                     s->has_residual ? q->residual : 0, q->outputs, columns, s->n, s->n, s->type, FLOAT32, FLOAT32,
                     FLOAT32, FLOAT32, s->is_gated, s->num_bytes, 1e-5f};
}

static void pack_for(problem *q, const setting *s, int number) {
    free(q->packed);
    q->packed = take((size_t)voxtral_packed_bytes(s->n, s->k, s->group, s->bits));
    voxtral_pack(number, q->numbers, s->n, s->k, s->group, s->bits, q->packed);
    q->w.packed = q->packed;
    uint8_t *back = take((size_t)(s->n * s->k));
    voxtral_unpack(number, q->packed, s->n, s->k, s->group, s->bits, back);
    if (memcmp(back, q->numbers, (size_t)(s->n * s->k))) failures++, printf("  unpacking gives other numbers\n");
    free(back);
}

static void run(const product *p, int number, int64_t rows, int threads) {
    uint8_t *scratch = take((size_t)voxtral_scratch_bytes(number, p, 1, rows));
    voxtral_products(&TEAM, number, p, 1, rows, scratch, threads);
    free(scratch);
}

static void release(problem *q) {
    free(q->numbers), free(q->packed), free(q->scales), free(q->x), free(q->norm), free(q->bias), free(q->residual);
    free(q->inputs), free(q->outputs);
}

/* The largest difference from double precision, in parts of what rounding the activations allows. */
static double compare(const problem *q, const setting *s) {
    const int64_t groups = (s->k + s->group - 1) / s->group, columns = s->is_gated ? 2 * s->k : s->k;
    double *in = take((size_t)s->k * 8), worst = 0;
    for (int64_t row = 0; row < s->rows; row++) {
        const float *x = q->x + row * columns;
        double squares = 0;
        for (int64_t k = 0; k < s->k; k++) squares += (double)x[k] * x[k];
        for (int64_t k = 0; k < s->k; k++) {
            in[k] = s->is_gated ? x[k] / (1 + exp_of(-x[k])) * x[k + s->k] : x[k];
            if (s->has_norm) in[k] *= q->norm[k] / root_of(squares / (double)s->k + 1e-5);
        }
        for (int64_t n = 0; n < s->n; n++) {
            double sum = 0, slack = 0;
            for (int64_t g = 0; g < groups; g++) {
                const int64_t first = g * s->group, last = first + s->group < s->k ? first + s->group : s->k;
                double scale, zero = 0, largest = 0, weights = 0;
                if (s->bits == 8) {
                    scale = ((float *)q->scales)[n];
                } else {
                    const uint16_t *pair = (uint16_t *)q->scales + (n / BLOCK * groups + g) * 2 * BLOCK + n % BLOCK;
                    scale = load_number(pair, BFLOAT16, 0);
                    const uint16_t bits = pair[BLOCK];
                    zero = bits ? as_float(((uint32_t)(bits >> 10) + 127 - 15) << 23 | (uint32_t)(bits & 0x3ff) << 13) : 0;
                }
                for (int64_t k = first; k < last; k++) {
                    const uint8_t number = q->numbers[n * s->k + k];
                    const double w = ((s->bits == 8 ? (int8_t)number : number) - zero) * scale;
                    sum += w * in[k];
                    weights += w < 0 ? -w : w;
                    largest = in[k] > largest ? in[k] : -in[k] > largest ? -in[k] : largest;
                }
                /* Half a step of each activation, and what float32 rounds. */
                slack += weights * largest * (0.5 / (s->num_bytes == 2 ? TWO_BYTES_MAX : ONE_BYTE_MAX) + 4e-6);
            }
            if (s->has_bias) sum += q->bias[n];
            if (s->has_residual) sum += q->residual[row * s->n + n];
            double off = sum - ((float *)q->outputs)[row * s->n + n];
            off = (off < 0 ? -off : off) / (slack + 1e-6);
            worst = off > worst || off != off ? off : worst;
        }
    }
    free(in);
    return worst;
}

typedef struct {
    const product *p;
    int number;
    int64_t rows;
} caller;

static void *call_alone(void *data) {
    const caller *c = data;
    for (int i = 0; i < 3; i++) run(c->p, c->number, c->rows, 2);
    return 0;
}

static void check_callers(const problem *q, const setting *s, int number, const void *expected) {
    pthread_t threads[4];
    product products[4];
    caller callers[4];
    for (int i = 0; i < 4; i++) {
        products[i] = q->p;
        products[i].outputs = take((size_t)(s->rows * s->n) * 4);
        callers[i] = (caller){&products[i], number, s->rows};
        pthread_create(&threads[i], 0, call_alone, &callers[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], 0);
        if (memcmp(products[i].outputs, expected, (size_t)(s->rows * s->n) * 4))
            failures++, printf("  a caller among others gets other numbers\n");
        free(products[i].outputs);
    }
}

static void check(const setting *s, int with_callers) {
    problem q;
    fill(&q, s);
    const size_t bytes = (size_t)(s->rows * s->n) * 4;
    void *first = 0;
    for (int number = 0; number < NUM_FORMS; number++) {
        if (!voxtral_form_is_supported(number)) continue;
        pack_for(&q, s, number);
        run(&q.p, number, s->rows, 2);
        const double worst = compare(&q, s);
        if (!(worst < 1)) {
            failures++;
            printf("  %s: %.2f of what rounding allows; bits %d n %lld k %lld group %d rows %lld bytes %d gate %d norm %d\n",
                   voxtral_form_name(number), worst, s->bits, (long long)s->n, (long long)s->k, s->group,
                   (long long)s->rows, s->num_bytes, s->is_gated, s->has_norm);
        }
        if (!first) {
            first = take(bytes);
            memcpy(first, q.outputs, bytes);
        } else if (memcmp(first, q.outputs, bytes)) {
            failures++, printf("  %s: not to the bit what the other forms give\n", voxtral_form_name(number));
        }
        for (int64_t row = 0; row < s->rows; row++) {
            product alone = q.p;
            alone.inputs = (char *)q.inputs + row * q.p.input_stride * (s->type == FLOAT32 ? 4 : 2);
            if (q.p.residual) alone.residual = q.residual + row * s->n;
            float *out = alone.outputs = take((size_t)s->n * 4);
            run(&alone, number, 1, 1);
            if (memcmp(out, (float *)first + row * s->n, (size_t)s->n * 4))
                failures++, printf("  %s: row %lld alone differs\n", voxtral_form_name(number), (long long)row);
            free(out);
        }
        if (with_callers) check_callers(&q, s, number, first);
    }
    free(first);
    release(&q);
}

/* A stack of random layers; 8 bits for one, 4 for the next. */
typedef struct {
    problem parts[2][4];
    layer layers[2];
} stack;

static void fill_stack(stack *t, int number, int dim, int hidden, int width, int out_width, void **pages) {
    const int64_t shapes[4][2] = {{width, dim}, {dim, out_width}, {2 * hidden, dim}, {dim, hidden}};
    for (int i = 0; i < 2; i++) {
        const matrix *matrices[4];
        for (int m = 0; m < 4; m++) {
            setting s = {.bits = i ? 4 : 8, .group = 16, .num_bytes = 2, .n = shapes[m][0], .k = shapes[m][1], .rows = 1};
            fill(&t->parts[i][m], &s);
            pack_for(&t->parts[i][m], &s, number);
            matrices[m] = &t->parts[i][m].w;
        }
        t->layers[i] = (layer){matrices[0], matrices[1], matrices[2], matrices[3], t->parts[i][0].norm,
                               t->parts[i][2].norm, {t->parts[i][0].bias, 0, 0, t->parts[i][3].bias}, pages[0], pages[1]};
    }
}

/* A step and a flow in every form, in one thread and in two: the same bits. Memory is sized to the byte. */
static void check_wholes(void) {
    enum { DIM = 48, HIDDEN = 80, HEADS = 4, KV = 2, HEAD = 16, ROWS = 3, PAGE = 4, ACOUSTIC = 5, STEPS = 2 };
    const int width = (HEADS + 2 * KV) * HEAD;
    const uint64_t start_seed = seed;
    float first[2][ROWS * DIM];
    int seen = 0;
    for (int number = 0; number < NUM_FORMS; number++) {
        if (!voxtral_form_is_supported(number)) continue;
        for (int threads = 1; threads <= 2; threads++, seen++) {
            seed = start_seed;
            const size_t page_bytes = 8 * PAGE * KV * HEAD * 2;
            void *pages[2] = {take(page_bytes), take(page_bytes)};
            stack t;
            fill_stack(&t, number, DIM, HIDDEN, width, HEADS * HEAD, pages);
            float *x = take(ROWS * DIM * 4), *turns = take(ROWS * HEAD / 2 * 4), *rotated = take(2 * ROWS * HEADS * HEAD * 4);
            for (int i = 0; i < ROWS * DIM; i++) x[i] = draw_float();
            for (int i = 0; i < ROWS * HEAD / 2; i++) turns[i] = 0.6f;
            int64_t *slots = take(ROWS * 8), *lengths = take(ROWS * 8);
            int32_t *tables = take(ROWS * 2 * 4);
            for (int i = 0; i < ROWS; i++) { /* the last row pads the pass */
                tables[2 * i] = 1 + 2 * i, tables[2 * i + 1] = 2 + 2 * i;
                lengths[i] = i == ROWS - 1 ? 0 : 3 + 3 * i;
                slots[i] = lengths[i] ? tables[2 * i + (lengths[i] - 1) / PAGE] * PAGE + (lengths[i] - 1) % PAGE : 0;
            }
            steps s = {t.layers, x, {0, turns, turns, slots, tables, lengths, 0, 0, 0, rotated, 2, PAGE, HEADS, KV, HEAD,
                                     BFLOAT16}, 2, ROWS, DIM, HIDDEN, FLOAT32, FLOAT32, 2, 1e-5f};
            uint8_t *scratch = take((size_t)voxtral_steps_scratch(number, &s, threads));
            voxtral_steps(&TEAM, number, &s, scratch, threads);
            free(scratch);
            const size_t rows = 2 * ROWS;
            float *memory[8] = {take((DIM + width) * ACOUSTIC * 4), take(width * 4), take(STEPS * DIM * 4),
                                take(STEPS * width * 4), take(rows * DIM * 4), take(rows * width * 4),
                                take(ACOUSTIC * DIM * 4), take(ROWS * ACOUSTIC * 4)};
            const size_t sizes[8] = {(DIM + width) * ACOUSTIC, width, STEPS * DIM, STEPS * width, rows * DIM, rows * width,
                                     ACOUSTIC * DIM, ROWS * ACOUSTIC};
            for (int m = 0; m < 8; m++)
                for (size_t i = 0; i < sizes[m]; i++) memory[m][i] = draw_float();
            float euler[STEPS] = {0.5f, 0.5f}, guidance[ROWS] = {1.0f, 1.2f, 2.0f};
            flow f = {t.layers, memory[0], memory[1], memory[2], memory[3], memory[4], memory[5], memory[6],
                      t.parts[0][0].norm, euler, guidance, memory[7], 2, STEPS, ROWS, DIM, HIDDEN, ACOUSTIC, HEADS, KV,
                      HEAD, FLOAT32, FLOAT32, 1, 1e-5f};
            scratch = take((size_t)voxtral_flow_scratch(number, &f));
            voxtral_flow(&TEAM, number, &f, scratch, threads);
            free(scratch);
            if (!seen) {
                memcpy(first[0], x, ROWS * DIM * 4);
                memcpy(first[1], memory[7], ROWS * ACOUSTIC * 4);
            }
            if (memcmp(first[0], x, ROWS * DIM * 4) || memcmp(first[1], memory[7], ROWS * ACOUSTIC * 4))
                failures++, printf("  %s, %d threads: a whole gives other bits\n", voxtral_form_name(number), threads);
            for (int i = 0; i < ROWS * DIM; i++)
                if (x[i] - x[i] != 0) failures++, i = ROWS * DIM, printf("  a step is not finite\n");
            for (int m = 0; m < 8; m++) free(memory[m]);
            for (int i = 0; i < 8; i++) release(&t.parts[i / 4][i % 4]);
            free(x), free(turns), free(rotated), free(slots), free(lengths), free(tables), free(pages[0]), free(pages[1]);
        }
    }
    printf("%d steps and flows\n", seen);
}

int main(int count, char **words) {
    const int rounds = count > 1 ? atoi(words[1]) : 200;
    printf("forms:");
    for (int number = 0; number < NUM_FORMS; number++)
        if (voxtral_form_is_supported(number)) printf(" %s", voxtral_form_name(number));
    printf("\n");
    for (int i = 0; i < rounds; i++) {
        setting s = {0};
        s.bits = draw() % 2 ? 8 : 4;
        const int groups[] = {1, 7, 8, 16, 20, 32, 64, 128, 256};
        s.group = groups[draw() % 9];
        s.k = s.bits == 4 ? s.group * (1 + draw() % 4) : 1 + draw() % 300;
        s.n = 1 + draw() % 100;
        s.rows = 1 + draw() % 30;
        s.num_bytes = 1 + (int)(draw() % 2);
        s.is_gated = draw() % 4 == 0;
        s.has_norm = !s.is_gated && draw() % 2;
        s.has_bias = draw() % 2;
        s.has_residual = draw() % 2;
        s.type = draw() % 2;
        check(&s, i % 20 == 0);
    }
    check_wholes();
    printf("%d problems, %d failures\n", rounds, failures);
    return failures != 0;
}
