/* Any bytes as a manifest, once as they are and once with the hash that they should have: refused, or a whole info. */
#include "checkpoints/checkpoint_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const char *text, size_t size)
{
    vg_checkpoint_info *info = NULL;
    if (vg_manifest_parse("input", text, size, &info) != VG_OK) return;
    if (info->n_files < 1 || strcmp(info->files[0].name, "weights.safetensors") != 0) abort();
    for (int i = 0; i < info->n_files; i++)
        if (strchr(info->files[i].name, '/')) abort(); /* would lead out of the folder */
    vg_checkpoint_info_free(info);
}

/* Without it the hash guards everything behind it from the fuzzer, too. */
static void parse_with_hash(const char *text, size_t size)
{
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    char hash[24];
    if (json_is_object(root)) {
        json_object_del(root, "xxh3");
        char *dump = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
        snprintf(hash, sizeof hash, "%016" PRIx64, (uint64_t)XXH3_64bits(dump, strlen(dump)));
        free(dump);
        json_object_set_new(root, "xxh3", json_string(hash));
        dump = json_dumps(root, JSON_COMPACT);
        parse(dump, strlen(dump));
        free(dump);
    }
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    parse((const char *)data, size);
    parse_with_hash((const char *)data, size);
    return 0;
}
