#include "data/tokenizer.h"
#include "trainer/cmd/arguments.h"
#include "trainer/vlgtr.h"

#include <stdio.h>
#include <string.h>

vg_status vg_cmd_tokenize(vg_context *context, int argc, char **argv)
{
    enum { MAX_TOKENS = 512 };
    const char *folder = NULL;
    const vg_argument table[] = {{.name = "--tokenizer", .text = &folder}};
    char *words[1];
    int n_words = 0, n = 0;
    int32_t ids[MAX_TOKENS];
    (void)context;
    VG_TRY(vg_arguments_read(argc, argv, table, 1, words, 1, &n_words));
    VG_CHECK(folder && n_words == 1, VG_E_USAGE, "vlgtr tokenize --tokenizer FOLDER \"phrase\"");
    vg_tokenizer *tokenizer = NULL;
    VG_TRY(vg_tokenizer_open(folder, &tokenizer));
    const vg_status st = vg_tokenizer_encode(tokenizer, words[0], strlen(words[0]), MAX_TOKENS, ids, &n);
    for (int i = 0; st == VG_OK && i < n; i++) printf(i ? " %d" : "%d", ids[i]);
    if (st == VG_OK) putchar('\n');
    vg_tokenizer_close(tokenizer);
    return st;
}
