#include "trainer/trained.h"

#include "checkpoints/checkpoint.h"
#include "trainer/process.h"
#include "trainer/splits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

double vg_hash_number(uint64_t hash)
{
    return (double)(hash >> 11);
}

/* A run's folder holds its checkpoints one level down. */
vg_status vg_trained_choose(vg_comm *comm, const char *path, char **out)
{
    char below[4096];
    struct stat info;
    snprintf(below, sizeof below, "%s/checkpoints", path);
    const bool is_run = stat(below, &info) == 0 || !vg_file_absent(errno);
    VG_TRY(vg_checkpoint_choose(comm, is_run ? below : path, out));
    if (*out) return VG_OK;
    const bool absent = stat(path, &info) != 0;
    return vg_fail(VG_E_USAGE,
                   "%s: there is no checkpoint%s%s; name a run that has saved one, or one itself, a folder that has "
                   "manifest.json",
                   path, absent ? ": " : "", absent ? strerror(errno) : "");
}

vg_status vg_trained_weights(const char *checkpoint, vg_params *params)
{
    VG_TRY(vg_checkpoint_load_weights(checkpoint, params));
    return vg_checkpoint_load_average(checkpoint, params);
}

static vg_status read_manifest(vg_trained *t, const char *const *sets, int n_sets)
{
    vg_checkpoint_info *info = NULL;
    VG_TRY(vg_checkpoint_open(t->path, &info));
    const vg_status st =
        vg_options_parse(&t->options, info->configuration, strlen(info->configuration), "configuration", sets, n_sets);
    t->trained_tokenizer = vg_checkpoint_number_of(info, VG_TOKENIZER_NUMBER, 0);
    vg_checkpoint_info_free(info);
    return st == VG_OK ? VG_OK : vg_fail_at(st, "%s", t->path);
}

static vg_status compile(vg_trained *t)
{
    const vg_backend *backend = t->compute.backend;
    vg_stream *stream = &t->compute.stream;
    vg_graph *g = NULL;
    const vg_program_spec spec = {.shape = vg_model_batch_shape(&t->options)};
    VG_TRY(vg_graph_new(t->params, &g));
    const bool bf16 = vg_options_bf16(&t->options) && backend->to_bf16; /* what was trained so may answer on the CPU */
    vg_status st = vg_model_build(&t->options, &spec, t->params, g);
    if (st == VG_OK) st = vg_model_plan(g, t->params, backend, stream->n_threads, bf16, &t->answer);
    vg_graph_free(g);
    if (st == VG_OK) st = vg_params_place(t->params, backend->device, stream);
    if (st == VG_OK) st = backend->device->allocate(stream, vg_program_arena_bytes(t->answer), &t->arena);
    return st == VG_OK ? vg_program_attach(t->answer, t->arena.base) : st;
}

static vg_status open_trained(vg_trained *t)
{
    VG_TRY(vg_params_new(&t->params));
    VG_TRY(vg_model_declare(&t->options, t->params));
    VG_TRY(vg_params_layout(t->params, NULL, 0));
    VG_TRY(vg_trained_weights(t->path, t->params));
    VG_TRY(vg_open_tokenizer(&t->options, &t->tokenizer));
    return compile(t);
}

vg_status vg_trained_open(vg_comm *comm, const char *path, const char *device, const char *const *sets, int n_sets,
                          vg_trained *out)
{
    vg_trained t = {0};
    vg_status st = vg_trained_choose(comm, path, &t.path);
    if (st == VG_OK) st = vg_comm_agree(comm, read_manifest(&t, sets, n_sets));
    if (st == VG_OK) st = vg_compute_open(comm, &(vg_compute_spec){.device = device}, &t.compute);
    if (st == VG_OK) st = vg_comm_agree(comm, open_trained(&t));
    if (st != VG_OK) {
        vg_trained_release(&t);
        return st;
    }
    if (t.trained_tokenizer && t.trained_tokenizer != vg_hash_number(vg_tokenizer_hash(t.tokenizer)))
        vg_log_root("warning: %s holds another tokenizer than %s was trained with: its answers mean little",
                    t.options.text_tokenizer, t.path);
    if (*t.compute.why_cpu) vg_log_root("computing on the CPU: %s", t.compute.why_cpu);
    if (*t.compute.idle_cores) vg_log_root("warning: %s", t.compute.idle_cores);
    *out = t;
    return VG_OK;
}

void vg_trained_release(vg_trained *trained)
{
    vg_program_free(trained->answer);
    if (trained->compute.backend) trained->compute.backend->device->release(&trained->compute.stream, &trained->arena);
    vg_tokenizer_close(trained->tokenizer);
    vg_params_free(trained->params);
    vg_compute_close(&trained->compute);
    if (trained->options.model_preset) vg_options_release(&trained->options);
    free(trained->path);
    *trained = (vg_trained){0};
}
