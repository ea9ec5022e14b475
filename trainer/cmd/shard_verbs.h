/* The verbs of `vlgtr shard` that have a file of their own; argv[0] is the verb. Errors: VG_E_USAGE, and those of
 * data/shard_tools.h. */
#ifndef VG_TRAINER_CMD_SHARD_VERBS_H
#define VG_TRAINER_CMD_SHARD_VERBS_H

#include "kernels/base/base.h"

enum { VG_MOST_SHARD_PATHS = 256 }; /* named on a command line */

vg_status vg_shard_verb_filter(int argc, char **argv);
vg_status vg_shard_verb_inspect(int argc, char **argv);
vg_status vg_shard_verb_leakage(int argc, char **argv);
vg_status vg_shard_verb_merge(int argc, char **argv);
vg_status vg_shard_verb_repack(int argc, char **argv);
vg_status vg_shard_verb_split(int argc, char **argv);
vg_status vg_shard_verb_verify(int argc, char **argv);

#endif
