/* Any bytes as one of the files that importers read, the others of its set being good ones: the first byte says which.
 */
#define _XOPEN_SOURCE 700 /* mkdtemp */
#include "tests/fuzz/import_fuzz.h"

#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct annotation_file {
    char letter;
    const char *set, *root; /* below the folder of the fuzzer */
    const char *path;
    const char *good;
} annotation_file;

static const annotation_file files[] = {
    {'j', "jsonl", "a.jsonl", "a.jsonl", "{}"},
    {'r', "vg", "vg", "vg/region_descriptions.json",
     "[{\"id\": 1, \"regions\": [{\"region_id\": 5, \"phrase\": \"dog\", \"x\": 1, \"y\": 1, \"width\": 3, \"height\": "
     "3}]}]"},
    {'i', "vg", "vg", "vg/image_data.json", "[{\"image_id\": 1, \"width\": 40, \"height\": 30}]"},
    {'c', "coco-detection", "c.json", "c.json", "{}"},
    {'x', "flickr30k", "f", "f/Annotations/1.xml",
     "<annotation><size><width>40</width><height>30</height></size><object><name>5</name><bndbox><xmin>1</xmin>"
     "<ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"},
    {'s', "flickr30k", "f", "f/Sentences/1.txt", "[/EN#5/people A man] stands .\n"},
    {'t', "flickr30k", "f", "f/test.txt", "1\n"},
};

enum { N_FILES = sizeof files / sizeof *files };

static const char *const folders[] = {"f", "f/Annotations", "f/Sentences", "vg"};

static char folder[] = "/tmp/vlgtr-fuzz-XXXXXX";
static bool is_made;

static char *below(const char *name, char path[96])
{
    snprintf(path, 96, "%s/%s", folder, name);
    return path;
}

static void folder_remove(void)
{
    char path[96];
    for (size_t i = 0; i < N_FILES; i++) unlink(below(files[i].path, path));
    for (size_t i = sizeof folders / sizeof *folders; i-- > 0;) rmdir(below(folders[i], path));
    rmdir(folder);
}

static void folder_make(void)
{
    char path[96];
    is_made = true;
    if (!mkdtemp(folder)) abort();
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (mkdir(below(folders[i], path), 0700) != 0) abort();
    for (size_t i = 0; i < N_FILES; i++) fuzz_write(below(files[i].path, path), files[i].good, strlen(files[i].good));
    atexit(folder_remove);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[96], root[96];
    if (!is_made) folder_make();
    if (size == 0) return 0;
    const annotation_file *file = &files[data[0] % N_FILES];
    for (size_t i = 0; i < N_FILES; i++)
        if (files[i].letter == (char)data[0]) file = &files[i];
    fuzz_write(below(file->path, path), data + 1, size - 1);
    fuzz_read(file->set, below(file->root, root), NULL, folder);
    fuzz_write(path, file->good, strlen(file->good));
    return 0;
}
