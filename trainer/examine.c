#include "trainer/examine.h"

#include "dist/device.h"
#include "kernels/backend.h"
#include "trainer/compute.h"
#include "trainer/forecast.h"
#include "trainer/process.h"
#include "trainer/splits.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

typedef struct doctor {
    vg_comm *comm;
    const vg_options *o;
    vg_stage_forecast stages[VG_MAX_STAGES]; /* zeroed where the forecast fails */
    vg_text lines;                           /* of this host */
    int64_t failures;
} doctor;

enum { OK, WARN, FAIL };

__attribute__((format(printf, 4, 5))) static void say(doctor *d, int level, const char *what, const char *format, ...)
{
    static const char *const levels[] = {"ok  ", "warn", "FAIL"};
    char text[1500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    d->failures += level == FAIL;
    if (vg_text_add(&d->lines, "%s  %-10s %-10s %s\n", levels[level], vg_comm_host(d->comm), what, text) != VG_OK)
        d->failures++; /* without memory for a line nothing is well */
}

/* A check that speaks for itself. */
static void say_status(doctor *d, const char *what, vg_status st, const char *fine)
{
    say(d, st == VG_OK ? OK : FAIL, what, "%s", st == VG_OK ? fine : vg_error_text());
}

/* ---- one host ---- */

static void check_libraries(doctor *d)
{
    vg_library all[VG_MAX_LIBRARIES + 2];
    const vg_backend *cuda = vg_backend_find("cuda");
    int n = 0;
    vg_comm_library(&all[n++]);
    if (cuda) n += cuda->libraries(all + n);
    n += vg_device_library(&all[n]);
    for (int i = 0; i < n; i++)
        say(d, all[i].fits ? OK : WARN, all[i].what,
            all[i].fits ? "%s" : "%s is here, the program was built for %s: install that, or build again",
            all[i].running, all[i].built);
}

/* Ranks of a host sum their gradients there. */
static void check_shared_memory(doctor *d)
{
    const int ranks = vg_comm_local_size(d->comm);
    const char *folder;
    const double room = (double)vg_comm_shared_room(&folder);
    double need = 0;
    for (int i = 0; i < d->o->n_stages && ranks > 1; i++) /* the total, which is in `gradients`, is there once */
        need = fmax(need, ranks * (double)d->stages[i].gradients - (ranks - 1) * 4 * d->stages[i].n_trainable);
    say(d, need <= room ? OK : WARN, "shared", "%s has room for %.1f MB, the gradients of %d ranks take %.1f MB%s",
        folder, room * 1e-6, ranks, need * 1e-6,
        need <= room ? "" : "; messages take its place, which is slower: enlarge it (docker: --shm-size)");
}

static void check_limit(doctor *d, const char *what, int resource, double want, const char *how)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) != 0) return;
    const bool enough = limit.rlim_cur == RLIM_INFINITY || (double)limit.rlim_cur >= want;
    if (limit.rlim_cur == RLIM_INFINITY)
        say(d, OK, what, "unlimited");
    else
        say(d, enough ? OK : WARN, what, "%.0f, %.0f or more are wanted%s%s", (double)limit.rlim_cur, want,
            enough ? "" : ": ", enough ? "" : how);
}

static vg_status write_probe(int fd, const char *path, size_t bytes, double *mb_per_s)
{
    enum { PIECE = 1 << 20 };
    static const unsigned char piece[PIECE];
    const double start_s = vg_now_s();
    for (size_t done = 0; done < bytes; done += PIECE) VG_TRY(vg_write_all(fd, path, piece, PIECE));
    VG_CHECK(fsync(fd) == 0, VG_E_STORAGE, "%s: fsync: %s", path, strerror(errno));
    *mb_per_s = (double)bytes * 1e-6 / fmax(vg_now_s() - start_s, 1e-6);
    return VG_OK;
}

/* Room for the checkpoints that are kept and one more, and how fast one gets there. *free_bytes is -1 where the file
 * system does not tell, as many of FUSE. */
static vg_status probe_storage(const doctor *d, double *mb_per_s, double *free_bytes)
{
    enum { PROBE_BYTES = 64 << 20 };
    char path[4096];
    struct statvfs room;
    VG_TRY(vg_make_directories(d->o->run_folder));
    snprintf(path, sizeof path, "%s/doctor.%s.%ld", d->o->run_folder, vg_comm_host(d->comm), (long)getpid());
    const int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    VG_CHECK(fd >= 0, VG_E_STORAGE, "%s: %s; check run.folder", path, strerror(errno));
    const vg_status st = write_probe(fd, path, PROBE_BYTES, mb_per_s);
    close(fd);
    unlink(path);
    VG_TRY(st);
    VG_CHECK(statvfs(d->o->run_folder, &room) == 0, VG_E_STORAGE, "%s: %s", d->o->run_folder, strerror(errno));
    *free_bytes = room.f_blocks ? (double)room.f_bavail * (double)room.f_frsize : -1;
    return VG_OK;
}

static void check_storage(doctor *d)
{
    double mb_per_s = 0, free_bytes = 0, checkpoint = 0;
    if (probe_storage(d, &mb_per_s, &free_bytes) != VG_OK) {
        say(d, FAIL, "storage", "%s", vg_error_text());
        return;
    }
    for (int i = 0; i < d->o->n_stages; i++)
        checkpoint = fmax(checkpoint, 4 * d->stages[i].n_parameters + 8 * d->stages[i].n_trainable);
    const double need = checkpoint * (double)(d->o->run_checkpoint_keep + 1);
    const bool told = free_bytes >= 0;
    const int level = told && free_bytes < need ? FAIL : mb_per_s < 50 ? WARN : OK;
    char room[40] = "room unknown";
    if (told) snprintf(room, sizeof room, "%.1f GB free", free_bytes * 1e-9);
    say(d, level, "storage", "%s: %.0f MB/s, a checkpoint of %.0f MB takes %.1f s; %s, checkpoints take %.1f GB%s",
        d->o->run_folder, mb_per_s, checkpoint * 1e-6, checkpoint * 1e-6 / mb_per_s, room, need * 1e-9,
        level == FAIL   ? "; make room or lower run.checkpoint_keep"
        : level == WARN ? "; slow, save less often"
                        : "");
}

static void check_split(doctor *d, vg_status (*open)(const vg_options *o, vg_split **out))
{
    vg_split *split = NULL;
    char fine[200] = "";
    const double start_s = vg_now_s();
    vg_status st = open(d->o, &split);
    if (st == VG_OK) st = vg_split_check_images(split);
    if (st == VG_OK)
        snprintf(fine, sizeof fine, "split '%s': %lld images, %lld sentences, opened in %.1f s", vg_split_name(split),
                 (long long)vg_split_image_count(split), (long long)vg_split_sentence_count(split),
                 vg_now_s() - start_s);
    say_status(d, "shards", st, fine);
    vg_split_close(split);
}

static void check_files(doctor *d)
{
    const vg_options *o = d->o;
    vg_tokenizer *tokenizer = NULL;
    const char *weights[] = {o->vision_weights, o->text_weights};
    for (int i = 0; i < 2; i++)
        if (*weights[i])
            say(d, access(weights[i], R_OK) == 0 ? OK : FAIL, "weights", "%s%s%s", weights[i],
                access(weights[i], R_OK) == 0 ? "" : ": ", access(weights[i], R_OK) == 0 ? "" : strerror(errno));
    say_status(d, "tokenizer", vg_open_tokenizer(o, &tokenizer), o->text_tokenizer);
    vg_tokenizer_close(tokenizer);
    check_split(d, vg_open_train_split);
    check_split(d, vg_open_eval_split);
}

static void check_host(doctor *d)
{
    check_libraries(d);
    check_shared_memory(d);
    check_limit(d, "files", RLIMIT_NOFILE, 1024, "ulimit -n 4096");
    check_limit(d, "locked", RLIMIT_MEMLOCK, 64 << 20,
                "GPUs and InfiniBand pin memory; ulimit -l unlimited, in Slurm "
                "PropagateResourceLimitsExcept=MEMLOCK");
    check_files(d);
    check_storage(d);
}

/* ---- what must be alike ---- */

/* What ranks do together follows from it. Collective. */
static vg_status check_configuration(doctor *d)
{
    vg_text yaml = {0};
    vg_status st = vg_comm_agree(d->comm, vg_options_print(d->o, &yaml));
    if (st == VG_OK) st = vg_comm_same(d->comm, yaml.data, yaml.length, "the configuration");
    say_status(d, "options", st, "every rank read the same configuration");
    free(yaml.data);
    return st;
}

/* How far this host's clock is from rank 0's, as well as a barrier tells. Collective. */
static vg_status check_clock(doctor *d)
{
    struct timespec t;
    VG_TRY(vg_comm_barrier(d->comm));
    clock_gettime(CLOCK_REALTIME, &t);
    const double own = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    double root = own;
    VG_TRY(vg_comm_broadcast(d->comm, &root, sizeof root, 0));
    const double off = fabs(own - root);
    say(d,
        off < 1    ? OK
        : off < 60 ? WARN
                   : FAIL,
        "clock", "%.2f s from that of rank 0%s", off,
        off < 1 ? "" : "; logs and file times will not fit together, start ntp or chrony");
    return VG_OK;
}

static void say_memory(doctor *d, double need)
{
    const bool fits = vg_host_holds(need);
    say(d, fits ? OK : FAIL, "memory", "%.1f GB, %d ranks here need %.1f GB%s", vg_host_memory() * 1e-9,
        vg_comm_local_size(d->comm), need * 1e-9, fits ? "" : "; start fewer ranks or lower train.micro_batch");
}

/* The device, the ranks on it, its memory and the host's, and whether all compute alike. Collective. */
static vg_status check_device(doctor *d)
{
    const vg_options *o = d->o;
    const vg_compute_spec spec = {o->train_device, o->train_check, o->train_threads, vg_options_bf16(o)};
    vg_compute compute = {0};
    vg_status st = vg_compute_open(d->comm, &spec, &compute);
    if (st != VG_OK) {
        say(d, FAIL, "device", "%s", vg_error_text());
        return st == VG_E_COMM ? st : VG_OK;
    }
    const char *profile = vg_compute_profile(&compute);
    say(d, *compute.why_cpu ? WARN : OK, "device", "%s, %d threads a rank%s%s", profile, compute.stream.n_threads,
        *compute.why_cpu ? "; no GPU: " : "", compute.why_cpu);
    if (*compute.idle_cores) say(d, WARN, "cores", "%s", compute.idle_cores);
    double host_need = 0;
    st = vg_comm_same(d->comm, profile, strlen(profile), "the numerics profile");
    say_status(d, "alike", st, "every rank computes with the same build on a like machine");
    if (st == VG_OK)
        say_status(d, "room", vg_comm_agree(d->comm, vg_forecast_fits(o, d->comm, &compute, &host_need)),
                   "the device holds every stage");
    if (host_need > 0) say_memory(d, host_need);
    vg_compute_close(&compute);
    return VG_OK;
}

static vg_status print_all(doctor *d)
{
    char *all = NULL;
    size_t bytes = 0;
    const bool first = vg_comm_local_rank(d->comm) == 0; /* the others saw the same host */
    VG_TRY(vg_comm_gather_text(d->comm, d->lines.data, first ? d->lines.length : 0, &all, &bytes));
    if (all) fwrite(all, 1, bytes, stdout);
    free(all);
    VG_TRY(vg_comm_sum_i64(d->comm, &d->failures, 1));
    VG_CHECK(d->failures == 0, VG_E_CONFIG, "%lld findings would end the run; see the lines above",
             (long long)d->failures);
    return VG_OK;
}

vg_status vg_doctor(vg_comm *comm, const vg_options *options)
{
    doctor d = {.comm = comm, .o = options};
    const vg_forecast_data unknown = {0};
    const bool first = vg_comm_local_rank(comm) == 0;
    const vg_status forecast = vg_forecast(options, vg_comm_size(comm), &unknown, NULL, d.stages);
    if (forecast != VG_OK) say(&d, FAIL, "run", "%s", vg_error_text());
    if (forecast == VG_OK && first) check_host(&d);
    say_status(&d, "program", vg_same_program(comm), "every rank runs the same one");
    const bool same = check_configuration(&d) == VG_OK;
    vg_status st = check_clock(&d);
    if (st == VG_OK && same) st = check_device(&d);
    if (st == VG_OK && !first) d.failures = 0; /* its host's first rank counts */
    if (st == VG_OK) st = print_all(&d);
    free(d.lines.data);
    return st;
}
