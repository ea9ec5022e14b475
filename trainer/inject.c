#include "trainer/inject.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef enum when { ONCE, FROM } when;

static const struct {
    const char *name, *help;
    when when;
} faults[] = {
#define VG_FAULT(name, when, help) {#name, help, when},
#include "trainer/faults.def"
#undef VG_FAULT
};

static int find_fault(const char *name, size_t length)
{
    for (int i = 0; i < VG_FAULTS; i++)
        if (strlen(faults[i].name) == length && strncmp(faults[i].name, name, length) == 0) return i;
    return -1;
}

vg_status vg_injections_add(vg_injections *injections, const char *text)
{
    vg_injection *item = &injections->items[injections->n];
    const size_t name = strcspn(text, "@");
    const int fault = find_fault(text, name);
    int end = 0;
    VG_CHECK(injections->n < VG_MAX_INJECTIONS, VG_E_USAGE, "--inject: given more than %d times", VG_MAX_INJECTIONS);
    VG_CHECK(fault >= 0, VG_E_USAGE, "--inject: there is no fault '%.*s'; see vlgtr train --help", (int)name, text);
    VG_CHECK(sscanf(text + name, "@%d,%" SCNd64 "%n", &item->rank, &item->step, &end) == 2 &&
                 !text[name + (size_t)end] && item->rank >= 0 && item->step > 0,
             VG_E_USAGE, "--inject: '%s' is not NAME@RANK,STEP", text);
    item->fault = (vg_fault)fault;
    injections->n++;
    return VG_OK;
}

vg_status vg_injections_help(vg_text *out)
{
    for (int i = 0; i < VG_FAULTS; i++) VG_TRY(vg_text_add(out, "    %-8s %s\n", faults[i].name, faults[i].help));
    return VG_OK;
}

static void fill_disk(void)
{
    const struct rlimit limit = {.rlim_cur = 16 << 10, .rlim_max = 16 << 10};
    setrlimit(RLIMIT_FSIZE, &limit);
}

static void bring_about(vg_fault fault)
{
    if (fault == VG_FAULT_kill) raise(SIGKILL);
    if (fault == VG_FAULT_crash) abort();
    if (fault == VG_FAULT_stop) raise(SIGSTOP);
    if (fault == VG_FAULT_full) fill_disk();
    while (fault == VG_FAULT_hang) pause();
}

void vg_inject(const vg_injections *injections, int rank, int64_t step)
{
    for (int i = 0; i < injections->n; i++) {
        const vg_injection *item = &injections->items[i];
        if (item->rank != rank || item->step != step) continue;
        vg_log_rank("step %" PRId64 ": fault '%s' is injected", step, faults[item->fault].name);
        bring_about(item->fault);
    }
}

bool vg_injected(const vg_injections *injections, vg_fault fault, int rank, int64_t step)
{
    for (int i = 0; i < injections->n; i++) {
        const vg_injection *item = &injections->items[i];
        if (item->fault != fault || item->rank != rank) continue;
        if (faults[fault].when == FROM ? step >= item->step : step == item->step) return true;
    }
    return false;
}
