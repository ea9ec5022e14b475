#define _DEFAULT_SOURCE /* setenv */
/* The device's memory, and that a node runs in it. */
#include "kernels/cuda/cuda_impl.h"
#include "tests/unit/kernels/cuda_test.h"

enum { COUNT = 1000 };

static void what_goes_up_comes_down_through_a_copy(void **state)
{
    (void)state;
    const vg_device_ops *d = vg_backend_cuda()->device;
    vg_arena a, b, pinned;
    test_memory m = {0};
    const vg_operand x = random_operand(&m, VG_SHAPE(COUNT), 1);
    assert_int_equal(d->allocate(&cuda_stream, operand_bytes(&x), &a), VG_OK);
    assert_int_equal(d->allocate(&cuda_stream, operand_bytes(&x), &b), VG_OK);
    assert_int_equal(d->allocate_staging(&cuda_stream, operand_bytes(&x), &pinned), VG_OK);
    assert_int_equal(d->upload(&cuda_stream, a.base, x.data, operand_bytes(&x)), VG_OK);
    assert_int_equal(d->copy(&cuda_stream, b.base, a.base, operand_bytes(&x)), VG_OK);
    assert_int_equal(d->zero(&cuda_stream, a.base, operand_bytes(&x)), VG_OK);
    assert_int_equal(d->download(&cuda_stream, pinned.base, b.base, operand_bytes(&x)), VG_OK);
    assert_int_equal(d->wait(&cuda_stream), VG_OK);
    assert_memory_equal(pinned.base, x.data, operand_bytes(&x));
    assert_int_equal(d->download(&cuda_stream, pinned.base, a.base, operand_bytes(&x)), VG_OK);
    assert_int_equal(d->wait(&cuda_stream), VG_OK);
    for (int i = 0; i < COUNT; i++) assert_true(((const float *)(const void *)pinned.base)[i] == 0);
    d->release(&cuda_stream, &a);
    d->release(&cuda_stream, &b);
    d->release_staging(&cuda_stream, &pinned);
    assert_null(a.base);
    release(&m);
}

static void fresh_memory_is_zero(void **state)
{
    (void)state;
    const vg_device_ops *d = vg_backend_cuda()->device;
    unsigned char bytes[100];
    vg_arena memory;
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(d->allocate(&cuda_stream, sizeof bytes, &memory), VG_OK);
    assert_int_equal((size_t)memory.base % 64, 0);
    assert_int_equal(d->download(&cuda_stream, bytes, memory.base, sizeof bytes), VG_OK);
    assert_int_equal(d->wait(&cuda_stream), VG_OK);
    for (size_t i = 0; i < sizeof bytes; i++) assert_int_equal(bytes[i], 0);
    d->release(&cuda_stream, &memory);
}

static void more_memory_than_there_is_names_the_way_out(void **state)
{
    (void)state;
    const vg_device_ops *d = vg_backend_cuda()->device;
    vg_arena memory = {0};
    size_t left = 0;
    assert_int_equal(d->room(&cuda_stream, &left), VG_OK);
    assert_true(left > 0);
    assert_int_equal(d->allocate(&cuda_stream, left + ((size_t)1 << 30), &memory), VG_E_NOMEM);
    assert_null(memory.base);
    assert_non_null(strstr(vg_error_text(), "train.micro_batch"));
    assert_int_equal(d->wait(&cuda_stream), VG_OK); /* the queue is none the worse */
}

static void a_rank_behind_the_last_device_is_told_so(void **state)
{
    (void)state;
    vg_stream stream = {.n_threads = 1};
    assert_int_equal(vg_backend_cuda()->device->open(&stream, 1000), VG_E_DEVICE);
    assert_non_null(strstr(vg_error_text(), "rank 1000 of this host has no GPU"));
    assert_null(stream.cuda);
}

static void a_lost_device_asks_to_start_again(void **state)
{
    (void)state;
    const cudaError_t faults[] = {cudaErrorIllegalAddress, cudaErrorECCUncorrectable, cudaErrorNvlinkUncorrectable};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        assert_int_equal(vg_cuda_status(faults[i], "a call"), VG_E_DEVICE);
        assert_non_null(strstr(vg_error_text(), "start again"));
    }
    assert_int_equal(vg_cuda_status(cudaErrorInvalidValue, "a call"), VG_E_DEVICE);
    assert_null(strstr(vg_error_text(), "start again"));
}

static void a_sum_of_two_tensors_is_the_cpus(void **state)
{
    (void)state;
    const int64_t lengths[] = {1, 3, 4, 1021, 4099};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        test_memory m = {0};
        const vg_shape shape = VG_SHAPE(lengths[i]);
        const vg_node node = {.op = VG_OP_add,
                              .n_in = 2,
                              .n_out = 1,
                              .in = {random_operand(&m, shape, 1), random_operand(&m, shape, 2)},
                              .out = {blank_operand(&m, VG_F32, shape)}};
        cuda_matches_cpu(&m, &node, 0, 1);
        release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_up_comes_down_through_a_copy),
        cmocka_unit_test(fresh_memory_is_zero),
        cmocka_unit_test(more_memory_than_there_is_names_the_way_out),
        cmocka_unit_test(a_rank_behind_the_last_device_is_told_so),
        cmocka_unit_test(a_lost_device_asks_to_start_again),
        cmocka_unit_test(a_sum_of_two_tensors_is_the_cpus),
    };
    cuda_open();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
