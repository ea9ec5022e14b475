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
    vg_status st = VG_OK;
    for (int i = 0; i < n; i++) {
        vg_checkpoint_info *info = NULL;
        if (vg_checkpoint_open(paths[i], &info) != VG_OK) {
            printf("%s  unreadable: %s\n", paths[i], vg_error_text());
            continue;
        }
        uint64_t bytes = 0;
        for (int f = 0; f < info->n_files; f++) bytes += info->files[f].bytes;
        printf("%s  step %lld  stage %lld  %.1f MB in %d files  generation %llu\n", paths[i], (long long)info->step,
               (long long)info->stage, (double)bytes * 1e-6, info->n_files, (unsigned long long)info->generation);
        vg_checkpoint_info_free(info);
    }
    vg_checkpoint_list_free(paths, n);
    return st;
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
    if (tower) snprintf(prefix, sizeof prefix, "%s.", tower);
    VG_TRY(vg_checkpoint_export(path, prefix, out));
    printf("%s\n", out);
    return VG_OK;
}

vg_status vg_cmd_checkpoint(vg_context *context, int argc, char **argv)
{
    const char *tower = NULL;
    const vg_argument table[] = {{.name = "--tower", .text = &tower}};
    char *words[3];
    int n = 0;
    (void)context;
    VG_TRY(vg_arguments_read(argc, argv, table, 1, words, 3, &n));
    if (n == 2 && strcmp(words[0], "ls") == 0) return list(words[1]);
    if (n == 2 && strcmp(words[0], "verify") == 0) return verify(words[1]);
    if (n == 3 && strcmp(words[0], "export") == 0) return export_weights(words[1], words[2], tower);
    return vg_fail(VG_E_USAGE, "vlgtr checkpoint ls FOLDER | verify CHECKPOINT | export CHECKPOINT OUT.safetensors "
                               "[--tower vision|text]");
}
