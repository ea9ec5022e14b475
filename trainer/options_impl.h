/* Between the files of the configuration reader. */
#ifndef VG_TRAINER_OPTIONS_IMPL_H
#define VG_TRAINER_OPTIONS_IMPL_H

#include "trainer/options.h"

/* ---- rows ---- */

typedef enum vg_option_type {
    VG_OPTION_integer,
    VG_OPTION_number,
    VG_OPTION_flag,
    VG_OPTION_text,
    VG_OPTION_list,
    VG_OPTION_scales,
    VG_OPTION_names
} vg_option_type;

typedef enum vg_option_reach { VG_REACH_FREE, VG_REACH_HASHED, VG_REACH_BITS } vg_option_reach;

/* A row of options.def as data. */
typedef struct vg_option {
    const char *key;
    vg_option_type type;
    size_t offset; /* of the field in vg_options or vg_stage */
    const char *initial;
    double min, max;
    const char *choices;
    vg_option_reach reach;
    const char *help;
} vg_option;

/* A row of presets.def. */
typedef struct vg_preset {
    const char *name, *key, *value;
} vg_preset;

enum {
    VG_N_OPTIONS = 0
#define VG_OPTION(...) +1
#include "trainer/options.def"
#undef VG_OPTION
    ,
    VG_N_STAGE_OPTIONS = 0
#define VG_OPTION(...)
#define VG_STAGE_OPTION(...) +1
#include "trainer/options.def"
#undef VG_STAGE_OPTION
#undef VG_OPTION
    ,
    VG_N_PRESETS = 0
#define VG_PRESET(...) +1
#include "trainer/presets.def"
#undef VG_PRESET
};

extern const vg_option vg_option_rows[VG_N_OPTIONS];      /* of vg_options */
extern const vg_option vg_stage_rows[VG_N_STAGE_OPTIONS]; /* of each vg_stage */
extern const vg_preset vg_presets[VG_N_PRESETS];

/* Puts words into the field that the row makes in the struct at `base`; from text, items of a list are parted by
 * commas. What was there is released. Errors: VG_E_CONFIG with the key and what it takes, VG_E_NOMEM. */
vg_status vg_option_set(const vg_option *o, void *base, const vg_option_list *value);
vg_status vg_option_read(const vg_option *o, void *base, const char *text);

/* All fields of a struct: the defaults; gives them back. */
vg_status vg_option_rows_begin(const vg_option *rows, int n, void *base);
void vg_option_rows_release(const vg_option *rows, int n, void *base);

/* Fails: no stage has the name `name[n]`, and the sentence tells which there are. */
vg_status vg_options_no_stage(const vg_options *o, const char *name, size_t n);

/* `text` is copied. */
vg_status vg_list_add(vg_option_list *list, const char *text, size_t n);
void vg_list_release(vg_option_list *list);

/* ---- assignments ---- */

/* One `key: value` as it was found; a sequence has several items, a mapping has items `key=value`. */
typedef struct vg_assignment {
    char *key;
    vg_option_list value;
    int line; /* 0: not from a file */
} vg_assignment;

typedef struct vg_assignments {
    vg_assignment *items;
    int n;
    size_t capacity;
} vg_assignments;

vg_status vg_assignment_add(vg_assignments *all, const char *key, int line, vg_assignment **out);
void vg_assignments_release(vg_assignments *all);

/* YAML to assignments: keys are `section.key` and `schedule.<i>.key`. No anchors, no aliases, at most four levels. */
vg_status vg_assignments_read_yaml(vg_assignments *all, const char *text, size_t n, const char *name);

#endif
