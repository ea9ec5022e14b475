#include "kernels/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char error_text[VG_ERROR_BYTES];

int vg_exit_code(vg_status status)
{
    switch (status) {
    case VG_OK: return 0;
    case VG_E_USAGE: return 64;
    case VG_E_DATA: return 65;
    case VG_E_COMM: return 69;
    case VG_E_BUG:
    case VG_E_SHAPE: return 70;
    case VG_E_DEVICE:
    case VG_E_NOMEM: return 71;
    case VG_E_STORAGE: return 74;
    case VG_E_STOPPED: return 75;
    case VG_E_NUMERICS: return 76;
    case VG_E_CONFIG: return 78;
    }
    return 70;
}

const char *vg_error_text(void)
{
    return error_text;
}

vg_status vg_fail(vg_status status, const char *format, ...)
{
    char text[VG_ERROR_BYTES]; /* the arguments may hold the old sentence */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(error_text, text, sizeof text);
    return status;
}

vg_status vg_fail_at(vg_status status, const char *format, ...)
{
    char text[VG_ERROR_BYTES];
    va_list args;
    va_start(args, format);
    const int used = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof text)
        snprintf(text + used, sizeof text - (size_t)used, ": %.*s", VG_ERROR_BYTES / 2, error_text);
    memcpy(error_text, text, sizeof text);
    return status;
}

vg_error vg_error_of(vg_status status)
{
    vg_error error = {.status = status};
    if (status != VG_OK) memcpy(error.text, error_text, sizeof error.text);
    return error;
}

vg_status vg_error_raise(const vg_error *error)
{
    return error->status == VG_OK ? VG_OK : vg_fail(error->status, "%s", error->text);
}
