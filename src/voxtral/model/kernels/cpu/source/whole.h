/* A decode step of the backbone and the flow of a frame, each in one call: all threads go through the same list of
 * products and meet between them, and nobody asks Python for the next. */

/* The scratch memory of a whole: rows of float32, then what the products need. */
typedef struct {
    float *projected, *mixed, *gates, *x, *tokens, *scores, *entered, *velocity;
    uint8_t *rest;
} parts_of_scratch;

static float *next_part(uint8_t **from, int64_t numbers) {
    float *part = (float *)*from;
    *from += pad(numbers * 4, 64);
    return part;
}

static product linear(
    const matrix *w, const float *inputs, int64_t stride, const void *bias, int bias_type, const float *residual,
    int64_t residual_stride, float *outputs, int num_bytes
) {
    product p = {w, inputs, 0, bias, residual, outputs, stride, residual_stride, w->num_outputs, FLOAT32, FLOAT32,
                 bias_type, FLOAT32, FLOAT32, 0, num_bytes, 0};
    return p;
}

static product normed(product p, const void *norm, int norm_type, float eps) {
    p.norm = norm;
    p.norm_type = norm_type;
    p.eps = eps;
    return p;
}

static product gated(product p) {
    p.is_gated = 1;
    return p;
}

/* Scratch bytes of products of these layers. */
static int64_t most_scratch(int number, const layer *layers, int64_t num_layers, int64_t rows, int num_bytes) {
    int64_t most = 0;
    for (int64_t l = 0; l < num_layers; l++) {
        const matrix *matrices[] = {layers[l].wqkv, layers[l].wo, layers[l].w13, layers[l].w2};
        for (int i = 0; i < 4; i++) {
            product p = {0};
            p.weights = matrices[i];
            p.num_bytes = num_bytes;
            const int64_t bytes = voxtral_scratch_bytes(number, &p, 1, rows);
            most = bytes > most ? bytes : most;
        }
    }
    return most;
}

/* x += w2(silu(gate) * up), gate and up of the norm of x. `number` counts products. */
static void feed_forward(
    call *c, const layer *l, float *x, int64_t dim, float *gates, int norm_type, int bias_type, int num_bytes, float eps,
    int *number, int thread, int threads
) {
    product p = normed(
        linear(l->w13, x, dim, l->biases[2], bias_type, 0, 0, gates, num_bytes), l->ffn_norm, norm_type, eps
    );
    compute(c, &p, (*number)++, thread, threads);
    p = gated(linear(l->w2, gates, l->w13->num_outputs, l->biases[3], bias_type, x, dim, x, num_bytes));
    compute(c, &p, (*number)++, thread, threads);
}

typedef struct {
    call c; /* first: a whole is a call */
    const steps *s;
    const flow *f;
    parts_of_scratch parts;
    int64_t most_seen;
    int max_threads;
} whole;

static void work_on_steps(void *data) {
    whole *w = (whole *)data;
    call *c = &w->c;
    const steps *s = w->s;
    const parts_of_scratch *m = &w->parts;
    const int thread = thread_of(c), threads = threads_of(c);
    const int64_t group = s->positions.num_heads / s->positions.num_kv_heads;
    float *scores = m->scores + thread * pad(group * w->most_seen, 16);
    int number = 0;
    for (int64_t i = 0; i < s->num_layers; i++) {
        const layer *l = &s->layers[i];
        product p = normed(
            linear(l->wqkv, s->x, s->dim, l->biases[0], s->bias_type, 0, 0, m->projected, s->num_bytes),
            l->attention_norm, s->norm_type, s->eps
        );
        compute(c, &p, number++, thread, threads);
        paged a = s->positions;
        a.projections = m->projected;
        a.outputs = m->mixed;
        a.keys = l->keys;
        a.values = l->values;
        if (a.rotated) a.rotated += i * s->num_rows * a.num_heads * a.head_dim;
        for (int64_t item = thread; item < s->num_rows * a.num_kv_heads; item += threads) {
            const int64_t row = item / a.num_kv_heads, head = item % a.num_kv_heads;
            if (a.lengths[row])
                c->f->attend_pages(&a, row, head, scores);
            else /* a row that pads the pass sees nothing */
                memset(m->mixed + (row * a.num_heads + head * group) * a.head_dim, 0, (size_t)(group * a.head_dim) * 4);
        }
        meet(c, threads);
        p = linear(
            l->wo, m->mixed, l->wo->num_inputs, l->biases[1], s->bias_type, s->x, s->dim, s->x, s->num_bytes
        );
        compute(c, &p, number++, thread, threads);
        feed_forward(
            c, l, s->x, s->dim, m->gates, s->norm_type, s->bias_type, s->num_bytes, s->eps, &number, thread, threads
        );
    }
}

static int64_t lay_out_steps(int number, const steps *s, int threads, uint8_t *scratch, whole *w) {
    uint8_t *at = scratch;
    const paged *p = &s->positions;
    w->most_seen = 0;
    for (int64_t row = 0; row < s->num_rows; row++)
        w->most_seen = p->lengths[row] > w->most_seen ? p->lengths[row] : w->most_seen;
    w->parts.projected = next_part(&at, s->num_rows * (p->num_heads + 2 * p->num_kv_heads) * p->head_dim);
    w->parts.mixed = next_part(&at, s->num_rows * p->num_heads * p->head_dim);
    w->parts.gates = next_part(&at, s->num_rows * 2 * s->hidden_dim);
    w->parts.scores = next_part(&at, threads * pad(p->num_heads / p->num_kv_heads * w->most_seen, 16));
    w->parts.rest = at;
    return at - scratch + most_scratch(number, s->layers, s->num_layers, s->num_rows, s->num_bytes);
}

/* Bytes of scratch memory that a step needs; it is aligned to 64. */
PUBLIC int64_t voxtral_steps_scratch(int number, const steps *s, int threads) {
    whole w;
    return lay_out_steps(number, s, threads, 0, &w);
}

PUBLIC void voxtral_steps(const team *t, int number, const steps *s, uint8_t *scratch, int threads) {
    whole w = {.s = s};
    lay_out_steps(number, s, threads, scratch, &w);
    w.c = start(t, number, 0, 0, s->num_rows, w.parts.rest, threads);
    run_in_team(t, w.c.is_team ? threads : 1, work_on_steps, &w);
}

/* The state token and its projections in the first layer, of both branches, beside the tokens that no step changes. */
static void enter_layers(whole *w, int64_t step, int thread, int threads) {
    const flow *f = w->f;
    const parts_of_scratch *m = &w->parts;
    const int64_t width = (f->num_heads + 2 * f->num_kv_heads) * f->head_dim, outputs = f->dim + width;
    const int64_t first = outputs * thread / threads, last = outputs * (thread + 1) / threads;
    for (int64_t row = 0; row < f->num_rows; row++)
        w->c.f->table_product(
            f->state_table, first, last, f->num_acoustic, f->state + row * f->num_acoustic, m->entered + row * outputs
        );
    meet(&w->c, threads);
    for (int64_t branch = thread; branch < 2 * f->num_rows; branch += threads) {
        const float *entered = m->entered + branch % f->num_rows * outputs;
        float *x = m->x + branch * NUM_TOKENS * f->dim, *projected = m->projected + branch * NUM_TOKENS * width;
        const float scale = w->c.f->inverse_rms(entered, FLOAT32, f->dim, f->eps);
        memcpy(x, entered, (size_t)f->dim * 4);
        memcpy(x + f->dim, f->time_tokens + step * f->dim, (size_t)f->dim * 4);
        memcpy(x + 2 * f->dim, f->llm_tokens + branch * f->dim, (size_t)f->dim * 4);
        for (int64_t i = 0; i < width; i++) projected[i] = entered[f->dim + i] * scale + f->biases[i];
        memcpy(projected + width, f->time_projected + step * width, (size_t)width * 4);
        memcpy(projected + 2 * width, f->llm_projected + branch * width, (size_t)width * 4);
    }
    meet(&w->c, threads);
}

/* The velocity of each branch from its last state token, and a step of each row along both. */
static void leave_layers(whole *w, int64_t step, int thread, int threads) {
    const flow *f = w->f;
    const parts_of_scratch *m = &w->parts;
    for (int64_t branch = thread; branch < 2 * f->num_rows; branch += threads) {
        float *x = m->tokens + branch * f->dim;
        const float scale = w->c.f->inverse_rms(x, FLOAT32, f->dim, f->eps);
        for (int64_t i = 0; i < f->dim; i++) x[i] = x[i] * scale * load_number(f->norm, f->norm_type, i);
        w->c.f->table_product(f->output, 0, f->num_acoustic, f->dim, x, m->velocity + branch * f->num_acoustic);
    }
    meet(&w->c, threads);
    for (int64_t row = thread; row < f->num_rows; row += threads)
        for (int64_t i = 0; i < f->num_acoustic; i++) {
            const float with = m->velocity[row * f->num_acoustic + i];
            const float without = m->velocity[(row + f->num_rows) * f->num_acoustic + i];
            const float scale = f->guidance[row];
            f->state[row * f->num_acoustic + i] += (scale * with + (1.0f - scale) * without) * f->step_sizes[step];
        }
    meet(&w->c, threads);
}

static void work_on_flow(void *data) {
    whole *w = (whole *)data;
    call *c = &w->c;
    const flow *f = w->f;
    const parts_of_scratch *m = &w->parts;
    const int thread = thread_of(c), threads = threads_of(c);
    const int64_t branches = 2 * f->num_rows, width = (f->num_heads + 2 * f->num_kv_heads) * f->head_dim;
    const int64_t heads_width = f->num_heads * f->head_dim;
    /* Each thread has its own call, for the number of rows changes on the way; what they take next they share. */
    call all = *c, last = *c;
    all.rows = branches * NUM_TOKENS;
    last.rows = branches;
    all.shared = last.shared = c->next;
    int number = 0;
    for (int64_t step = 0; step < f->num_steps; step++) {
        enter_layers(w, step, thread, threads);
        for (int64_t i = 0; i < f->num_layers; i++) {
            const layer *l = &f->layers[i];
            /* Of the last layer only the state token is read. */
            const int is_last = i + 1 == f->num_layers, queries = is_last ? 1 : NUM_TOKENS;
            call *now = is_last ? &last : &all;
            if (i) {
                product p = normed(
                    linear(l->wqkv, m->x, f->dim, l->biases[0], f->bias_type, 0, 0, m->projected, f->num_bytes),
                    l->attention_norm, f->norm_type, f->eps
                );
                compute(&all, &p, number++, thread, threads);
            }
            for (int64_t item = thread; item < branches * f->num_heads; item += threads) {
                const int64_t branch = item / f->num_heads, head = item % f->num_heads;
                c->f->attend_tokens(
                    m->projected + branch * NUM_TOKENS * width, (int)f->num_heads, (int)f->num_kv_heads, f->head_dim,
                    queries, (int)head, m->mixed + branch * queries * heads_width
                );
            }
            meet(c, threads);
            float *x = is_last ? m->tokens : m->x;
            product p = linear(
                l->wo, m->mixed, heads_width, l->biases[1], f->bias_type, m->x, is_last ? NUM_TOKENS * f->dim : f->dim,
                x, f->num_bytes
            );
            compute(now, &p, number++, thread, threads);
            feed_forward(
                now, l, x, f->dim, m->gates, f->norm_type, f->bias_type, f->num_bytes, f->eps, &number, thread, threads
            );
        }
        leave_layers(w, step, thread, threads);
    }
}

static int64_t lay_out_flow(int number, const flow *f, uint8_t *scratch, whole *w) {
    uint8_t *at = scratch;
    const int64_t width = (f->num_heads + 2 * f->num_kv_heads) * f->head_dim, rows = 2 * f->num_rows * NUM_TOKENS;
    w->parts.projected = next_part(&at, rows * width);
    w->parts.mixed = next_part(&at, rows * f->num_heads * f->head_dim);
    w->parts.gates = next_part(&at, rows * 2 * f->hidden_dim);
    w->parts.x = next_part(&at, rows * f->dim);
    w->parts.tokens = next_part(&at, 2 * f->num_rows * f->dim);
    w->parts.entered = next_part(&at, f->num_rows * (f->dim + width));
    w->parts.velocity = next_part(&at, 2 * f->num_rows * f->num_acoustic);
    w->parts.rest = at;
    return at - scratch + most_scratch(number, f->layers, f->num_layers, rows, f->num_bytes);
}

/* Bytes of scratch memory that a flow needs; it is aligned to 64. */
PUBLIC int64_t voxtral_flow_scratch(int number, const flow *f) {
    whole w;
    return lay_out_flow(number, f, 0, &w);
}

PUBLIC void voxtral_flow(const team *t, int number, const flow *f, uint8_t *scratch, int threads) {
    whole w = {.f = f};
    lay_out_flow(number, f, scratch, &w);
    w.c = start(t, number, 0, 0, 0, w.parts.rest, threads);
    run_in_team(t, w.c.is_team ? threads : 1, work_on_flow, &w);
}
