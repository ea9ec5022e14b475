/* The stand-in of the CUDA runtime: what a program may rely on, and what it is told when it relies on more. */
#include "emu/emu_test.h"

enum { N = 1000, SEEDS = 8 };

static float *device_floats(int n)
{
    void *p = NULL;
    OK(cudaMalloc(&p, (size_t)n * sizeof(float)));
    return p;
}

static float *pinned_floats(int n, float value)
{
    void *p = NULL;
    OK(cudaMallocHost(&p, (size_t)n * sizeof(float)));
    for (int i = 0; i < n; i++) ((float *)p)[i] = value;
    return p;
}

static cudaStream_t new_stream(void)
{
    cudaStream_t s = NULL;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}

static cudaEvent_t new_event(void)
{
    cudaEvent_t e = NULL;
    OK(cudaEventCreate(&e));
    return e;
}

static const size_t BYTES = N * sizeof(float);

static bool all_are(const float *x, float value)
{
    for (int i = 0; i < N; i++)
        if (!(x[i] == value)) return false;
    return true;
}

static void copy_in(float *to, const float *from, cudaStream_t s)
{
    OK(cudaMemcpyAsync(to, from, BYTES, cudaMemcpyHostToDevice, s));
}

static void copy_out(float *to, const float *from, cudaStream_t s)
{
    OK(cudaMemcpyAsync(to, from, BYTES, cudaMemcpyDeviceToHost, s));
}

/* --- copies --- */

static void pageable_copy(void)
{
    static float host[N], back[N];
    float *x = device_floats(N);
    cudaStream_t s = new_stream();
    for (int i = 0; i < N; i++) host[i] = 1;
    copy_in(x, host, s);
    for (int i = 0; i < N; i++) host[i] = 2;
    copy_out(back, x, s);
    NEED(all_are(back, 1));
    OK(cudaFree(x));
}

static void pageable_memory_is_read_at_the_call_and_written_before_it_returns(void **state)
{
    (void)state;
    passes(pageable_copy, NULL, 0);
}

static void pinned_copy(void)
{
    float *x = device_floats(N), *in = pinned_floats(N, 1), *out = pinned_floats(N, 0);
    cudaStream_t s = new_stream();
    copy_in(x, in, s);
    for (int i = 0; i < N; i++) in[i] = 2; /* too early */
    copy_out(out, x, s);
    NEED(all_are(out, 0)); /* nobody has waited */
    OK(cudaStreamSynchronize(s));
    NEED(all_are(out, 2));
}

static void pinned_memory_is_read_and_written_when_the_device_gets_there(void **state)
{
    (void)state;
    passes(pinned_copy, NULL, 0);
}

static void every_kind_of_copy(void)
{
    static float host[N], back[N];
    for (int i = 0; i < N; i++) host[i] = 3;
    float *x = device_floats(N), *y = device_floats(N);
    OK(cudaMemcpy(x, host, BYTES, cudaMemcpyDefault));
    OK(cudaMemcpy(y, x, BYTES, cudaMemcpyDeviceToDevice));
    OK(cudaMemcpy(back, y, BYTES, cudaMemcpyDeviceToHost));
    NEED(all_are(back, 3));
    OK(cudaMemset(y, 0, BYTES / 2));
    OK(cudaMemcpy(back, y, BYTES, cudaMemcpyDefault));
    NEED(back[0] == 0 && back[N - 1] == 3);
    OK(cudaDeviceSynchronize());
    OK(cudaFree(x));
    OK(cudaFree(y));
}

static void copies_and_sets_do_what_they_say(void **state)
{
    (void)state;
    passes(every_kind_of_copy, NULL, 0);
}

/* --- streams and events --- */

enum { LONG = 24 }; /* operations in front, so that an early stream has a long way to be late */

/* One stream brings data, the other uses it. */
static void hand_over(bool wait)
{
    float *x = device_floats(N), *y = device_floats(N), *in = pinned_floats(N, 1), *out = pinned_floats(N, 0);
    cudaStream_t copies = new_stream(), compute = new_stream();
    cudaEvent_t arrived = new_event();
    OK(cudaMemset(x, 0, BYTES));
    OK(cudaDeviceSynchronize());
    for (int i = 0; i < LONG; i++) OK(cudaMemsetAsync(y, 0, BYTES, compute));
    copy_in(x, in, copies);
    OK(cudaEventRecord(arrived, copies));
    if (wait) OK(cudaStreamWaitEvent(compute, arrived, 0));
    OK(cudaMemcpyAsync(y, x, BYTES, cudaMemcpyDeviceToDevice, compute));
    copy_out(out, y, compute);
    OK(cudaStreamSynchronize(compute));
    NEED(all_are(out, 1));
}

static void hand_over_with_wait(void)
{
    hand_over(true);
}

static void hand_over_without_wait(void)
{
    hand_over(false);
}

static void a_missing_wait_between_streams_is_seen_on_some_seed(void **state)
{
    (void)state;
    assert_int_equal(failures_of_seeds(hand_over_with_wait, SEEDS), 0);
    assert_in_range(failures_of_seeds(hand_over_without_wait, 2), 1, 2); /* one of two opposite seeds */
}

static void wait_alone(void)
{
    float *x = device_floats(N), *in = pinned_floats(N, 1), *out = pinned_floats(N, 0);
    cudaStream_t copies = new_stream(), other = new_stream();
    cudaEvent_t arrived = new_event();
    copy_in(x, in, copies);
    copy_out(out, x, copies);
    OK(cudaEventRecord(arrived, copies));
    OK(cudaStreamWaitEvent(other, arrived, 0));
    OK(cudaStreamSynchronize(other));
    NEED(all_are(out, 1));
}

static void a_wait_is_work_of_its_stream(void **state)
{
    (void)state;
    assert_int_equal(failures_of_seeds(wait_alone, 2), 0);
}

/* The host fills its staging buffer again for the next step. */
static void refill(bool wait)
{
    float *x = device_floats(N), *in = pinned_floats(N, 1), *out = pinned_floats(N, 0);
    cudaStream_t s = new_stream();
    cudaEvent_t copied = new_event();
    copy_in(x, in, s);
    OK(cudaEventRecord(copied, s));
    copy_out(out, x, s);
    if (wait) OK(cudaEventSynchronize(copied));
    for (int i = 0; i < N; i++) in[i] = 2;
    copy_in(x, in, s);
    OK(cudaStreamSynchronize(s));
    NEED(all_are(out, 1));
}

static void refill_with_wait(void)
{
    refill(true);
}

static void refill_without_wait(void)
{
    refill(false);
}

static void a_staging_buffer_that_is_filled_too_early_is_seen(void **state)
{
    (void)state;
    assert_int_equal(failures_of_seeds(refill_with_wait, SEEDS), 0);
    assert_int_equal(failures_of_seeds(refill_without_wait, SEEDS), SEEDS);
}

static void events_tell(void)
{
    float *x = device_floats(N), ms = -1;
    cudaStream_t s = new_stream();
    cudaEvent_t before = new_event(), after = new_event();
    OK(cudaEventQuery(after)); /* never recorded: nothing to wait for */
    OK(cudaEventRecord(before, s));
    for (int i = 0; i < 500; i++) OK(cudaMemsetAsync(x, 0, BYTES, s));
    OK(cudaEventRecord(after, s));
    NEED(cudaEventElapsedTime(&ms, before, after) == cudaErrorNotReady);
    NEED(cudaStreamQuery(s) == cudaErrorNotReady);
    OK(cudaGetLastError()); /* not ready is no error to be remembered */
    while (cudaEventQuery(after) == cudaErrorNotReady) continue;
    OK(cudaStreamQuery(s));
    OK(cudaEventElapsedTime(&ms, before, after));
    NEED(ms > 0);
}

static void events_tell_how_far_a_stream_is(void **state)
{
    (void)state;
    passes(events_tell, NULL, 0);
}

static void wait_without_a_call(void)
{
    float *x = device_floats(N), *in = pinned_floats(N, 1), *out = pinned_floats(N, 0);
    cudaStream_t s = new_stream();
    copy_in(x, in, s);
    copy_out(out, x, s);
    for (int i = 0; i < 10000 && ((volatile float *)out)[N - 1] == 0; i++) usleep(1000);
    NEED(all_are(out, 1));
}

static void a_device_that_nobody_calls_goes_on(void **state)
{
    (void)state;
    passes(wait_without_a_call, "VG_EMU_ALONE_MS", 1);
}

static void default_stream(void)
{
    static float back[N];
    float *x = device_floats(N), *in = pinned_floats(N, 1);
    cudaStream_t s = NULL;
    OK(cudaStreamCreate(&s)); /* one that the default stream waits for */
    OK(cudaMemsetAsync(x, 0, BYTES, s));
    copy_in(x, in, s);
    OK(cudaMemcpy(back, x, BYTES, cudaMemcpyDeviceToHost));
    NEED(all_are(back, 1));
}

static void the_default_stream_waits_for_blocking_streams(void **state)
{
    (void)state;
    assert_int_equal(failures_of_seeds(default_stream, SEEDS), 0);
}

/* --- capture --- */

/* Two branches that meet: the side stream brings x, the main stream clears y, and then y takes x. */
static cudaGraphExec_t record_branches(float *x, float *y, const float *in, float *out, bool wait)
{
    cudaStream_t s = new_stream(), side = new_stream();
    cudaEvent_t fork = new_event(), join = new_event();
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    OK(cudaEventRecord(fork, s));
    OK(cudaStreamWaitEvent(side, fork, 0));
    copy_in(x, in, side);
    OK(cudaEventRecord(join, side));
    for (int i = 0; i < LONG; i++) OK(cudaMemsetAsync(y, 0, BYTES, s));
    if (wait) OK(cudaStreamWaitEvent(s, join, 0));
    OK(cudaMemcpyAsync(y, x, BYTES, cudaMemcpyDeviceToDevice, s));
    copy_out(out, y, s);
    OK(cudaStreamWaitEvent(s, join, 0));
    OK(cudaStreamEndCapture(s, &graph));
    size_t n = 0;
    OK(cudaGraphGetNodes(graph, NULL, &n));
    NEED(n == LONG + 3);
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    return exec;
}

static void replay(bool wait)
{
    float *x = device_floats(N), *y = device_floats(N), *in = pinned_floats(N, 1), *out = pinned_floats(N, 0);
    OK(cudaMemset(x, 0, BYTES));
    OK(cudaDeviceSynchronize());
    cudaGraphExec_t exec = record_branches(x, y, in, out, wait);
    cudaStream_t s = new_stream();
    OK(cudaStreamSynchronize(s));
    NEED(all_are(out, 0)); /* recorded, not run */
    for (int step = 1; step <= 3; step++) {
        for (int i = 0; i < N; i++) in[i] = (float)step;
        OK(cudaGraphLaunch(exec, s));
        OK(cudaStreamSynchronize(s));
        NEED(all_are(out, (float)step));
    }
    OK(cudaGraphExecDestroy(exec));
}

static void replay_with_wait(void)
{
    replay(true);
}

static void replay_without_wait(void)
{
    replay(false);
}

static void a_graph_runs_at_every_launch_with_what_memory_holds_then(void **state)
{
    (void)state;
    assert_int_equal(failures_of_seeds(replay_with_wait, SEEDS), 0);
    assert_in_range(failures_of_seeds(replay_without_wait, SEEDS), 1, SEEDS);
}

static void launches_in_line(void)
{
    float *x = device_floats(N), *y = device_floats(N), *in = pinned_floats(N, 1), *out = pinned_floats(N, 0);
    cudaGraphExec_t exec = record_branches(x, y, in, out, true);
    cudaStream_t s = new_stream(), other = new_stream();
    OK(cudaGraphLaunch(exec, s));
    OK(cudaGraphLaunch(exec, other));
    OK(cudaGraphExecDestroy(exec)); /* what is launched still runs */
    OK(cudaStreamSynchronize(other));
    OK(cudaStreamQuery(s)); /* launches of one graph run one after another */
    NEED(all_are(out, 1));
}

static void launches_of_one_graph_run_one_after_another(void **state)
{
    (void)state;
    assert_int_equal(failures_of_seeds(launches_in_line, SEEDS), 0);
}

static cudaStream_t capturing(enum cudaStreamCaptureMode mode)
{
    cudaStream_t s = new_stream();
    OK(cudaStreamBeginCapture(s, mode));
    return s;
}

static void expect_spoiled(cudaStream_t s)
{
    cudaGraph_t graph = NULL;
    NEED(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated);
    NEED(!graph);
}

static void forbidden_calls(void)
{
    float *x = device_floats(N);
    static float pageable[N];
    void *p = NULL;
    cudaEvent_t e = new_event();
    cudaStream_t s = capturing(cudaStreamCaptureModeThreadLocal);
    NEED(cudaMalloc(&p, 1) == cudaErrorStreamCaptureUnsupported);
    NEED(cudaMemsetAsync(x, 0, BYTES, s) == cudaErrorStreamCaptureInvalidated);
    expect_spoiled(s);
    s = capturing(cudaStreamCaptureModeGlobal);
    NEED(cudaMemcpy(x, pageable, BYTES, cudaMemcpyHostToDevice) == cudaErrorStreamCaptureUnsupported);
    expect_spoiled(s);
    s = capturing(cudaStreamCaptureModeRelaxed);
    OK(cudaMalloc(&p, 1));
    NEED(cudaStreamSynchronize(s) == cudaErrorStreamCaptureUnsupported);
    expect_spoiled(s);
    s = capturing(cudaStreamCaptureModeRelaxed);
    NEED(cudaMemcpyAsync(x, pageable, BYTES, cudaMemcpyHostToDevice, s) == cudaErrorStreamCaptureUnsupported);
    expect_spoiled(s);
    s = capturing(cudaStreamCaptureModeRelaxed);
    OK(cudaEventRecord(e, s));
    NEED(cudaEventQuery(e) == cudaErrorCapturedEvent);
    NEED(cudaDeviceSynchronize() == cudaErrorStreamCaptureUnsupported);
    expect_spoiled(s);
}

static void calls_that_capture_forbids_fail_and_spoil_it(void **state)
{
    (void)state;
    passes(forbidden_calls, NULL, 0);
}

static void bad_endings(void)
{
    float *x = device_floats(N);
    cudaGraph_t graph = NULL;
    cudaStream_t side = new_stream(), s = new_stream();
    cudaEvent_t fork = new_event(), outside = new_event();
    NEED(cudaStreamEndCapture(s, &graph) == cudaErrorIllegalState);
    OK(cudaEventRecord(outside, side));
    s = capturing(cudaStreamCaptureModeRelaxed);
    OK(cudaEventRecord(fork, s));
    OK(cudaStreamWaitEvent(side, fork, 0));
    OK(cudaMemsetAsync(x, 0, BYTES, side));
    NEED(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureUnjoined);
    s = capturing(cudaStreamCaptureModeRelaxed);
    NEED(cudaStreamWaitEvent(s, outside, 0) == cudaErrorStreamCaptureIsolation);
    expect_spoiled(s);
    NEED(cudaStreamBeginCapture(NULL, cudaStreamCaptureModeRelaxed) == cudaErrorStreamCaptureUnsupported);
}

static void captures_that_leave_work_behind_fail(void **state)
{
    (void)state;
    passes(bad_endings, NULL, 0);
}

/* --- what is reported --- */

static void copy_past_the_end(void)
{
    static float host[N + 1];
    float *x = device_floats(N);
    NEED(cudaMemcpy(x, host, BYTES + 1, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
}

static void host_memory_as_device_memory(void)
{
    static float a[N], b[N];
    NEED(cudaMemcpy(a, b, BYTES, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
}

static void device_memory_as_host_memory(void)
{
    float *x = device_floats(N), *y = device_floats(N);
    NEED(cudaMemcpy(x, y, BYTES, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
}

static void copy_from_freed_memory(void)
{
    static float host[N];
    float *x = device_floats(N);
    OK(cudaFree(x));
    NEED(cudaMemcpy(host, x, BYTES, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
}

static void free_what_is_queued(void)
{
    float *x = device_floats(N);
    OK(cudaMemsetAsync(x, 0, BYTES, new_stream()));
    cudaFree(x);
}

static void free_staging_too_early(void)
{
    float *x = device_floats(N), *in = pinned_floats(N, 1);
    copy_in(x, in, new_stream());
    cudaFreeHost(in);
}

static void launch_after_free(void)
{
    float *x = device_floats(N), *y = device_floats(N);
    cudaGraphExec_t exec = record_branches(x, y, pinned_floats(N, 1), pinned_floats(N, 0), true);
    OK(cudaFree(x));
    cudaGraphLaunch(exec, NULL);
    NEED(cudaStreamSynchronize(NULL) == cudaErrorIllegalAddress);
}

static void destroyed_stream(void)
{
    cudaStream_t s = new_stream();
    OK(cudaStreamDestroy(s));
    cudaStreamSynchronize(s);
}

static void each_wrong_use_of_memory_is_reported_by_name(void **state)
{
    (void)state;
    is_reported(copy_past_the_end, "out of bounds: cudaMemcpy: the destination");
    is_reported(host_memory_as_device_memory, "is host memory, not the device's");
    is_reported(device_memory_as_host_memory, "is device memory, not the host's");
    is_reported(copy_from_freed_memory, "use after free: cudaMemcpy: the source");
    is_reported(free_what_is_queued, "while cudaMemsetAsync is still queued");
    is_reported(free_staging_too_early, "cudaFreeHost");
    is_reported(launch_after_free, "use after free: cudaMemcpyAsync");
    is_reported(destroyed_stream, "the stream");
}

static void host_reads_device_memory(void)
{
    const volatile float *x = device_floats(N);
    exit(x[0] > 0);
}

static void the_host_cannot_touch_device_memory(void **state)
{
    (void)state;
    const ended e = run_apart(host_reads_device_memory, NULL, 0);
    assert_int_equal(e.status, 128 + SIGSEGV);
    assert_non_null(strstr(e.text, "host code accesses"));
    assert_non_null(strstr(e.text, "allocation 1 of 4000 bytes, byte 0"));
}

/* --- faults on demand --- */

static void no_device(void)
{
    int n = -1;
    void *p = NULL;
    NEED(cudaGetDeviceCount(&n) == cudaErrorNoDevice && n == 0);
    NEED(cudaSetDevice(0) == cudaErrorNoDevice);
    NEED(cudaMalloc(&p, 1) == cudaErrorNoDevice);
    NEED(cudaGetLastError() == cudaErrorNoDevice);
    NEED(!strcmp(cudaGetErrorName(cudaErrorNoDevice), "cudaErrorNoDevice"));
}

static void a_machine_without_a_device(void **state)
{
    (void)state;
    passes(no_device, "VG_EMU_DEVICES", 0);
}

static void expect_devices(const char *visible, int wanted)
{
    int n = -1;
    setenv("CUDA_VISIBLE_DEVICES", visible, 1);
    cudaGetDeviceCount(&n);
    NEED(n == wanted);
}

static void two_devices(void)
{
    expect_devices("1,0", 2);
}

static void one_device(void)
{
    expect_devices("5,77,1", 1);
}

static void hidden_devices(void)
{
    expect_devices("", 0);
}

static void devices_can_be_hidden(void **state)
{
    (void)state;
    passes(two_devices, NULL, 0);
    passes(one_device, NULL, 0);
    passes(hidden_devices, NULL, 0);
}

static void little_memory(void)
{
    size_t available = 0, total = 0;
    void *p = NULL, *q = NULL;
    OK(cudaMemGetInfo(&available, &total));
    NEED(available == 1 << 20 && total == 1 << 20);
    OK(cudaMalloc(&p, 700 << 10));
    NEED(cudaMalloc(&q, 700 << 10) == cudaErrorMemoryAllocation);
    NEED(!q);
    OK(cudaFree(p));
    OK(cudaMalloc(&q, 700 << 10));
}

static void a_device_with_little_memory(void **state)
{
    (void)state;
    passes(little_memory, "VG_EMU_MEMORY", 1 << 20);
}

/* --- kernels --- */

struct add_args { /* as in kernels/cuda/elementwise.cu */
    const float *a, *b;
    float *y;
    int64_t n;
};
void add_numbers(void); /* what nvcc leaves for the kernel on the host */

static cudaError_t add(float *a, float *b, float *y, size_t dynamic_shared, cudaStream_t s)
{
    struct add_args p = {a, b, y, N};
    void *args[] = {&p};
    return cudaLaunchKernel((const void *)add_numbers, (dim3){1, 1, 1}, (dim3){256, 1, 1}, args, dynamic_shared, s);
}

static void one_kernel(void)
{
    float *x = device_floats(N), *y = device_floats(N), *in = pinned_floats(N, 1), *out = pinned_floats(N, 0);
    cudaStream_t s = new_stream();
    struct cudaFuncAttributes asked;
    copy_in(x, in, s);
    OK(add(x, x, y, 0, s));
    copy_out(out, y, s);
    OK(cudaStreamSynchronize(s));
    NEED(all_are(out, 2));
    NEED(add(x, x, y, 64 << 10, s) == cudaErrorInvalidValue); /* above 48 KiB has to be asked for */
    OK(cudaFuncSetAttribute((const void *)add_numbers, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10));
    OK(cudaFuncGetAttributes(&asked, (const void *)add_numbers));
    NEED(asked.maxDynamicSharedSizeBytes == 64 << 10 && asked.maxThreadsPerBlock == 256);
    NEED(cudaGetLastError() == cudaErrorInvalidValue);
    OK(add(x, x, y, 64 << 10, s));
    OK(cudaStreamSynchronize(s));
}

static void a_kernel_runs_and_its_shared_memory_has_to_be_asked_for(void **state)
{
    (void)state;
    passes(one_kernel, NULL, 0);
}

static void lost_device(void)
{
    float *x = device_floats(N), *y = device_floats(N);
    cudaStream_t s = new_stream();
    OK(cudaMemset(x, 0, BYTES));
    OK(add(x, x, y, 0, s));
    OK(cudaStreamSynchronize(s));
    OK(add(x, x, y, 0, s)); /* nothing is known yet */
    NEED(cudaStreamSynchronize(s) == cudaErrorLaunchFailure);
    NEED(add(x, x, y, 0, s) == cudaErrorLaunchFailure);
    NEED(cudaGetLastError() == cudaErrorLaunchFailure && cudaGetLastError() == cudaErrorLaunchFailure); /* for good */
}

static void a_device_that_is_lost_stays_lost(void **state)
{
    (void)state;
    passes(lost_device, "VG_EMU_LOST", 2);
}

int main(void)
{
    need_stand_ins();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pageable_memory_is_read_at_the_call_and_written_before_it_returns),
        cmocka_unit_test(pinned_memory_is_read_and_written_when_the_device_gets_there),
        cmocka_unit_test(copies_and_sets_do_what_they_say),
        cmocka_unit_test(a_missing_wait_between_streams_is_seen_on_some_seed),
        cmocka_unit_test(a_wait_is_work_of_its_stream),
        cmocka_unit_test(a_staging_buffer_that_is_filled_too_early_is_seen),
        cmocka_unit_test(events_tell_how_far_a_stream_is),
        cmocka_unit_test(a_device_that_nobody_calls_goes_on),
        cmocka_unit_test(the_default_stream_waits_for_blocking_streams),
        cmocka_unit_test(a_graph_runs_at_every_launch_with_what_memory_holds_then),
        cmocka_unit_test(launches_of_one_graph_run_one_after_another),
        cmocka_unit_test(calls_that_capture_forbids_fail_and_spoil_it),
        cmocka_unit_test(captures_that_leave_work_behind_fail),
        cmocka_unit_test(each_wrong_use_of_memory_is_reported_by_name),
        cmocka_unit_test(the_host_cannot_touch_device_memory),
        cmocka_unit_test(a_machine_without_a_device),
        cmocka_unit_test(devices_can_be_hidden),
        cmocka_unit_test(a_device_with_little_memory),
        cmocka_unit_test(a_kernel_runs_and_its_shared_memory_has_to_be_asked_for),
        cmocka_unit_test(a_device_that_is_lost_stays_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
