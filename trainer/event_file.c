#include "trainer/event_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <isa-l/crc.h>

enum { MESSAGE_BYTES = 512 };

/* Protocol Buffers: a field is its number and wire type, then its value. */
enum wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
enum { EVENT_WALL_TIME = 1, EVENT_STEP = 2, EVENT_FILE_VERSION = 3, EVENT_SUMMARY = 5, EVENT_SESSION_LOG = 7 };
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE = 2, SESSION_LOG_STATUS = 1, SESSION_START = 1 };

struct vg_event_file {
    FILE *file;
    char *path;
    bool failed;
};

typedef struct message {
    unsigned char data[MESSAGE_BYTES];
    size_t n;
} message;

static void put_bytes(message *m, const void *data, size_t n)
{
    if (n > MESSAGE_BYTES - m->n) return; /* tags and versions are short */
    memcpy(m->data + m->n, data, n);
    m->n += n;
}

static void put_varint(message *m, uint64_t value)
{
    do {
        const unsigned char byte = (unsigned char)((value & 127) | (value > 127) << 7);
        put_bytes(m, &byte, 1);
        value >>= 7;
    } while (value);
}

static void put_key(message *m, unsigned field, enum wire wire)
{
    put_varint(m, field << 3 | wire);
}

static void put_field(message *m, unsigned field, const void *data, size_t n)
{
    put_key(m, field, BYTES);
    put_varint(m, n);
    put_bytes(m, data, n);
}

static void begin_event(message *m, int64_t step)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const double seconds = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    put_key(m, EVENT_WALL_TIME, FIXED64);
    put_bytes(m, &seconds, sizeof seconds);
    put_key(m, EVENT_STEP, VARINT);
    put_varint(m, (uint64_t)step);
}

/* CRC32C, rotated and shifted as TFRecord has it. */
static uint32_t masked_crc(const void *data, size_t n)
{
    const uint32_t crc = ~crc32_iscsi((unsigned char *)(uintptr_t)data, (int)n, ~0U);
    return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

/* A gap is told once. */
static void judge(vg_event_file *e, bool written)
{
    if (!written && !e->failed)
        vg_log_root("warning: %s: %s; curves for TensorBoard have a gap", e->path, strerror(errno));
    e->failed |= !written;
}

static void write_event(vg_event_file *e, const message *m)
{
    const uint64_t length = m->n;
    const uint32_t of_length = masked_crc(&length, sizeof length), of_data = masked_crc(m->data, m->n);
    const bool written = fwrite(&length, sizeof length, 1, e->file) == 1 &&
                         fwrite(&of_length, sizeof of_length, 1, e->file) == 1 &&
                         fwrite(m->data, 1, m->n, e->file) == m->n && fwrite(&of_data, sizeof of_data, 1, e->file) == 1;
    judge(e, written);
}

static void write_start(vg_event_file *e, int64_t step)
{
    static const char version[] = "brain.Event:2";
    message m = {0}, log = {0}, start = {0};
    begin_event(&m, 0);
    put_field(&m, EVENT_FILE_VERSION, version, strlen(version));
    write_event(e, &m);
    put_key(&log, SESSION_LOG_STATUS, VARINT);
    put_varint(&log, SESSION_START);
    begin_event(&start, step + 1); /* the first step that counts anew */
    put_field(&start, EVENT_SESSION_LOG, log.data, log.n);
    write_event(e, &start);
}

static vg_status open_file(vg_event_file *e, const char *folder, int64_t step)
{
    char host[64] = "";
    vg_text path = {0};
    VG_TRY(vg_make_directories(folder));
    gethostname(host, sizeof host - 1);
    const vg_status st =
        vg_text_add(&path, "%s/events.out.tfevents.%lld.%s.%ld", folder, (long long)time(NULL), host, (long)getpid());
    e->path = path.data;
    VG_TRY(st);
    e->file = fopen(e->path, "wb");
    VG_CHECK(e->file, VG_E_STORAGE, "%s: %s", e->path, strerror(errno));
    write_start(e, step);
    return VG_OK;
}

vg_status vg_event_file_open(const char *folder, int64_t step, vg_event_file **out)
{
    vg_event_file *e = vg_new0(sizeof *e);
    VG_CHECK(e, VG_E_NOMEM, "no memory for TensorBoard's events");
    const vg_status st = open_file(e, folder, step);
    if (st != VG_OK) {
        vg_event_file_close(e);
        return st;
    }
    *out = e;
    return VG_OK;
}

void vg_event_file_close(vg_event_file *e)
{
    if (!e) return;
    if (e->file) fclose(e->file);
    free(e->path);
    free(e);
}

void vg_event_file_scalar(vg_event_file *e, int64_t step, const char *tag, double value)
{
    const float simple = (float)value;
    message v = {0}, summary = {0}, event = {0};
    put_field(&v, VALUE_TAG, tag, strlen(tag));
    put_key(&v, VALUE_SIMPLE, FIXED32);
    put_bytes(&v, &simple, sizeof simple);
    put_field(&summary, SUMMARY_VALUE, v.data, v.n);
    begin_event(&event, step);
    put_field(&event, EVENT_SUMMARY, summary.data, summary.n);
    write_event(e, &event);
}

void vg_event_file_flush(vg_event_file *e)
{
    judge(e, fflush(e->file) == 0);
}
