#include "checkpoints/checkpoint.h"

#include "trainer/cmd/arguments.h"
#include "trainer/vlgtr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static vg_status list(const char *folder)
{
    char **paths = NULL;
    int n = 0;
    VG_TRY(vg_checkpoint_list(folder, &paths, &n));
    for (int i = 0; i < n; i++) {
        vg_checkpoint_info *info = NULL;
        if (vg_checkpoint_open(paths[i], &info) != VG_OK) {
            printf("%s  unreadable: %s\n", paths[i], vg_error_text());
            continue;
        }
        uint64_t bytes = 0;
        for (int f = 0; f < info->n_files; f++) bytes += info->files[f].bytes;
        printf("%s  step %lld  stage %lld  %.1f MB in %d files  generation %llu", paths[i], (long long)info->step,
               (long long)info->stage, (double)bytes * 1e-6, info->n_files, (unsigned long long)info->generation);
        const double accuracy = vg_checkpoint_number_of(info, VG_CHECKPOINT_ACCURACY, -1);
        if (accuracy >= 0) printf("  acc@0.5 %.4f", accuracy);
        printf("\n");
        vg_checkpoint_info_free(info);
    }
    vg_checkpoint_list_free(paths, n);
    VG_CHECK(n > 0, VG_E_USAGE, "%s: there is no checkpoint; name the folder `checkpoints` of a run", folder);
    return VG_OK;
}

static vg_status verify(const char *path)
{
    VG_TRY(vg_checkpoint_verify(path));
    printf("%s: every file has its size and hash\n", path);
    return VG_OK;
}

static vg_status export_weights(const char *path, const char *out, const char *tower)
{
    char prefix[32] = "";
    VG_CHECK(!tower || strcmp(tower, "vision") == 0 || strcmp(tower, "text") == 0, VG_E_USAGE,
             "--tower: '%s' is neither vision nor text", tower);
    const char *dot = strrchr(out, '.');
    VG_CHECK(dot && strcmp(dot, ".safetensors") == 0, VG_E_USAGE,
             "%s: what is written is a safetensors file, no other kind; give it a name that ends in .safetensors", out);
    if (tower) snprintf(prefix, sizeof prefix, "%s.", tower);
    VG_TRY(vg_checkpoint_export(path, prefix, out));
    printf("%s\n", out);
    return VG_OK;
}

static vg_status prune(const char *folder, const char *last, const char *every, bool best)
{
    int64_t n_last = 0, n_every = 0;
    VG_CHECK(last, VG_E_USAGE, "--keep says how many of the newest checkpoints stay");
    VG_TRY(vg_argument_integer("--keep", last, 1, INT32_MAX, &n_last));
    VG_TRY(vg_argument_integer("--every", every, 1, INT64_MAX, &n_every));
    VG_TRY(vg_checkpoint_prune(folder, &(vg_checkpoint_retention){(int)n_last, n_every, best}));
    return list(folder);
}

static vg_status average(const char *const *paths, int n, const char *out)
{
    VG_TRY(vg_checkpoint_average(paths, n, out));
    printf("%s: the mean of %d checkpoints\n", out, n);
    return VG_OK;
}

static void print_difference(void *context, const vg_checkpoint_difference *d)
{
    (void)context;
    if (d->where)
        printf("%s  %s\n", d->name, d->where);
    else
        printf("%s  %lld of %lld values differ, by up to %.3g\n", d->name, (long long)d->values, (long long)d->count,
               d->largest);
}

static vg_status diff(const char *a, const char *b)
{
    int64_t differ = 0;
    VG_TRY(vg_checkpoint_diff(a, b, print_difference, NULL, &differ));
    VG_CHECK(!differ, VG_E_DATA, "%s and %s differ in %lld parameters", a, b, (long long)differ);
    printf("every parameter has the same bits\n");
    return VG_OK;
}

static const char usage[] = "vlgtr checkpoint ls FOLDER | verify CHECKPOINT | export CHECKPOINT OUT.safetensors "
                            "[--tower vision|text] | prune FOLDER --keep N [--every STEPS] [--best] | "
                            "average OUT CHECKPOINT... | diff CHECKPOINT CHECKPOINT";

vg_status vg_cmd_checkpoint(vg_context *context, int argc, char **argv)
{
    enum { MAX_WORDS = 256 };
    const char *tower = NULL, *last = NULL, *every = NULL;
    bool best = false;
    const vg_argument table[] = {{.name = "--tower", .text = &tower},
                                 {.name = "--keep", .text = &last},
                                 {.name = "--every", .text = &every},
                                 {.name = "--best", .flag = &best}};
    char *words[MAX_WORDS];
    int n = 0;
    (void)context;
    if (vg_arguments_ask_help(argc, argv)) return printf("usage: %s\n", usage), VG_OK;
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, MAX_WORDS, &n));
    const bool exports = n && strcmp(words[0], "export") == 0, prunes = n && strcmp(words[0], "prune") == 0;
    VG_CHECK(exports || !tower, VG_E_USAGE, "--tower is of `vlgtr checkpoint export`");
    VG_CHECK(prunes || !(last || every || best), VG_E_USAGE,
             "--keep, --every and --best are of `vlgtr checkpoint prune`");
    if (n == 2 && strcmp(words[0], "ls") == 0) return list(words[1]);
    if (n == 2 && strcmp(words[0], "verify") == 0) return verify(words[1]);
    if (n == 3 && exports) return export_weights(words[1], words[2], tower);
    if (n == 2 && prunes) return prune(words[1], last, every, best);
    if (n > 2 && strcmp(words[0], "average") == 0) return average((const char *const *)words + 2, n - 2, words[1]);
    if (n == 3 && strcmp(words[0], "diff") == 0) return diff(words[1], words[2]);
    return vg_fail(VG_E_USAGE, "%s", usage);
}
