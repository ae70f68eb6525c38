/* Attention of a few rows, in float32. Included once for each form, like rows.h: fixed lanes in a fixed order, so that all
 * forms round alike, and a row's result depends on that row alone. */

INLINE float NAME(exponential)(float x) {
    float z = x * 1.442695041f;
    z = z < -126.0f ? -126.0f : z;
    float whole = (z + ROUNDING) - ROUNDING;
    float r = (z - whole) * 0.693147181f;
    float p = 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * as_float((as_bits(whole + ROUNDING) - as_bits(ROUNDING) + 127u) << 23);
}

INLINE float NAME(dot)(const float *a, const float *b, int count) {
    float lanes[ATTEND_LANES] = {0};
    int i = 0;
    for (; i + ATTEND_LANES <= count; i += ATTEND_LANES)
        for (int l = 0; l < ATTEND_LANES; l++) lanes[l] = __builtin_fmaf(a[i + l], b[i + l], lanes[l]);
    for (int l = 0; i < count; i++, l++) lanes[l] = __builtin_fmaf(a[i], b[i], lanes[l]);
    for (int width = ATTEND_LANES / 2; width; width /= 2)
        for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
    return lanes[0];
}

INLINE float_lanes NAME(lanes_of)(const float *x) {
    float_lanes lanes;
    memcpy(&lanes, x, sizeof lanes);
    return lanes;
}

INLINE float_lanes NAME(load_lanes)(const page_view *view, int64_t at) {
    if (view->type == FLOAT32) return NAME(lanes_of)((const float *)view->numbers + at);
    short_lanes halves;
    memcpy(&halves, (const uint16_t *)view->numbers + at, sizeof halves);
    const bit_lanes bits = __builtin_convertvector(halves, bit_lanes) << 16;
    float_lanes lanes;
    memcpy(&lanes, &bits, sizeof lanes);
    return lanes;
}

INLINE float NAME(sum_of)(float_lanes lanes) {
    float_half_lanes low, high;
    memcpy(&low, &lanes, sizeof low);
    memcpy(&high, (const char *)&lanes + sizeof low, sizeof high);
    low += high;
    return ((low[0] + low[4]) + (low[2] + low[6])) + ((low[1] + low[5]) + (low[3] + low[7]));
}

/* Scores to shares that add up to one. */
INLINE void NAME(softmax)(float *scores, int64_t count) {
    float largest = scores[0];
    for (int64_t i = 1; i < count; i++) largest = scores[i] > largest ? scores[i] : largest;
    float lanes[ATTEND_LANES] = {0};
    int64_t i = 0;
    for (; i + ATTEND_LANES <= count; i += ATTEND_LANES)
        for (int l = 0; l < ATTEND_LANES; l++) lanes[l] += scores[i + l] = NAME(exponential)(scores[i + l] - largest);
    for (int l = 0; i < count; i++, l++) lanes[l] += scores[i] = NAME(exponential)(scores[i] - largest);
    for (int width = ATTEND_LANES / 2; width; width /= 2)
        for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
    const float inverse = 1.0f / lanes[0];
    for (int64_t k = 0; k < count; k++) scores[k] *= inverse;
}

INLINE void NAME(rotate)(float *head, const float *cosines, const float *sines, int head_dim) {
    for (int i = 0; i < head_dim / 2; i++) {
        const float even = head[2 * i], odd = head[2 * i + 1];
        head[2 * i] = even * cosines[i] - odd * sines[i];
        head[2 * i + 1] = even * sines[i] + odd * cosines[i];
    }
}

/* A head reads a small part of every position, which no processor foresees: keys are asked for so far ahead, and the
 * values while the keys are read. */
#define POSITIONS_AHEAD 4

/* Scores of a few queries at all positions: [count][seen]. */
INLINE void NAME(score)(
    const page_view *view, const void *values, const int count, const float queries[][MAX_HEAD_DIM], int dim,
    float scale, float *scores
) {
    const int whole = dim / ATTEND_LANES * ATTEND_LANES, size = view->type == FLOAT32 ? 4 : 2;
    for (int64_t first = 0; first < view->seen; first += view->page_size) {
        const int64_t last = first + view->page_size < view->seen ? first + view->page_size : view->seen;
        int64_t at = (int64_t)view->table[first / view->page_size] * view->page_size * view->stride + view->start;
        for (int64_t s = first; s < last; s++, at += view->stride) {
            const char *next = (const char *)view->numbers + (at + POSITIONS_AHEAD * view->stride) * size;
            const char *value = (const char *)values + at * size;
            for (int i = 0; i < dim * size; i += 64) {
                __builtin_prefetch(next + i);
                __builtin_prefetch(value + i);
            }
            float_lanes sums[4] = {{0}};
            for (int i = 0; i < whole; i += ATTEND_LANES) {
                const float_lanes key = NAME(load_lanes)(view, at + i);
                UNROLL for (int q = 0; q < count; q++) sums[q] += key * NAME(lanes_of)(queries[q] + i);
            }
            UNROLL for (int q = 0; q < count; q++) {
                float sum = NAME(sum_of)(sums[q]);
                for (int i = whole; i < dim; i++) sum += load_number(view->numbers, view->type, at + i) * queries[q][i];
                scores[q * view->seen + s] = sum * scale;
            }
        }
    }
}

/* The values of all positions by the shares of a few queries: [count][dim]. */
INLINE void NAME(mix)(const page_view *view, const int count, const float *shares, int dim, float *out) {
    const int whole = dim / ATTEND_LANES * ATTEND_LANES;
    for (int i = 0; i < whole; i += ATTEND_LANES) {
        float_lanes sums[4] = {{0}};
        for (int64_t first = 0; first < view->seen; first += view->page_size) {
            const int64_t last = first + view->page_size < view->seen ? first + view->page_size : view->seen;
            int64_t at = (int64_t)view->table[first / view->page_size] * view->page_size * view->stride + view->start + i;
            for (int64_t s = first; s < last; s++, at += view->stride) {
                const float_lanes value = NAME(load_lanes)(view, at);
                UNROLL for (int q = 0; q < count; q++) sums[q] += value * shares[q * view->seen + s];
            }
        }
        UNROLL for (int q = 0; q < count; q++) memcpy(out + q * dim + i, &sums[q], sizeof sums[q]);
    }
    for (int i = whole; i < dim; i++)
        for (int q = 0; q < count; q++) {
            float sum = 0;
            for (int64_t s = 0; s < view->seen; s++) {
                const int64_t slot = (int64_t)view->table[s / view->page_size] * view->page_size + s % view->page_size;
                const float value = load_number(view->numbers, view->type, slot * view->stride + view->start + i);
                sum += value * shares[q * view->seen + s];
            }
            out[q * dim + i] = sum;
        }
}

/* One row and key head of a decode step: rotate, keep, and attend with the queries of the head's group. */
static void NAME(attend_pages)(const paged *p, int64_t row, int64_t head, float *scores) {
    const int dim = p->head_dim, group = (int)(p->num_heads / p->num_kv_heads);
    const int64_t width = (p->num_heads + 2 * p->num_kv_heads) * dim, seen = p->lengths[row];
    const float *projected = p->projections + row * width;
    const float *cosines = p->cosines + row * (dim / 2), *sines = p->sines + row * (dim / 2);
    float queries[MAX_HEADS_OF_GROUP][MAX_HEAD_DIM], line[MAX_HEAD_DIM];
    for (int q = 0; q < group; q++) {
        memcpy(queries[q], projected + (head * group + q) * dim, (size_t)dim * sizeof(float));
        NAME(rotate)(queries[q], cosines, sines, dim);
        if (p->rotated)
            memcpy(p->rotated + (row * p->num_heads + head * group + q) * dim, queries[q], (size_t)dim * sizeof(float));
    }
    const int64_t at = (p->slots[row] * p->num_kv_heads + head) * dim;
    memcpy(line, projected + (p->num_heads + head) * dim, (size_t)dim * sizeof(float));
    NAME(rotate)(line, cosines, sines, dim);
    for (int i = 0; i < dim; i++) store_number(p->keys, p->page_type, at + i, line[i]);
    const float *value = projected + (p->num_heads + p->num_kv_heads + head) * dim;
    for (int i = 0; i < dim; i++) store_number(p->values, p->page_type, at + i, value[i]);

    const int64_t stride = p->num_kv_heads * dim, first = head * dim;
    const int32_t *table = p->tables + row * p->max_pages;
    const page_view keys = {p->keys, table, seen, stride, first, p->page_size, p->page_type};
    const page_view values = {p->values, table, seen, stride, first, p->page_size, p->page_type};
    const float scale = 1.0f / __builtin_sqrtf((float)dim);
    /* A few queries at a time, for which there are registers, so that a key is read once for all of them. */
    for (int q = 0; q < group;) {
        const int taken = group - q >= 4 ? 4 : group - q >= 2 ? 2 : 1;
        float *of_taken = scores + q * seen, *out = p->outputs + (row * p->num_heads + head * group + q) * dim;
        if (taken == 4)
            NAME(score)(&keys, p->values, 4, queries + q, dim, scale, of_taken);
        else if (taken == 2)
            NAME(score)(&keys, p->values, 2, queries + q, dim, scale, of_taken);
        else
            NAME(score)(&keys, p->values, 1, queries + q, dim, scale, of_taken);
        for (int i = 0; i < taken; i++) NAME(softmax)(of_taken + i * seen, seen);
        if (taken == 4)
            NAME(mix)(&values, 4, of_taken, dim, out);
        else if (taken == 2)
            NAME(mix)(&values, 2, of_taken, dim, out);
        else
            NAME(mix)(&values, 1, of_taken, dim, out);
        q += taken;
    }
}

/* One row and query head of the flow: the three tokens see each other. qkv [3][width], outputs [queries][heads * dim]. */
static void NAME(attend_tokens)(
    const float *qkv, int num_heads, int num_kv_heads, int dim, int num_queries, int head, float *outputs
) {
    const int64_t width = (num_heads + 2 * num_kv_heads) * dim;
    const int kv = head / (num_heads / num_kv_heads);
    const float scale = 1.0f / __builtin_sqrtf((float)dim);
    for (int q = 0; q < num_queries; q++) {
        const float *query = qkv + q * width + head * dim;
        float shares[NUM_TOKENS];
        for (int t = 0; t < NUM_TOKENS; t++)
            shares[t] = NAME(dot)(query, qkv + t * width + (num_heads + kv) * dim, dim) * scale;
        NAME(softmax)(shares, NUM_TOKENS);
        float *out = outputs + (int64_t)q * num_heads * dim + head * dim;
        const float *values = qkv + (num_heads + num_kv_heads + kv) * dim;
        for (int i = 0; i < dim; i++) {
            float sum = 0;
            for (int t = 0; t < NUM_TOKENS; t++) sum = __builtin_fmaf(shares[t], values[t * width + i], sum);
            out[i] = sum;
        }
    }
}

/* y[first .. last - 1] = table [outputs, inputs] @ x. */
static void NAME(table_product)(
    const float *table, int64_t first, int64_t last, int64_t inputs, const float *x, float *y
) {
    for (int64_t n = first; n < last; n++) y[n] = NAME(dot)(table + n * inputs, x, (int)inputs);
}
