/* One block of outputs times a few rows, for forms whose instruction adds UNIT products to each 32-bit lane.
 *
 * Before it is included: NAME(x); VI, VF and W, vectors of 32-bit sums, of floats and of weights; LANES, outputs of a
 * vector; VECTORS, of them at a time; UNIT, CODE (type of an activation), HAS_PLANES, ADDS_128; and the operations
 * LOAD8, LOAD4, SPREAD, DOT, ZERO_I, SET_I, ADD_I, SHIFT8_I, TO_FLOAT, ZERO_F, SET_F, LOAD_F, STORE_F, MUL, FMA
 * (a * b + c), FNMA (c - a * b), LOAD_BF16, LOAD_HALF. A group's sums are whole numbers, and groups are added in their
 * order, so a row's outputs do not depend on the rows beside it, nor on the form. */

#define PASSES (BLOCK / (LANES * VECTORS))

/* Where the outputs of a vector begin: of 4 bits the second half of the vectors are the high halves of bytes. */
#define PLACE(pass, v, bits)                                                                                      \
    ((bits) == 8 ? ((pass) * VECTORS + (v)) * LANES                                                               \
                 : ((v) < VECTORS / 2 ? 0 : BLOCK / 2) + ((pass) * (VECTORS / 2) + (v) % (VECTORS / 2)) * LANES)

/* Bytes that are asked for ahead of their use; of none, 2048, 8192 and 16384 the best here by up to a half (Zen 5). */
#define AHEAD 8192

INLINE void NAME(rows_by_block)(
    const int rows, const int planes, const int bits, const matrix *w, int64_t block, const quantized *a, int64_t row,
    float *out
) {
    const int64_t groups = a->num_groups;
    const int64_t unit_bytes = BLOCK * UNIT * bits / 8;
    const uint8_t *packed = w->packed + block * (a->padded / UNIT) * unit_bytes;
    const CODE *codes = (const CODE *)a->codes + row * planes * a->padded;
    const int32_t *sums = a->sums + row * planes * groups;
    const float *steps = a->steps + row * groups;
    for (int pass = 0; pass < PASSES; pass++) {
        /* Sums of groups are in memory: registers are for the sums within a group. */
        UNROLL for (int m = 0; m < rows; m++)
            UNROLL for (int v = 0; v < VECTORS; v++) STORE_F(out + m * BLOCK + PLACE(pass, v, bits), ZERO_F);
        for (int64_t g = 0; g < groups; g++) {
            VI acc[MAX_TILE][VECTORS];
            UNROLL for (int r = 0; r < rows * planes; r++)
                UNROLL for (int v = 0; v < VECTORS; v++)
                    acc[r][v] = ADDS_128 && bits == 8 ? SET_I(-128 * sums[r * groups + g]) : ZERO_I;
            const uint8_t *p = packed + g * (a->group / UNIT) * unit_bytes;
            const CODE *c = codes + g * a->group;
            for (int k = 0; k < a->group; k += UNIT, p += unit_bytes) {
                W wide[VECTORS];
                if (bits == 8) {
                    UNROLL for (int v = 0; v < VECTORS; v++) {
                        const uint8_t *from = p + (pass * VECTORS + v) * LANES * UNIT;
                        wide[v] = LOAD8(from);
                        if (v * LANES * UNIT % 64 == 0) __builtin_prefetch(from + AHEAD);
                    }
                } else {
                    UNROLL for (int v = 0; v < VECTORS / 2; v++) {
                        const uint8_t *from = p + (pass * (VECTORS / 2) + v) * LANES * UNIT;
                        LOAD4(from, wide[v], wide[VECTORS / 2 + v]);
                        if (v * LANES * UNIT % 64 == 0) __builtin_prefetch(from + AHEAD);
                    }
                }
                UNROLL for (int r = 0; r < rows * planes; r++) {
                    A spread = SPREAD(c + r * a->padded + k);
                    UNROLL for (int v = 0; v < VECTORS; v++) acc[r][v] = DOT(acc[r][v], wide[v], spread);
                }
            }
            UNROLL for (int v = 0; v < VECTORS; v++) {
                VF scale = ZERO_F, zero = ZERO_F;
                if (bits == 4) {
                    const uint16_t *pair = (const uint16_t *)w->scales + (block * groups + g) * 2 * BLOCK;
                    pair += PLACE(pass, v, bits);
                    scale = LOAD_BF16(pair);
                    zero = LOAD_HALF(pair + BLOCK);
                }
                UNROLL for (int m = 0; m < rows; m++) {
                    VI total = acc[m * planes][v];
                    int32_t sum = sums[m * planes * groups + g];
                    if (planes == 2) {
                        total = ADD_I(SHIFT8_I(total), acc[m * planes + 1][v]);
                        sum = 256 * sum + sums[(m * planes + 1) * groups + g];
                    }
                    VF part = TO_FLOAT(total), step = SET_F(steps[m * groups + g]);
                    if (bits == 4) {
                        part = FNMA(zero, SET_F((float)sum), part);
                        step = MUL(step, scale);
                    }
                    float *sum_of_groups = out + m * BLOCK + PLACE(pass, v, bits);
                    STORE_F(sum_of_groups, FMA(part, step, LOAD_F(sum_of_groups)));
                }
            }
        }
    }
    if (bits == 8)
        for (int m = 0; m < rows; m++)
            for (int i = 0; i < BLOCK; i++) out[m * BLOCK + i] *= ((const float *)w->scales)[block * BLOCK + i];
}

/* Sizes above what two bytes have registers for are for one byte alone. */
#define ROWS(count)                                                                                             \
    static void NAME(rows_##count)(                                                                             \
        const matrix *w, int64_t block, const quantized *a, int64_t row, float *out                             \
    ) {                                                                                                         \
        if (a->planes == 2) {                                                                                   \
            if (w->bits == 8)                                                                                   \
                NAME(rows_by_block)((count) <= TILE_OF_TWO ? (count) : 1, 2, 8, w, block, a, row, out);         \
            else                                                                                                \
                NAME(rows_by_block)((count) <= TILE_OF_TWO ? (count) : 1, 2, 4, w, block, a, row, out);         \
        } else if (w->bits == 8)                                                                                \
            NAME(rows_by_block)((count), 1, 8, w, block, a, row, out);                                          \
        else                                                                                                    \
            NAME(rows_by_block)((count), 1, 4, w, block, a, row, out);                                          \
    }
EACH_TILE(ROWS)
#undef ROWS

static void NAME(tile)(const matrix *w, int64_t block, const quantized *a, int64_t row, int count, float *out) {
    const int most = a->planes == 2 ? TILE_OF_TWO : TILE_OF_ONE;
    while (count) {
        int taken = count < most ? count : most;
#define ROWS(size)                                    \
    if (taken >= (size)) {                            \
        NAME(rows_##size)(w, block, a, row, out);     \
        taken = (size);                               \
    } else
        EACH_TILE(ROWS) {}
#undef ROWS
        count -= taken;
        row += taken;
        out += taken * BLOCK;
    }
}
