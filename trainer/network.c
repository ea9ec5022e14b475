#include "trainer/network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

static const struct row {
    const char *name, *title;
    double links, gb_s, share, message_us;
    const char *sources;
} rows[] = {
#define VG_NETWORK(name, ...) {#name, __VA_ARGS__},
#include "trainer/networks.def"
#undef VG_NETWORK
};

static const char names[] =
#define VG_NETWORK(name, ...) " " #name
#include "trainer/networks.def"
#undef VG_NETWORK
    ;

enum { N_ROWS = sizeof rows / sizeof *rows, MOST_HOST_RANKS = 4096 };

static const double micro = 1e-6, giga = 1e9;

/* ---- where they come from ---- */

static const struct row *row_of(const char *name)
{
    for (int i = 0; i < N_ROWS; i++)
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    return NULL;
}

static vg_status read_number(const char *path, const json_t *file, const char *key, double least, double most,
                             double *out)
{
    const json_t *value = json_object_get(file, key);
    *out = json_number_value(value);
    VG_CHECK(json_is_number(value) && *out >= least && *out <= most, VG_E_DATA,
             "%s: '%s' is not a number from %g to %g; measure it with `vlgtr bench comm --out FILE`", path, key, least,
             most);
    return VG_OK;
}

static vg_status read_fields(const char *path, const json_t *file, vg_network *out)
{
    double ranks, us, gb_s;
    VG_TRY(read_number(path, file, "host_ranks", 1, MOST_HOST_RANKS, &ranks));
    VG_TRY(read_number(path, file, "message_us", 0, 1e9, &us));
    VG_TRY(read_number(path, file, "host_gb_s", 1e-9, 1e6, &gb_s));
    *out = (vg_network){.host_ranks = (int)ranks, .far = {us * micro, gb_s * giga}};
    return VG_OK;
}

vg_status vg_network_parse(const char *data, size_t size, const char *path, vg_network *out)
{
    json_error_t error;
    json_t *file = json_loadb(data, size, 0, &error);
    vg_status st = json_is_object(file) ? VG_OK
                                        : vg_fail(VG_E_DATA, "%s: not a file of `vlgtr bench comm --out`: %s", path,
                                                  file ? "no JSON object" : error.text);
    if (st == VG_OK) st = read_fields(path, file, out);
    json_decref(file);
    return st;
}

static vg_status read_file(const char *path, vg_network *out)
{
    enum { MOST_BYTES = 1 << 16 };
    char *data = NULL;
    size_t n = 0;
    VG_TRY(vg_file_read(path, MOST_BYTES, &data, &n));
    const vg_status st = vg_network_parse(data, n, path, out);
    free(data);
    return st;
}

vg_status vg_network_read(const char *name, vg_network *out)
{
    const struct row *row = row_of(name);
    if (row) {
        *out = (vg_network){.far = {row->message_us * micro, row->links * row->gb_s * row->share * giga}};
        return VG_OK;
    }
    VG_CHECK(access(name, F_OK) == 0, VG_E_USAGE,
             "no network '%s' is known, and there is no such file of `vlgtr bench comm --out`; known are:%s", name,
             names);
    return read_file(name, out);
}

char *vg_network_source(const char *name)
{
    const struct row *row = row_of(name);
    vg_text text = {0};
    if (row)
        vg_text_add(&text, "%s: %g of %g GB/s a host, %g us a message\n  %s\n", row->title,
                    row->links * row->gb_s * row->share, row->links * row->gb_s, row->message_us, row->sources);
    else
        vg_text_add(&text, "%s: measured by `vlgtr bench comm`\n", name);
    return text.data;
}

vg_status vg_network_write(const char *path, const vg_network *n)
{
    vg_text text = {0};
    vg_status st = vg_text_add(&text, "{\"host_ranks\": %d, \"message_us\": %.6g, \"host_gb_s\": %.6g}\n",
                               n->host_ranks, n->far.alpha_s / micro, n->far.beta / giga);
    if (st == VG_OK) st = vg_file_write_atomic(path, text.data, text.length);
    free(text.data);
    return st;
}

/* ---- what they cost ---- */

/* One round of messages: each of `peers` gets its share, 1 of peers + 1, of so many arrays of `bytes`. */
static double round_s(const vg_link *link, double start_s, double peers, double arrays, double bytes)
{
    if (peers < 1 || link->beta <= 0) return 0;
    return start_s + arrays * peers * link->alpha_s + arrays * bytes * peers / (peers + 1) / link->beta;
}

/* All ranks to their slice of the total: inside the hosts, then between them; or the way back. */
static double way_s(const vg_network *n, const vg_sum_shape *shape, double near_arrays, double far_arrays, double bytes)
{
    return round_s(&n->near, n->start_s, shape->mates - 1, near_arrays, bytes) +
           round_s(&n->far, n->start_s, shape->hosts - 1, far_arrays, bytes);
}

vg_exchange vg_network_exchange(const vg_network *n, const vg_sum_shape *shape, const vg_exchange_plan *plan)
{
    const double buckets = ceil(plan->bytes / plan->bucket_bytes), each = plan->bytes / buckets;
    if (shape->mates * shape->hosts < 2 || buckets < 1) return (vg_exchange){0};
    const double there = way_s(n, shape, shape->parts, shape->nodes, each), back = way_s(n, shape, 1, 1, each);
    const double hideable = plan->sliced ? there : there + back;
    return (vg_exchange){.total_s = buckets * (there + back),
                         .hidden_s = (buckets - 1) * fmin(hideable, plan->backward_s / buckets)};
}

double vg_network_messages_s(const vg_network *n, const vg_sum_shape *shape)
{
    enum { A_STEP = 2 };
    const double far = (double)shape->mates * (shape->hosts - 1), near = shape->mates - 1;
    return (near + far > 0 ? n->start_s : 0) + A_STEP * (far * n->far.alpha_s + near * n->near.alpha_s);
}

vg_link vg_network_fitted(const vg_sum_shape *shape, double a, double b)
{
    const double peers = shape->hosts - 1, arrays = shape->nodes + 1;
    return (vg_link){.alpha_s = a / (arrays * peers), .beta = arrays * peers / (peers + 1) / b};
}
