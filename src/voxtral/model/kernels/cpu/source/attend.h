/* Attention of a few rows, in float32. Included once for each form, like rows.h: fixed lanes and fused operations, so that
 * all forms round alike, and a row's result depends on that row alone. */

#define ATTEND_LANES 16

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

INLINE void NAME(read_numbers)(const void *x, int type, int64_t first, int count, float *values) {
    if (type == FLOAT32)
        memcpy(values, (const float *)x + first, (size_t)count * sizeof *values);
    else
        for (int i = 0; i < count; i++) values[i] = as_float((uint32_t)((const uint16_t *)x)[first + i] << 16);
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

    const float scale = 1.0f / __builtin_sqrtf((float)dim);
    const int32_t *table = p->tables + row * p->max_pages;
    for (int64_t s = 0; s < seen; s++) {
        const int64_t slot = (int64_t)table[s / p->page_size] * p->page_size + s % p->page_size;
        NAME(read_numbers)(p->keys, p->page_type, (slot * p->num_kv_heads + head) * dim, dim, line);
        for (int q = 0; q < group; q++) scores[q * seen + s] = NAME(dot)(queries[q], line, dim) * scale;
    }
    for (int q = 0; q < group; q++) {
        NAME(softmax)(scores + q * seen, seen);
        memset(queries[q], 0, (size_t)dim * sizeof(float));
    }
    for (int64_t s = 0; s < seen; s++) {
        const int64_t slot = (int64_t)table[s / p->page_size] * p->page_size + s % p->page_size;
        NAME(read_numbers)(p->values, p->page_type, (slot * p->num_kv_heads + head) * dim, dim, line);
        for (int q = 0; q < group; q++) {
            const float share = scores[q * seen + s];
            for (int i = 0; i < dim; i++) queries[q][i] = __builtin_fmaf(share, line[i], queries[q][i]);
        }
    }
    for (int q = 0; q < group; q++)
        memcpy(p->outputs + (row * p->num_heads + head * group + q) * dim, queries[q], (size_t)dim * sizeof(float));
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
