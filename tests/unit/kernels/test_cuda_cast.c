#define _DEFAULT_SOURCE /* setenv */
/* From one element type to another on the device: every pair, any length, out of line or not. */
#include "tests/unit/kernels/cuda_test.h"

/* n numbers that bf16 holds, halfway between two of those, or neither. */
static void fill(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint32_t word = random_word(1, (uint32_t)i), kept = i % 3 == 0 ? 0xffff0000u : i % 3 == 1 ? ~0u : 0;
        const uint32_t bits = (word & kept) | (kept ? 0 : (word & 0xffff0000u) | 0x8000u);
        memcpy(&x[i], &bits, sizeof bits);
        if (!isfinite(x[i])) x[i] = (float)i;
    }
}

static vg_operand operand_of(test_memory *m, vg_dtype dtype, const float *values, int64_t n)
{
    const vg_operand x = blank_operand(m, dtype, VG_SHAPE(n));
    for (int64_t i = 0; i < n; i++)
        if (dtype == VG_BF16)
            ((vg_bf16 *)x.data)[i] = vg_bf16_from(values[i]);
        else
            ((float *)x.data)[i] = values[i];
    return x;
}

/* What arrives is the number itself, to the nearest where it comes in fp32 and leaves in bf16. */
static void every_pair_of_types_at_any_length(void **state)
{
    (void)state;
    enum { MOST = 1030 };
    static const int64_t lengths[] = {1, 3, 4, 6, 1024, 1029};
    static const vg_dtype types[] = {VG_F32, VG_BF16};
    float values[MOST];
    fill(values, MOST);
    for (int k = 0; k < 6 * 8; k++) {
        test_memory m = {0};
        const int64_t n = lengths[k / 8];
        const vg_dtype from = types[k & 1], to = types[k >> 1 & 1];
        vg_node node = {.op = VG_OP_cast, .n_in = 1, .n_out = 1};
        node.in[0] = operand_of(&m, from, values, n);
        float arrived[MOST];
        for (int64_t i = 0; i < n; i++)
            arrived[i] = from == VG_BF16 ? vg_bf16_to_float(((vg_bf16 *)node.in[0].data)[i]) : values[i];
        const vg_operand wanted = operand_of(&m, to, arrived, n);
        node.out[0] = blank_operand(&m, to, VG_SHAPE(n));
        if (k & 4) misalign(&m, &node, &node.in[0]);
        cuda_run(&node);
        assert_memory_equal(node.out[0].data, wanted.data, operand_bytes(&wanted));
        release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_of_types_at_any_length),
    };
    cuda_open();
    return cmocka_run_group_tests_name("casts on the device", tests, NULL, NULL);
}
