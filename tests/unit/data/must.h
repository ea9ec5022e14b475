/* Calls that must go well, and the sentence of one that did not. The includer includes cmocka's headers first. */
#ifndef VG_TESTS_MUST_H
#define VG_TESTS_MUST_H

#include "kernels/base/base.h"

#include <string.h>

#define MUST(call)                                            \
    do {                                                      \
        if ((call) != VG_OK) fail_msg("%s", vg_error_text()); \
    } while (0)

#define ASSERT_SAYS(words)                                                                               \
    do {                                                                                                 \
        if (!strstr(vg_error_text(), words)) fail_msg("'%s' does not say '%s'", vg_error_text(), words); \
    } while (0)

#endif
