/* The verbs of `vlgtr shard`; argv[0] is the verb. Errors: VG_E_USAGE, and those of data/shard_tools.h. */
#ifndef VG_TRAINER_CMD_SHARD_VERBS_H
#define VG_TRAINER_CMD_SHARD_VERBS_H

#include "kernels/base/base.h"

enum { VG_MOST_SHARD_PATHS = 256 }; /* named on a command line */

#define VG_SHARD_VERB(name, words, help) vg_status vg_shard_verb_##name(int argc, char **argv);
#define VG_SHARD_ARGUMENT(verb, argument, help)
#include "trainer/shard_verbs.def"
#undef VG_SHARD_VERB
#undef VG_SHARD_ARGUMENT

/* Fails with the usage of a verb: VG_E_USAGE. */
vg_status vg_shard_usage(const char *verb);

#endif
