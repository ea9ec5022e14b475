/* Evaluation while training: of the weights, or of their average where one is kept. */
#include "trainer/loop_impl.h"

#include <stdio.h>

static vg_status open_eval_phrases(vg_run *r)
{
    if (!r->stage->text || r->eval_phrases.features) return VG_OK;
    const vg_feature_source source = vg_run_feature_source(r, r->eval_split);
    return vg_phrases_open(&r->eval_phrases, &source, false, r->stage->text);
}

static void say_scores(vg_run *r, const vg_evaluation *e, double accuracy)
{
    char line[1024];
    int n = snprintf(line, sizeof line, "step %lld  eval %s  acc@0.5 %.4f", (long long)r->step, r->o->data_eval_split,
                     accuracy);
    vg_metrics_number(r->metrics, r->step, VG_METRIC_acc50, accuracy);
    vg_metrics_number(r->metrics, r->step, VG_METRIC_eval_unread, (double)e->scores[0].unread);
    for (int i = 1; i < e->n_scores && n < (int)sizeof line - 64; i++)
        n += snprintf(line + n, sizeof line - (size_t)n, "  %s %.3f", e->scores[i].kind,
                      (double)e->scores[i].hits50 / (double)e->scores[i].trials);
    vg_metrics_say(r->metrics, "%s", line);
    if (e->scores[0].unread)
        vg_metrics_say(r->metrics,
                       "warning: %lld of %lld phrases have no answer since their images cannot be read: they "
                       "count as misses",
                       (long long)e->scores[0].unread, (long long)e->scores[0].trials);
}

/* Before an evaluation the average takes the place of the weights, and gives it back afterwards. */
static vg_status exchange_average(vg_run *r)
{
    return r->params->average ? vg_params_swap_average(r->params) : VG_OK;
}

vg_status vg_run_evaluate(vg_run *r)
{
    vg_run_phase(r, VG_PHASE_evaluate);
    VG_TRY(open_eval_phrases(r));
    const vg_eval_spec spec = {.comm = r->comm,
                               .options = r->o,
                               .split = r->eval_split,
                               .tokenizer = r->tokenizer,
                               .n_workers = vg_compute_workers(&r->compute, r->o->data_workers),
                               .answer = r->stage->answer,
                               .phrases = r->stage->text ? &r->eval_phrases : NULL};
    VG_TRY(vg_comm_leave(r->comm, vg_run_gather_average(r)));
    VG_TRY(vg_comm_agree(r->comm, exchange_average(r)));
    vg_evaluation e = {0};
    vg_status st = vg_evaluate(&spec, &e);
    const bool goes_on = st == VG_OK || st == VG_E_STOPPED; /* with a save, in the latter case */
    if (goes_on) VG_KEEP(st, vg_comm_agree(r->comm, exchange_average(r)));
    if (st != VG_OK) {
        vg_evaluation_release(&e);
        return st;
    }
    r->accuracy = (double)e.scores[0].hits50 / (double)e.scores[0].trials;
    r->evaluated_step = e.scores[0].trials ? r->step : 0;
    if (r->metrics) say_scores(r, &e, r->accuracy);
    vg_evaluation_release(&e);
    return vg_run_add_accuracy(r);
}
