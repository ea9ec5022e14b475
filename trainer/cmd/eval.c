#include "trainer/cmd/arguments.h"
#include "trainer/evaluate.h"
#include "trainer/model/model.h"
#include "trainer/splits.h"
#include "trainer/trained.h"
#include "trainer/vlgtr.h"
#include "trainer/watch.h"

#include <stdio.h>

static double share(int64_t hits, int64_t trials)
{
    return trials ? (double)hits / (double)trials : 0;
}

static void print_score(const vg_score *s)
{
    printf("%-12s %7lld  %.4f   %.4f   %.4f   %.4f  %.4f  %.4f  %.4f  %.4f\n", s->kind, (long long)s->trials,
           share(s->hits50, s->trials), share(s->hits25, s->trials), share(s->hits75, s->trials),
           share(s->hits90, s->trials), share(s->hits5, s->trials), share(s->hits10, s->trials),
           share(s->giou50, s->trials), s->trials ? s->iou / (double)s->trials : 0);
}

static vg_status report(const vg_trained *t, const vg_evaluation *e, const vg_split *split, const char *out,
                        const char *gallery)
{
    enum { TILES = 24 };
    int64_t n_cut = 0;
    VG_TRY(vg_count_cut_phrases(&t->options, split, t->tokenizer, &n_cut));
    printf("split %s, %lld images\n", vg_split_name(split), (long long)vg_split_image_count(split));
    printf("%-12s %7s  %-6s  %-6s  %-6s  %-6s  %-6s %-6s %-6s  %s\n", "kind", "phrases", "acc@0.5", "acc@.25",
           "acc@.75", "acc@.9", "P@5", "P@10", "giou.5", "mean IoU");
    for (int i = 0; i < e->n_scores; i++) print_score(&e->scores[i]);
    if (e->more_kinds) printf("phrases of other kinds than these %d are in the first row alone\n", e->n_scores - 1);
    if (e->scores[0].unread)
        printf("%lld of the phrases have no answer since their images cannot be read: they count as misses\n",
               (long long)e->scores[0].unread);
    if (n_cut)
        printf("%lld of the phrases have more than %d tokens (text.max_tokens): their ends were cut off\n",
               (long long)n_cut, vg_model_batch_shape(&t->options).text_tokens);
    if (out) VG_TRY(vg_evaluation_write(e, split, out));
    return gallery ? vg_evaluation_draw(e, split, TILES, gallery) : VG_OK;
}

static vg_status check_files(const char *out, const char *gallery)
{
    VG_TRY(vg_argument_file("--out", out));
    return vg_argument_file("--gallery", gallery);
}

static vg_status evaluate(vg_comm *comm, const vg_trained *t, const char *split_name, const char *out,
                          const char *gallery)
{
    const vg_options *o = &t->options;
    vg_split *split = NULL;
    VG_TRY(vg_watch_ranks(comm, o));
    VG_TRY(vg_comm_agree(comm, vg_split_open((const char *const *)o->data_shards.items, o->data_shards.n,
                                             split_name ? split_name : o->data_eval_split, &split)));
    const vg_eval_spec spec = {.comm = comm,
                               .options = o,
                               .split = split,
                               .tokenizer = t->tokenizer,
                               .n_workers = vg_compute_workers(&t->compute, o->data_workers),
                               .answer = t->answer};
    vg_evaluation e = {0};
    vg_status st = vg_evaluate(&spec, &e);
    if (st == VG_OK && vg_comm_rank(comm) == 0) st = report(t, &e, split, out, gallery);
    st = vg_comm_agree(comm, st);
    vg_evaluation_release(&e);
    vg_split_close(split);
    return st;
}

vg_status vg_cmd_eval(vg_context *context, int argc, char **argv)
{
    const char *split = NULL, *out = NULL, *gallery = NULL, *device = "auto";
    vg_argument_list sets = {0};
    const vg_argument table[] = {{.name = "--split", .text = &split},
                                 {.name = "--out", .text = &out},
                                 {.name = "--gallery", .text = &gallery},
                                 {.name = "--device", .text = &device},
                                 {.name = "--set", .list = &sets}};
    char *words[1];
    int n_words = 0;
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, 1, &n_words));
    VG_CHECK(n_words == 1, VG_E_USAGE, "a run or a checkpoint is missing: vlgtr eval RUN|CHECKPOINT");
    VG_TRY(vg_argument_device(device));
    VG_TRY(vg_comm_agree(context->comm, vg_comm_rank(context->comm) == 0 ? check_files(out, gallery) : VG_OK));
    vg_trained trained;
    VG_TRY(vg_trained_open(context->comm, words[0], device, sets.items, sets.n, &trained));
    const vg_status st = evaluate(context->comm, &trained, split, out, gallery);
    vg_trained_release(&trained);
    return st;
}
