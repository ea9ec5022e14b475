/* The run configuration: YAML in, checked values out, and back to YAML.
 *
 *     vg_options o;
 *     VG_TRY(vg_options_read(&o, "run.yaml", sets, n_sets));     preset, then the file, then each --set key=value
 *     ... o.fusion_width, o.schedule[0].lr ...
 *     vg_options_release(&o);
 *
 * Every option is a row of options.def; `section.name` is the YAML key and section_name the field. */
#ifndef VG_TRAINER_OPTIONS_H
#define VG_TRAINER_OPTIONS_H

#include "kernels/base/base.h"

typedef int64_t vg_option_integer;
typedef double vg_option_number;
typedef bool vg_option_flag;
typedef char *vg_option_text;

typedef struct vg_option_list {
    char **items;
    int n;
} vg_option_list;

/* "pattern=scale" items, in the order given. */
typedef vg_option_list vg_option_scales;

/* "word=text" items, in the order given. */
typedef vg_option_list vg_option_names;

typedef struct vg_stage {
#define VG_OPTION(...)
#define VG_STAGE_OPTION(name, type, ...) vg_option_##type name;
#include "trainer/options.def"
#undef VG_STAGE_OPTION
#undef VG_OPTION
} vg_stage;

enum { VG_MAX_STAGES = 16, VG_MAX_DATA_SETS = 16, VG_MAX_SIDES = 8 };
enum { VG_KEY_BYTES = 256 }; /* of a key, a pattern or a name, with the NUL behind it */

typedef struct vg_options {
#define VG_OPTION(section, name, type, ...) vg_option_##type section##_##name;
#include "trainer/options.def"
#undef VG_OPTION
    vg_stage schedule[VG_MAX_STAGES];
    int n_stages;
} vg_options;

/* Reads a YAML file (NULL: defaults only) and the assignments `key=value` on top of it. Keys of stages are
 * schedule.<index or name>.<key>; items of a list are parted by commas. Errors: VG_E_CONFIG with file and line; an
 * unknown key names the nearest one. On failure there is nothing to release. */
vg_status vg_options_read(vg_options *o, const char *path, const char *const *sets, int n_sets);

/* The same from text; `name` stands for the file in messages. */
vg_status vg_options_parse(vg_options *o, const char *text, size_t n, const char *name, const char *const *sets,
                           int n_sets);
void vg_options_release(vg_options *o);

/* The shard paths to train on: those of data.sets where there are some (through `room`), else data.shards. Borrowed. */
const char *const *vg_options_train_paths(const vg_options *o, const char *room[VG_MAX_DATA_SETS], int *n);

/* Index of the set that the n bytes at `name` name in data.sets, -1 for none. */
int vg_options_set_of(const vg_options *o, const char *name, size_t n);

/* The sides of a stage's pictures, at least one; how many. */
int vg_options_sides(const vg_options *o, const vg_stage *stage, int sides[VG_MAX_SIDES]);

/* The largest side of any stage's pictures. */
int vg_options_largest_side(const vg_options *o);

/* What holds between options: heads divide widths, sides are multiples of patches. Part of reading. */
vg_status vg_options_check(const vg_options *o);

/* The complete configuration as YAML that vg_options_parse reads back to the same values. */
vg_status vg_options_print(const vg_options *o, vg_text *out);

/* train.precision is bf16. */
bool vg_options_bf16(const vg_options *o);

/* XXH3 of what shapes the bits of the weights. */
vg_status vg_options_hash(const vg_options *o, uint64_t *hash);

/* Adds the first thing that shapes other bits, such as "train.beta1 was 0.9 and is 0.8"; nothing where there is none.
 */
vg_status vg_options_difference(const vg_options *then, const vg_options *now, vg_text *out);

/* One line per option with its default and range, for --help. */
vg_status vg_options_help(vg_text *out);

#endif
