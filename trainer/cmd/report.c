#include "trainer/report.h"

#include "trainer/cmd/arguments.h"
#include "trainer/vlgtr.h"

#include <stdio.h>
#include <string.h>

static vg_status take(const char *name, const vg_argument_list *list, const char **files, int *n)
{
    VG_CHECK(list->n <= VG_REPORT_FILES, VG_E_USAGE, "%s: given more than %d times", name, VG_REPORT_FILES);
    memcpy(files, list->items, (size_t)list->n * sizeof *files);
    *n = list->n;
    return VG_OK;
}

vg_status vg_cmd_report(vg_context *context, int argc, char **argv)
{
    const char *out = "report.html";
    vg_argument_list answers = {0}, galleries = {0};
    const vg_argument table[] = {{.name = "--out", .text = &out},
                                 {.name = "--answers", .list = &answers},
                                 {.name = "--gallery", .list = &galleries}};
    char *words[1];
    int n = 0;
    (void)context;
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, 1, &n));
    VG_CHECK(n == 1, VG_E_USAGE, "the folder of a run is missing: vlgtr report RUN");
    VG_TRY(vg_argument_file("--out", out));
    vg_report_spec spec = {.run = words[0]};
    VG_TRY(take("--answers", &answers, spec.answers, &spec.n_answers));
    VG_TRY(take("--gallery", &galleries, spec.galleries, &spec.n_galleries));
    VG_TRY(vg_report_write(&spec, out));
    printf("%s\n", out);
    return VG_OK;
}
