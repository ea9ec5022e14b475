/* The splits and the tokenizer that a run configuration names. Local. */
#ifndef VG_TRAINER_SPLITS_H
#define VG_TRAINER_SPLITS_H

#include "data/shard.h"
#include "data/tokenizer.h"
#include "trainer/options.h"

/* What trains: data.train_split of data.sets, or of data.shards, without the records that data.without lists, nor, as
 * data.leaked says, images that another set of data.sets and data.shards evaluates on. Errors: VG_E_CONFIG (no shards),
 * VG_E_DATA, VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_open_train_split(const vg_options *o, vg_split **out);

/* What is evaluated: all of data.eval_split of data.shards, and its images are there. An accuracy is one of every
 * sentence, so data.without, which may name sentences of this split, does not serve it. Errors: as above. */
vg_status vg_open_eval_split(const vg_options *o, vg_split **out);

/* text.tokenizer, whose ids all have a row in the embedding table. Errors: VG_E_CONFIG (some have none), VG_E_DATA,
 * VG_E_NOMEM. */
vg_status vg_open_tokenizer(const vg_options *o, vg_tokenizer **out);

/* How many sentences of a split have more tokens than the phrase encoder reads: their ends are cut off. Errors:
 * VG_E_NOMEM. */
vg_status vg_count_cut_phrases(const vg_options *o, const vg_split *split, const vg_tokenizer *tokenizer, int64_t *n);

#endif
