/* Which split an image belongs to where its dataset has none: as a list says, else by shares. Inside data/import. */
#ifndef VG_DATA_SPLIT_RULE_IMPL_H
#define VG_DATA_SPLIT_RULE_IMPL_H

#include "data/import.h"

typedef struct vg_split_rule vg_split_rule;

/* Reads the source's list and shares. Errors: VG_E_USAGE (shares), VG_E_DATA (the list, with its line), VG_E_NOMEM. */
vg_status vg_split_rule_new(const vg_import_source *source, vg_split_rule **out);
void vg_split_rule_free(vg_split_rule *rule);

/* The split of an image, NULL for one that the list leaves out. Borrowed until free. */
const char *vg_split_rule_of(vg_split_rule *rule, int64_t image_id, const char *file_name);

/* *n lines of the list name no image that was asked for; *first_line: the first, where there is one. Errors: VG_E_DATA
 * where that is all of them. */
vg_status vg_split_rule_unmet(const vg_split_rule *rule, int64_t *n, int64_t *first_line);

#endif
