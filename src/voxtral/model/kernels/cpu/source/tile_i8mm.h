/* One block of outputs times pairs of rows, by an instruction that adds 8 products to each of 2 x 2 sums. The two bytes
 * of a row are a pair; of one byte, two rows are, and the last of an odd number is taken twice. Otherwise as tile.h. */

#define AHEAD 8192

/* Outputs at a time: two for each sum of four. */
#define OUTPUTS 8

INLINE void NAME(pairs_by_block)(
    const int pairs, const int planes, const int bits, const matrix *w, int64_t block, const quantized *a, int64_t row,
    int count, float *out
) {
    const int64_t groups = a->num_groups;
    const int64_t unit_bytes = BLOCK * 8 * bits / 8;
    const uint8_t *packed = w->packed + block * (a->padded / 8) * unit_bytes;
    /* Lines of codes: the first and the second of each pair. */
    int64_t lines[2 * 3];
    UNROLL for (int i = 0; i < 2 * pairs; i++) {
        const int64_t line = planes == 2 ? i : i < count ? i : count - 1;
        lines[i] = row * planes + line;
    }
    for (int pass = 0; pass < BLOCK / OUTPUTS; pass++) {
        /* Where outputs pass * 4 .. of the low halves, and of the high ones, begin; of 8 bits they follow each other. */
        const int first = bits == 8 ? pass * OUTPUTS : pass * OUTPUTS / 2;
        const int second = bits == 8 ? first + 4 : BLOCK / 2 + first;
        float32x4_t f[2 * 3][2];
        UNROLL for (int m = 0; m < 2 * pairs; m++) f[m][0] = f[m][1] = ZERO_F;
        for (int64_t g = 0; g < groups; g++) {
            int32x4_t acc[3][4];
            UNROLL for (int q = 0; q < pairs; q++) UNROLL for (int v = 0; v < 4; v++) acc[q][v] = ZERO_I;
            const uint8_t *p = packed + g * (a->group / 8) * unit_bytes + first * 8;
            const int8_t *c = a->codes + g * a->group;
            for (int k = 0; k < a->group; k += 8, p += unit_bytes) {
                int8x16_t wide[4];
                if (bits == 8) {
                    UNROLL for (int v = 0; v < 4; v++) wide[v] = LOAD8(p + 16 * v);
                } else {
                    LOAD4(p, wide[0], wide[2]);
                    LOAD4(p + 16, wide[1], wide[3]);
                }
                __builtin_prefetch(p + AHEAD);
                UNROLL for (int q = 0; q < pairs; q++) {
                    const int8x16_t two = vcombine_s8(
                        vld1_s8(c + lines[2 * q] * a->padded + k), vld1_s8(c + lines[2 * q + 1] * a->padded + k)
                    );
                    UNROLL for (int v = 0; v < 4; v++) acc[q][v] = vmmlaq_s32(acc[q][v], two, wide[v]);
                }
            }
            UNROLL for (int half = 0; half < 2; half++) {
                float32x4_t scale = ZERO_F, zero = ZERO_F;
                if (bits == 4) {
                    const uint16_t *pair = (const uint16_t *)w->scales + (block * groups + g) * 2 * BLOCK;
                    pair += half ? second : first;
                    scale = LOAD_BF16(pair);
                    zero = LOAD_HALF(pair + BLOCK);
                }
                UNROLL for (int q = 0; q < pairs; q++) {
                    /* Of each sum of four, outputs of the first line and then of the second. */
                    int32x4_t line[2];
                    line[0] = vcombine_s32(vget_low_s32(acc[q][2 * half]), vget_low_s32(acc[q][2 * half + 1]));
                    line[1] = vcombine_s32(vget_high_s32(acc[q][2 * half]), vget_high_s32(acc[q][2 * half + 1]));
                    UNROLL for (int i = 0; i < 2; i++) {
                        if (planes == 2 && i) continue;
                        const int m = planes == 2 ? q : 2 * q + i;
                        int32x4_t total = line[i];
                        int32_t sum = a->sums[lines[2 * q + i] * groups + g];
                        if (planes == 2) {
                            total = ADD_I(SHIFT8_I(total), line[1]);
                            sum = 256 * sum + a->sums[lines[2 * q + 1] * groups + g];
                        }
                        const int64_t at = planes == 2 ? row + q : lines[2 * q + i];
                        float32x4_t part = TO_FLOAT(total), step = SET_F(a->steps[at * groups + g]);
                        if (bits == 4) {
                            part = FNMA(zero, SET_F((float)sum), part);
                            step = MUL(step, scale);
                        }
                        f[m][half] = FMA(part, step, f[m][half]);
                    }
                }
            }
        }
        UNROLL for (int m = 0; m < 2 * pairs; m++) {
            if (m >= count) continue;
            UNROLL for (int half = 0; half < 2; half++) {
                const int at = half ? second : first;
                float32x4_t value = f[m][half];
                if (bits == 8) value = MUL(value, LOAD_F((const float *)w->scales + block * BLOCK + at));
                STORE_F(out + m * BLOCK + at, value);
            }
        }
    }
}

#define PAIRS(size)                                                                                           \
    static void NAME(pairs_##size)(                                                                           \
        const matrix *w, int64_t block, const quantized *a, int64_t row, int count, float *out                \
    ) {                                                                                                       \
        if (a->planes == 2) {                                                                                 \
            if (w->bits == 8)                                                                                 \
                NAME(pairs_by_block)((size), 2, 8, w, block, a, row, count, out);                             \
            else                                                                                              \
                NAME(pairs_by_block)((size), 2, 4, w, block, a, row, count, out);                             \
        } else if (w->bits == 8)                                                                              \
            NAME(pairs_by_block)((size), 1, 8, w, block, a, row, count, out);                                 \
        else                                                                                                  \
            NAME(pairs_by_block)((size), 1, 4, w, block, a, row, count, out);                                 \
    }
PAIRS(1)
PAIRS(2)
PAIRS(3)
#undef PAIRS

static void NAME(tile)(const matrix *w, int64_t block, const quantized *a, int64_t row, int count, float *out) {
    const int in_pair = a->planes == 2 ? 1 : 2;
    while (count) {
        const int taken = count < 3 * in_pair ? count : 3 * in_pair;
        switch ((taken + in_pair - 1) / in_pair) {
        case 1: NAME(pairs_1)(w, block, a, row, taken, out); break;
        case 2: NAME(pairs_2)(w, block, a, row, taken, out); break;
        default: NAME(pairs_3)(w, block, a, row, taken, out);
        }
        count -= taken;
        row += taken;
        out += taken * BLOCK;
    }
}
