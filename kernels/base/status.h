/* One error type. The function that first knows writes the sentence (what, where, the way out); those above add only
 * their place; main prints it once. The sentence is kept per thread. */
#ifndef VG_BASE_STATUS_H
#define VG_BASE_STATUS_H

typedef enum vg_status {
    VG_OK = 0,
    VG_E_USAGE,    /* exit 64: the command line */
    VG_E_DATA,     /* exit 65: a dataset, weights or image file */
    VG_E_COMM,     /* exit 69: a peer or the network */
    VG_E_BUG,      /* exit 70: a mistake of ours */
    VG_E_SHAPE,    /* exit 70: operands that do not fit, found while a graph is built */
    VG_E_DEVICE,   /* exit 71: a device is absent or failed */
    VG_E_NOMEM,    /* exit 71: memory */
    VG_E_STORAGE,  /* exit 74: writing or reading back what we wrote */
    VG_E_STOPPED,  /* exit 75: stopped at a checkpoint on request; start again to go on */
    VG_E_NUMERICS, /* exit 76: too many non-finite steps */
    VG_E_CONFIG,   /* exit 78: the run configuration */
} vg_status;

/* The process exit code of a status (sysexits; the table above). */
int vg_exit_code(vg_status status);

enum { VG_ERROR_BYTES = 2048 };

/* The sentence of this thread's last error; empty before the first. Valid until the thread's next error. */
const char *vg_error_text(void);

/* Sets this thread's sentence and returns status, so that `return vg_fail(...)` reads well. */
vg_status vg_fail(vg_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts `place: ` before this thread's sentence and returns status unchanged. */
vg_status vg_fail_at(vg_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* An error put aside, for later or for another thread. */
typedef struct vg_error {
    vg_status status;
    char text[VG_ERROR_BYTES];
} vg_error;

/* Puts aside how a call of this thread ended, with its sentence; brings it up again in the calling thread and returns
 * its status. */
vg_error vg_error_of(vg_status status);
vg_status vg_error_raise(const vg_error *error);

/* Passes an error on. */
#define VG_TRY(call)                          \
    do {                                      \
        const vg_status vg_try_ = (call);     \
        if (vg_try_ != VG_OK) return vg_try_; \
    } while (0)

/* Writes the sentence and leaves when the condition does not hold. */
#define VG_CHECK(condition, status, ...)                         \
    do {                                                         \
        if (!(condition)) return vg_fail((status), __VA_ARGS__); \
    } while (0)

/* Clean-up that goes on after a failure: keeps the first error in st, and its sentence. */
#define VG_KEEP(st, call)                                                          \
    do {                                                                           \
        const vg_error vg_first_ = vg_error_of(st);                                \
        const vg_status vg_later_ = (call);                                        \
        (st) = vg_first_.status == VG_OK ? vg_later_ : vg_error_raise(&vg_first_); \
    } while (0)

#endif
