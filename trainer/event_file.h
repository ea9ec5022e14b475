/* TensorBoard's event files, scalars only.
 *
 *     VG_TRY(vg_event_file_open("run/tensorboard", step, &events));
 *     vg_event_file_scalar(events, step, "loss", 1.5);
 *     vg_event_file_close(events);
 *
 * Source: TensorFlow's TFRecord framing, and the messages Event, Summary and SessionLog of its event.proto and
 * summary.proto (field numbers). Local; a failed write is no error of the run and is told once. */
#ifndef VG_TRAINER_EVENT_FILE_H
#define VG_TRAINER_EVENT_FILE_H

#include "kernels/base/base.h"

typedef struct vg_event_file vg_event_file;

/* Makes a file of this process in the folder; what older files there say of steps after `step` no longer counts.
 * Errors: VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_event_file_open(const char *folder, int64_t step, vg_event_file **out);
void vg_event_file_close(vg_event_file *events); /* NULL is fine */

void vg_event_file_scalar(vg_event_file *events, int64_t step, const char *tag, double value);

/* What was told so far, for those who watch. */
void vg_event_file_flush(vg_event_file *events);

#endif
