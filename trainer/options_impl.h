/* Between the files of the configuration reader. */
#ifndef VG_TRAINER_OPTIONS_IMPL_H
#define VG_TRAINER_OPTIONS_IMPL_H

#include "trainer/options.h"

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

vg_status vg_list_add(vg_option_list *list, const char *text, size_t n);
void vg_list_release(vg_option_list *list);
vg_status vg_assignment_add(vg_assignments *all, const char *key, int line, vg_assignment **out);
void vg_assignments_release(vg_assignments *all);

/* YAML to assignments: keys are `section.key` and `schedule.<i>.key`. No anchors, no aliases, at most four levels. */
vg_status vg_assignments_read_yaml(vg_assignments *all, const char *text, size_t n, const char *name);

#endif
