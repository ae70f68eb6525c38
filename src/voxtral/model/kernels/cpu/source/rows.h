/* From numbers to whole numbers: norm or gate on the way, a group at a time. Included once for each form, so that the
 * compiler uses its instructions; plain C, and without contraction the same to the bit in all of them. */

#define LANES_OF_SUM 16

/* Ties go to even: adding this leaves no bits behind the point. */
#define ROUNDING 12582912.0f

/* silu(gate) * up. 2 ** n and a polynomial of degree 6: within two units in the last place of float32. */
INLINE float NAME(gated)(float gate, float up) {
    float z = gate * -1.442695041f;
    z = z < -126.0f ? -126.0f : z;
    z = z > 126.0f ? 126.0f : z;
    float whole = (z + ROUNDING) - ROUNDING;
    float r = (z - whole) * 0.693147181f;
    float p = 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    float power = as_float((as_bits(whole + ROUNDING) - as_bits(ROUNDING) + 127u) << 23);
    return gate / (1.0f + p * power) * up;
}

static float NAME(inverse_rms)(const void *x, int type, int64_t count, float eps) {
    float lanes[LANES_OF_SUM] = {0};
    int64_t i = 0;
    if (type == FLOAT32)
        for (; i + LANES_OF_SUM <= count; i += LANES_OF_SUM)
            for (int l = 0; l < LANES_OF_SUM; l++) {
                float v = ((const float *)x)[i + l];
                lanes[l] += v * v;
            }
    else
        for (; i + LANES_OF_SUM <= count; i += LANES_OF_SUM)
            for (int l = 0; l < LANES_OF_SUM; l++) {
                float v = as_float((uint32_t)((const uint16_t *)x)[i + l] << 16);
                lanes[l] += v * v;
            }
    for (int l = 0; i < count; i++, l++) {
        float v = load_number(x, type, i);
        lanes[l] += v * v;
    }
    for (int width = LANES_OF_SUM / 2; width; width /= 2)
        for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
    return 1.0f / __builtin_sqrtf(lanes[0] / (float)count + eps);
}

/* The inputs of one group as the product reads them: [count] into `values`. */
INLINE void NAME(read_group)(const product *p, int64_t row, int64_t start, int count, float scale, float *values) {
    const int64_t first = row * p->input_stride + start, width = p->weights->num_inputs;
    if (p->input_type == FLOAT32) {
        const float *x = (const float *)p->inputs + first;
        if (p->is_gated)
            for (int i = 0; i < count; i++) values[i] = NAME(gated)(x[i], x[i + width]);
        else
            for (int i = 0; i < count; i++) values[i] = x[i];
    } else {
        const uint16_t *x = (const uint16_t *)p->inputs + first;
        if (p->is_gated)
            for (int i = 0; i < count; i++)
                values[i] = NAME(gated)(as_float((uint32_t)x[i] << 16), as_float((uint32_t)x[i + width] << 16));
        else
            for (int i = 0; i < count; i++) values[i] = as_float((uint32_t)x[i] << 16);
    }
    if (!p->norm) return;
    if (p->norm_type == FLOAT32) {
        const float *weight = (const float *)p->norm + start;
        for (int i = 0; i < count; i++) values[i] = values[i] * scale * weight[i];
    } else {
        const uint16_t *weight = (const uint16_t *)p->norm + start;
        for (int i = 0; i < count; i++) values[i] = values[i] * scale * as_float((uint32_t)weight[i] << 16);
    }
}

/* Rounds groups first .. last - 1 of a row; `scale` is what the norm multiplies with. */
static void NAME(quantize)(const product *p, const quantized *a, int64_t row, int64_t first, int64_t last, float scale) {
    const int group = p->weights->group;
    const float largest_code = p->num_bytes == 2 ? (float)TWO_BYTES_MAX : (float)ONE_BYTE_MAX;
    float values[MAX_GROUP];
    int32_t numbers[MAX_GROUP];
    for (int64_t g = first; g < last; g++) {
        const int64_t start = g * group, rest = p->weights->num_inputs - start;
        const int count = rest < group ? (int)rest : group;
        NAME(read_group)(p, row, start, count, scale, values);
        /* Without their sign floats are in the order of their bits, and what is not finite comes last. */
        int32_t largest = 0;
        for (int i = 0; i < count; i++) {
            int32_t bits = (int32_t)(as_bits(values[i]) & 0x7fffffffu);
            largest = bits > largest ? bits : largest;
        }
        /* Not below the least normal number, whose inverse is finite. */
        float step = as_float((uint32_t)largest) / largest_code;
        step = step < 1.17549435e-38f ? 1.17549435e-38f : step;
        const float inverse = 1.0f / step;
        memset(numbers + count, 0, (size_t)(a->group - count) * sizeof *numbers);
        if (largest >= 0x7f800000) {
            memset(numbers, 0, (size_t)count * sizeof *numbers);
            step = as_float(0x7fc00000u);
        } else {
            for (int i = 0; i < count; i++)
                numbers[i] = (int32_t)(as_bits(values[i] * inverse + ROUNDING) - as_bits(ROUNDING));
        }
        a->steps[row * a->num_groups + g] = step;
        const int64_t at = g * a->group;
#if HAS_PLANES
        int8_t *high = a->codes + row * a->planes * a->padded + at;
        int32_t *sums = a->sums + row * a->planes * a->num_groups + g;
        int32_t sum = 0;
        if (a->planes == 1) {
            for (int i = 0; i < a->group; i++) {
                high[i] = (int8_t)numbers[i];
                sum += numbers[i];
            }
            sums[0] = sum;
        } else {
            int8_t *low = high + a->padded;
            int32_t of_high = 0;
            for (int i = 0; i < a->group; i++) {
                int32_t top = (numbers[i] + 128) >> 8;
                high[i] = (int8_t)top;
                low[i] = (int8_t)(numbers[i] - 256 * top);
                of_high += top;
                sum += numbers[i];
            }
            sums[0] = of_high;
            sums[a->num_groups] = sum - 256 * of_high;
        }
#else
        int16_t *codes = (int16_t *)a->codes + row * a->padded + at;
        int32_t sum = 0;
        for (int i = 0; i < a->group; i++) {
            codes[i] = (int16_t)numbers[i];
            sum += numbers[i];
        }
        a->sums[row * a->num_groups + g] = sum;
#endif
    }
}
