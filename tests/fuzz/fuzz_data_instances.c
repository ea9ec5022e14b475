/* Any bytes as one of the two files of the RefCOCO layout, beside a good one of the other kind: instances.json when
 * they start with a brace, else refs(x).p. Refused with a sentence, or records that a shard takes. */
#define _XOPEN_SOURCE 700 /* mkdtemp */
#include "tests/fuzz/import_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char good_json[] =
    "{\"images\": [{\"id\": 1, \"file_name\": \"a.jpg\", \"width\": 40, \"height\": 30}], \"annotations\": [{\"id\": "
    "5, "
    "\"image_id\": 1, \"bbox\": [1, 2.5, 10, 11]}, {\"id\": 6, \"image_id\": 1, \"bbox\": [0, 0, 40, 30]}]}";

/* [{ref_id: 2, image_id: 1, ann_id: 5, ann_ids: [5, 6], split: "testAB", sentences: [{sent_id: 3, sent: "dog"}]}] */
static const char good_refs[] =
    "](dS'ref_id'\nI2\nsS'image_id'\nI1\nsS'ann_id'\nI5\nsS'ann_ids'\n(lI5\naI6\nasS'split'\n"
    "S'testAB'\nsS'sentences'\n(l(dS'sent_id'\nI3\nsS'sent'\nS'dog'\nsasa.";

static char folder[] = "/tmp/vlgtr-fuzz-XXXXXX";
static char json_path[64], refs_path[64];

static void folder_remove(void)
{
    unlink(json_path);
    unlink(refs_path);
    rmdir(folder);
}

static void folder_make(void)
{
    if (!mkdtemp(folder)) abort();
    snprintf(json_path, sizeof json_path, "%s/instances.json", folder);
    snprintf(refs_path, sizeof refs_path, "%s/refs(x).p", folder);
    atexit(folder_remove);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!json_path[0]) folder_make();
    const bool is_json = size > 0 && data[0] == '{';
    fuzz_write(is_json ? json_path : refs_path, data, size);
    if (is_json)
        fuzz_write(refs_path, good_refs, sizeof good_refs - 1);
    else
        fuzz_write(json_path, good_json, sizeof good_json - 1);
    fuzz_read("refcoco", folder, "x", folder);
    return 0;
}
