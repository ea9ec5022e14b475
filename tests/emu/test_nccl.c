/* The emulated NCCL: what collectives give, and how it says what is wrong. A rank is a process. */
#include "emu_test.h"
#include "kernels/base/base.h"

#include <nccl.h>

enum { RANKS = 3, N = 100000 }; /* more bytes than fit on the way at a time */

typedef struct rank_state {
    int rank;
    ncclComm_t comm;
    cudaStream_t stream;
    float *x, *y; /* [RANKS * N] on the device */
    float *host;
} rank_state;

static ncclResult_t settled(ncclComm_t comm)
{
    ncclResult_t result = ncclInProgress;
    while (result == ncclInProgress) NEED(ncclCommGetAsyncError(comm, &result) == ncclSuccess);
    return result;
}

static void open_rank(rank_state *r, int rank, ncclUniqueId id)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    alarm(30); /* a rank whose peer failed a check would wait for ever */
    *r = (rank_state){.rank = rank, .host = calloc(RANKS * N, sizeof(float))};
    OK(cudaSetDevice(rank));
    OK(cudaStreamCreate(&r->stream));
    OK(cudaMalloc((void **)&r->x, RANKS * N * sizeof(float)));
    OK(cudaMalloc((void **)&r->y, RANKS * N * sizeof(float)));
    NEED(ncclCommInitRankConfig(&r->comm, RANKS, id, rank, &config) == ncclInProgress);
    NEED(settled(r->comm) == ncclSuccess);
}

/* A body in as many processes as there are ranks; each ends with 0, or as the body says. */
static void in_ranks(void (*body)(rank_state *r))
{
    ncclUniqueId id;
    pid_t children[RANKS];
    NEED(ncclGetUniqueId(&id) == ncclSuccess);
    for (int rank = 0; rank < RANKS; rank++) {
        children[rank] = fork();
        if (children[rank] != 0) continue;
        rank_state r;
        open_rank(&r, rank, id);
        body(&r);
        exit(0);
    }
    for (int rank = 0; rank < RANKS; rank++) {
        int status;
        waitpid(children[rank], &status, 0);
        NEED(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    }
}

/* x[i] = 1000 * rank + i % 997, on the device. */
static void fill(rank_state *r, int64_t n)
{
    for (int64_t i = 0; i < n; i++) r->host[i] = (float)(1000 * r->rank + i % 997);
    OK(cudaMemcpyAsync(r->x, r->host, (size_t)n * sizeof(float), cudaMemcpyHostToDevice, r->stream));
    OK(cudaStreamSynchronize(r->stream));
}

static const float *result_of(rank_state *r, ncclResult_t called, int64_t n)
{
    NEED(called == ncclInProgress && settled(r->comm) == ncclSuccess);
    OK(cudaMemcpyAsync(r->host, r->y, (size_t)n * sizeof(float), cudaMemcpyDeviceToHost, r->stream));
    OK(cudaStreamSynchronize(r->stream));
    return r->host;
}

static float filled(int rank, int64_t i)
{
    return (float)(1000 * rank + i % 997);
}

static void reductions(rank_state *r)
{
    fill(r, RANKS * N);
    const float *y = result_of(r, ncclAllReduce(r->x, r->y, N, ncclFloat32, ncclSum, r->comm, r->stream), N);
    for (int i = 0; i < N; i++) NEED(y[i] == (float)(3000 + 3 * (i % 997)));
    y = result_of(r, ncclAllReduce(r->x, r->y, N, ncclFloat32, ncclMax, r->comm, r->stream), N);
    for (int i = 0; i < N; i++) NEED(y[i] == filled(2, i));
    y = result_of(r, ncclReduceScatter(r->x, r->y, N, ncclFloat32, ncclSum, r->comm, r->stream), N);
    for (int i = 0; i < N; i++) NEED(y[i] == (float)(3000 + 3 * ((r->rank * N + i) % 997)));
}

static void moves(rank_state *r)
{
    const int left = (r->rank + RANKS - 1) % RANKS, right = (r->rank + 1) % RANKS;
    fill(r, N);
    const float *y = result_of(r, ncclAllGather(r->x, r->y, N, ncclFloat32, r->comm, r->stream), RANKS * N);
    for (int i = 0; i < RANKS * N; i++) NEED(y[i] == filled(i / N, i % N));
    y = result_of(r, ncclBroadcast(r->x, r->y, N, ncclFloat32, 1, r->comm, r->stream), N);
    for (int i = 0; i < N; i++) NEED(y[i] == filled(1, i));
    NEED(ncclGroupStart() == ncclSuccess);
    NEED(ncclSend(r->x, N, ncclFloat32, right, r->comm, r->stream) == ncclSuccess);
    NEED(ncclRecv(r->y, N, ncclFloat32, left, r->comm, r->stream) == ncclSuccess);
    y = result_of(r, ncclGroupEnd(), N);
    for (int i = 0; i < N; i++) NEED(y[i] == filled(left, i));
}

/* Each rank prefers another of the two streams; the order of issue keeps the calls apart. */
static void two_streams(rank_state *r)
{
    cudaStream_t other;
    OK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    fill(r, N);
    for (int i = 0; i < 8; i++) {
        const cudaStream_t stream = (i + r->rank) % 2 ? other : r->stream;
        NEED(ncclAllReduce(r->x, r->y, N, ncclFloat32, i % 2 ? ncclMax : ncclMin, r->comm, stream) == ncclInProgress);
        NEED(settled(r->comm) == ncclSuccess);
    }
    OK(cudaStreamSynchronize(r->stream));
    OK(cudaStreamSynchronize(other));
    NEED(settled(r->comm) == ncclSuccess);
    NEED(ncclCommFinalize(r->comm) == ncclSuccess && ncclCommDestroy(r->comm) == ncclSuccess);
}

static void asked_too_late(rank_state *r)
{
    fill(r, N);
    NEED(ncclAllReduce(r->x, r->y, N, ncclFloat32, ncclSum, r->comm, r->stream) == ncclInProgress);
    NEED(ncclAllReduce(r->x, r->y, N, ncclFloat32, ncclSum, r->comm, r->stream) == ncclInvalidArgument);
    NEED(strstr(ncclGetLastError(r->comm), "before its last call has become ncclSuccess"));
}

/* Where the result is read although nobody asked whether the call is through. */
static void never_asked(rank_state *r)
{
    fill(r, N);
    OK(cudaMemset(r->y, 0, N * sizeof(float)));
    NEED(ncclAllReduce(r->x, r->y, N, ncclFloat32, ncclSum, r->comm, r->stream) == ncclInProgress);
    OK(cudaMemcpyAsync(r->host, r->y, N * sizeof(float), cudaMemcpyDeviceToHost, r->stream));
    OK(cudaStreamSynchronize(r->stream));
    NEED(r->host[1] == 0);
}

static void host_memory(rank_state *r)
{
    NEED(ncclAllReduce(r->host, r->y, N, ncclFloat32, ncclSum, r->comm, r->stream) == ncclInvalidArgument);
    NEED(strstr(ncclGetLastError(r->comm), "are not device memory of one allocation"));
}

static ncclResult_t fate(rank_state *r)
{
    ncclResult_t result = ncclSuccess;
    while (result == ncclSuccess || result == ncclInProgress) {
        NEED(ncclCommGetAsyncError(r->comm, &result) == ncclSuccess);
        cudaStreamQuery(r->stream);
    }
    return result;
}

static void different_calls(rank_state *r)
{
    fill(r, N);
    if (r->rank == 1)
        ncclBroadcast(r->x, r->y, N, ncclFloat32, 0, r->comm, r->stream);
    else
        ncclAllReduce(r->x, r->y, N, ncclFloat32, ncclSum, r->comm, r->stream);
    const ncclResult_t result = fate(r);
    NEED(result == ncclInvalidUsage || result == ncclRemoteError); /* another one may have given up before */
    NEED(ncclCommAbort(r->comm) == ncclSuccess);
    OK(cudaStreamSynchronize(r->stream)); /* what was queued is given up */
}

static void dead_rank(rank_state *r)
{
    fill(r, N);
    if (r->rank == 1) raise(SIGKILL);
    ncclAllReduce(r->x, r->y, N, ncclFloat32, ncclSum, r->comm, r->stream);
    const ncclResult_t result = fate(r);
    NEED(result == ncclRemoteError && strstr(ncclGetLastError(r->comm), "rank"));
    NEED(ncclCommAbort(r->comm) == ncclSuccess);
    OK(cudaStreamSynchronize(r->stream));
}

/* A rank that comes late keeps the others in the call. */
static void late_abort(rank_state *r)
{
    const double late_s = 0.3, start_s = vg_now_s();
    if (r->rank == 1) usleep((useconds_t)(late_s * 1e6));
    NEED(ncclCommAbort(r->comm) == ncclSuccess);
    NEED(vg_now_s() - start_s > late_s / 2);
}

/* Every body as a process that holds the ranks, and as a test. */
#define TEST_IN_RANKS(body, sentence)  \
    static void body##_apart(void)     \
    {                                  \
        in_ranks(body);                \
    }                                  \
    static void sentence(void **state) \
    {                                  \
        (void)state;                   \
        passes(body##_apart, NULL, 0); \
    }

TEST_IN_RANKS(reductions, reductions_add_what_all_ranks_give)
TEST_IN_RANKS(moves, moves_bring_what_was_sent)
TEST_IN_RANKS(two_streams, calls_on_two_streams_keep_the_order_of_issue)
TEST_IN_RANKS(asked_too_late, a_communicator_is_not_used_before_its_last_call_is_through)
TEST_IN_RANKS(never_asked, a_call_that_nobody_asks_about_is_not_enqueued)
TEST_IN_RANKS(host_memory, host_memory_is_refused)

static void different_calls_apart(void)
{
    in_ranks(different_calls);
}

static void calls_that_differ_are_named_and_an_abort_frees_the_stream(void **state)
{
    (void)state;
    const ended e = run_apart(different_calls_apart, NULL, 0);
    if (e.status != 0) print_message("%s", e.text);
    assert_int_equal(e.status, 0);
    assert_non_null(strstr(e.text, "calls ncclBroadcast("));
    assert_non_null(strstr(e.text, "calls ncclAllReduce("));
}

TEST_IN_RANKS(dead_rank, a_dead_rank_is_a_remote_error)
TEST_IN_RANKS(late_abort, an_abort_ends_when_all_ranks_have_made_it)

int main(void)
{
    need_stand_ins();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reductions_add_what_all_ranks_give),
        cmocka_unit_test(moves_bring_what_was_sent),
        cmocka_unit_test(calls_on_two_streams_keep_the_order_of_issue),
        cmocka_unit_test(a_communicator_is_not_used_before_its_last_call_is_through),
        cmocka_unit_test(a_call_that_nobody_asks_about_is_not_enqueued),
        cmocka_unit_test(host_memory_is_refused),
        cmocka_unit_test(calls_that_differ_are_named_and_an_abort_frees_the_stream),
        cmocka_unit_test(a_dead_rank_is_a_remote_error),
        cmocka_unit_test(an_abort_ends_when_all_ranks_have_made_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
