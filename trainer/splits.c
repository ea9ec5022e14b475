#include "trainer/splits.h"

#include "trainer/model/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

vg_status vg_open_train_split(const vg_options *o, vg_split **out)
{
    const char *room[VG_MAX_DATA_SETS];
    int n = 0;
    const char *const *paths = vg_options_train_paths(o, room, &n);
    VG_CHECK(n > 0, VG_E_CONFIG, "data.shards names no shards; `vlgtr shard import` makes them");
    const vg_split_opening opening = {.without = o->data_without,
                                      .leaked = strcmp(o->data_leaked, "keep") == 0 ? VG_LEAKED_KEPT : VG_LEAKED_OUT,
                                      .against = (const char *const *)o->data_shards.items,
                                      .n_against = o->data_shards.n};
    const vg_status st = vg_split_open_as(paths, n, o->data_train_split, &opening, out);
    return st == VG_OK ? VG_OK : vg_fail_at(st, "data.train_split of %s", o->data_sets.n ? "data.sets" : "data.shards");
}

static vg_status open_whole(const vg_options *o, vg_split **out)
{
    VG_TRY(vg_split_open((const char *const *)o->data_shards.items, o->data_shards.n, o->data_eval_split, out));
    const vg_status st = vg_split_check_images(*out);
    if (st == VG_OK) return VG_OK;
    vg_split_close(*out);
    *out = NULL;
    return st;
}

vg_status vg_open_eval_split(const vg_options *o, vg_split **out)
{
    VG_CHECK(o->data_shards.n > 0, VG_E_CONFIG,
             "data.shards names no shards to evaluate on; `vlgtr shard import` makes them");
    const vg_status st = open_whole(o, out);
    if (st == VG_OK) return VG_OK;
    const bool listed = st == VG_E_DATA && *o->data_without; /* perhaps what is at fault is in the list */
    return vg_fail_at(st, "data.eval_split of data.shards%s",
                      listed ? ", which data.without does not serve (`vlgtr shard filter --without` does)" : "");
}

vg_status vg_open_tokenizer(const vg_options *o, vg_tokenizer **out)
{
    vg_tokenizer *t = NULL;
    VG_CHECK(*o->text_tokenizer, VG_E_CONFIG,
             "text.tokenizer names no folder; one with vocab.json and merges.txt is needed");
    VG_CHECK(access(o->text_tokenizer, F_OK) == 0, vg_file_fault(errno),
             "text.tokenizer: %s: %s; name the folder that holds the phrase encoder's vocab.json and merges.txt",
             o->text_tokenizer, strerror(errno));
    const vg_status st = vg_tokenizer_open(o->text_tokenizer, &t);
    if (st != VG_OK) return vg_fail_at(st, "text.tokenizer");
    if (vg_tokenizer_size(t) <= o->text_vocab) {
        *out = t;
        return VG_OK;
    }
    const int last = vg_tokenizer_size(t) - 1;
    vg_tokenizer_close(t);
    return vg_fail(VG_E_CONFIG, "%s has ids up to %d, but text.vocab is %lld", o->text_tokenizer, last,
                   (long long)o->text_vocab);
}

/* A token has a byte or more, so most phrases need not be encoded for it. */
vg_status vg_count_cut_phrases(const vg_options *o, const vg_split *split, const vg_tokenizer *tokenizer, int64_t *n)
{
    const int most = vg_model_batch_shape(o).text_tokens;
    int32_t *ids = vg_new0_array((size_t)most + 1, sizeof *ids);
    VG_CHECK(ids, VG_E_NOMEM, "no memory for the tokens of a phrase");
    vg_status st = VG_OK;
    *n = 0;
    for (int64_t i = 0; i < vg_split_sentence_count(split) && !o->data_blind && st == VG_OK; i++) {
        vg_sentence s;
        int n_ids = 0;
        vg_split_sentence(split, i, &s);
        if (s.text_bytes + 2 > (size_t)most)
            st = vg_tokenizer_encode(tokenizer, s.text, s.text_bytes, most + 1, ids, &n_ids);
        *n += n_ids > most;
    }
    free(ids);
    return st;
}
