/* Tensor files: what is read, what is refused, and that what we write reads back. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "checkpoints/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/vlgtr-tensors-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static const char *in_folder(const char *name)
{
    static char path[4][128];
    static int turn;
    char *text = path[turn++ % 4];
    snprintf(text, sizeof path[0], "%s/%s", folder, name);
    return text;
}

/* A file with this header text and these data, whatever they say. */
static const char *raw_file(const char *name, const char *header, const void *data, size_t bytes)
{
    const char *path = in_folder(name);
    const uint64_t size = strlen(header);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(&size, sizeof size, 1, f);
    fwrite(header, 1, size, f);
    if (bytes) fwrite(data, 1, bytes, f);
    fclose(f);
    return path;
}

static void refused(const char *path, const char *because)
{
    vg_tensors *t = NULL;
    assert_int_equal(vg_tensors_open(path, &t), VG_E_DATA);
    assert_null(t);
    if (!strstr(vg_error_text(), because)) fail_msg("'%s' does not say '%s'", vg_error_text(), because);
    assert_non_null(strstr(vg_error_text(), folder)); /* the message names the file */
}

static void float_types_are_read_as_fp32(void **state)
{
    (void)state;
    unsigned char data[8 + 4 + 6 + 16];
    const float f32[2] = {1.5F, -3.25F};
    const uint16_t bf16[2] = {0x3f80, 0xc000}, f16[3] = {0x3c00, 0x0001, 0xfc00};
    const double f64[2] = {0.1, 1e300};
    memcpy(data, f32, 8);
    memcpy(data + 8, bf16, 4);
    memcpy(data + 12, f16, 6);
    memcpy(data + 18, f64, 16);
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"d\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[18,34]},"
                         "\"a\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
                         "\"c\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[12,18]},"
                         "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[8,12]}}   ";
    vg_tensors *t = NULL;
    assert_int_equal(vg_tensors_open(raw_file("types", header, data, sizeof data), &t), VG_OK);
    assert_int_equal(vg_tensors_count(t), 4);
    assert_string_equal(vg_tensors_get(t, 3)->name, "d"); /* in name order */
    assert_string_equal(vg_tensors_metadata(t, "format"), "pt");
    assert_null(vg_tensors_metadata(t, "absent"));
    assert_int_equal(vg_tensors_find(t, "absent"), -1);
    assert_int_equal(vg_tensors_get(t, vg_tensors_find(t, "a"))->rank, 2);
    float x[3];
    assert_int_equal(vg_tensors_read_f32(t, vg_tensors_find(t, "a"), x), VG_OK);
    assert_true(x[0] == 1.5F && x[1] == -3.25F);
    assert_int_equal(vg_tensors_read_f32(t, vg_tensors_find(t, "b"), x), VG_OK);
    assert_true(x[0] == 1 && x[1] == -2);
    assert_int_equal(vg_tensors_read_f32(t, vg_tensors_find(t, "c"), x), VG_OK);
    assert_true(x[0] == 1 && x[1] == 0x1p-24F && isinf(x[2]) && x[2] < 0);
    assert_int_equal(vg_tensors_read_f32(t, vg_tensors_find(t, "d"), x), VG_OK);
    assert_true(x[0] == 0.1F && isinf(x[1]));
    assert_int_equal(vg_tensors_read_f32_part(t, vg_tensors_find(t, "c"), 1, 1, x), VG_OK);
    assert_true(x[0] == 0x1p-24F);
    assert_int_equal(vg_tensors_close(t), VG_OK);
}

static void other_types_are_listed_but_not_read_as_fp32(void **state)
{
    (void)state;
    const int64_t ids[2] = {7, -1};
    const char *header = "{\"ids\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]}}";
    vg_tensors *t = NULL;
    int64_t back[2];
    float x[2];
    assert_int_equal(vg_tensors_open(raw_file("ids", header, ids, sizeof ids), &t), VG_OK);
    assert_int_equal(vg_tensors_read_bytes(t, 0, back), VG_OK);
    assert_memory_equal(back, ids, sizeof ids);
    assert_int_equal(vg_tensors_read_f32(t, 0, x), VG_E_DATA);
    assert_non_null(strstr(vg_error_text(), "I64"));
    vg_tensors_close(t);
}

static void a_file_that_lies_about_itself_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header, *because;
        size_t bytes;
    } lies[] = {
        {"", "not JSON", 0},
        {" {}", "not JSON", 0},
        {"[]", "not JSON", 0},
        {"{\"a\":", "not JSON", 0},
        {"{\"a\":1}", "no description", 0},
        {"{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", "F33", 4},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", "no dtype", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", "no shape", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", "axis 0", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", "axis 0", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807,2],\"data_offsets\":[0,4]}}", "axis 0", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[16777216,16777216,16777216],\"data_offsets\":[0,4]}}", "too large", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", "9 axes", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", "4 bytes for 2", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", "outside", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", "outside", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "outside", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", "no data_offsets", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}",
         "neighbour", 6},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "neighbour", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "tensors end", 5},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
         "not JSON", 0},
        {"{\"__metadata__\":{\"a\":1}}", "not a text", 0},
    };
    const char data[8] = {0};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++)
        refused(raw_file("lie", lies[i].header, data, lies[i].bytes), lies[i].because);
}

static void a_header_longer_than_its_file_is_refused(void **state)
{
    (void)state;
    const uint64_t lengths[] = {3, 1000, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 32};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        const char *path = in_folder("long");
        FILE *f = fopen(path, "wb");
        fwrite(&lengths[i], sizeof lengths[i], 1, f);
        fwrite("{}", 1, 2, f);
        fclose(f);
        refused(path, "a header of");
    }
    FILE *f = fopen(in_folder("short"), "wb");
    fwrite("abc", 1, 3, f);
    fclose(f);
    refused(in_folder("short"), "no safetensors file");
    refused(in_folder("absent"), "No such file");
}

static vg_status write_two(const char *path, uint64_t *bytes, uint64_t *hash)
{
    const float x[6] = {1, 2, 3, 4, 5, 6}, y = 7;
    vg_tensor_writer *w = NULL;
    VG_TRY(vg_tensor_writer_new(&w));
    vg_status st = vg_tensor_writer_text(w, "who", "a \"test\"");
    VG_KEEP(st, vg_tensor_writer_add(w, "x.weight", VG_TENSOR_F32, 2, (int64_t[]){2, 3}));
    VG_KEEP(st, vg_tensor_writer_add(w, "scale", VG_TENSOR_F32, 0, NULL));
    VG_KEEP(st, vg_tensor_writer_start(w, path));
    VG_KEEP(st, vg_tensor_writer_write(w, x, 8)); /* in pieces of any size */
    VG_KEEP(st, vg_tensor_writer_write(w, x + 2, sizeof x - 8));
    VG_KEEP(st, vg_tensor_writer_write(w, &y, sizeof y));
    VG_KEEP(st, vg_tensor_writer_finish(w, bytes, hash));
    vg_tensor_writer_free(w);
    return st;
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    const char *path = in_folder("two.safetensors");
    uint64_t bytes = 0, hash = 0, again = 0;
    assert_int_equal(write_two(path, &bytes, &hash), VG_OK);
    assert_int_equal(write_two(path, NULL, &again), VG_OK);
    assert_int_equal(hash, again);
    vg_tensors *t = NULL;
    float x[6];
    assert_int_equal(vg_tensors_open(path, &t), VG_OK);
    assert_string_equal(vg_tensors_metadata(t, "who"), "a \"test\"");
    assert_int_equal(vg_tensors_get(t, 0)->rank, 0);
    assert_int_equal(vg_tensors_read_f32(t, 0, x), VG_OK);
    assert_true(x[0] == 7);
    assert_int_equal(vg_tensors_read_f32(t, 1, x), VG_OK);
    for (int i = 0; i < 6; i++) assert_true(x[i] == (float)(i + 1));
    assert_int_equal(vg_tensors_get(t, 1)->at % 8, 0);
    vg_tensors_close(t);
    FILE *f = fopen(path, "rb");
    fseek(f, 0, SEEK_END);
    assert_int_equal(ftell(f), bytes);
    fclose(f);
}

static void a_full_disk_fails_the_write_and_leaves_nothing(void **state)
{
    (void)state;
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t room = 0; room < 240; room += 60) {
        struct rlimit small = {.rlim_cur = room, .rlim_max = before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        const vg_status st = write_two(in_folder("full"), NULL, NULL);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(st, VG_E_STORAGE);
        assert_non_null(strstr(vg_error_text(), "full"));
        assert_int_not_equal(access(in_folder("full"), F_OK), 0);
    }
}

static void a_writer_refuses_missing_and_surplus_data(void **state)
{
    (void)state;
    const float x[3] = {1, 2, 3};
    for (int n = 1; n <= 3; n += 2) {
        vg_tensor_writer *w = NULL;
        assert_int_equal(vg_tensor_writer_new(&w), VG_OK);
        vg_status st = vg_tensor_writer_add(w, "x", VG_TENSOR_F32, 1, (int64_t[]){2});
        VG_KEEP(st, vg_tensor_writer_start(w, in_folder("torn")));
        VG_KEEP(st, vg_tensor_writer_write(w, x, (size_t)n * sizeof *x));
        VG_KEEP(st, vg_tensor_writer_finish(w, NULL, NULL));
        assert_int_equal(st, VG_E_BUG);
        vg_tensor_writer_free(w);
        assert_int_not_equal(access(in_folder("torn"), F_OK), 0);
    }
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    fputs(text, f);
    fclose(f);
}

static void an_index_joins_its_files(void **state)
{
    (void)state;
    const float x[2] = {1, 2};
    raw_file("part-1.safetensors", "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", x, 4);
    raw_file("part-2.safetensors", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", x + 1, 4);
    const char *index = in_folder("model.safetensors.index.json");
    write_text(index, "{\"weight_map\":{\"a\":\"part-2.safetensors\",\"b\":\"part-1.safetensors\"}}");
    for (int by_folder = 0; by_folder < 2; by_folder++) {
        vg_tensors *t = NULL;
        float value;
        assert_int_equal(vg_tensors_open(by_folder ? folder : index, &t), VG_OK);
        assert_int_equal(vg_tensors_count(t), 2);
        assert_int_equal(vg_tensors_read_f32(t, vg_tensors_find(t, "a"), &value), VG_OK);
        assert_true(value == 2);
        assert_non_null(strstr(vg_tensors_file(t, 0), "part-2"));
        vg_tensors_close(t);
    }
    write_text(index, "{\"weight_map\":{\"a\":\"part-1.safetensors\",\"b\":\"part-2.safetensors\"}}");
    refused(index, "the index says");
    write_text(index, "{\"weight_map\":{\"a\":\"../part-2.safetensors\"}}");
    refused(index, "no plain file name");
    write_text(index, "{\"weight_map\":{\"b\":\"part-1.safetensors\",\"c\":\"part-1.safetensors\"}}");
    refused(index, "lists 2 tensors");
    write_text(index, "{\"weight_map\":{}}");
    refused(index, "no weight_map");
    write_text(index, "{");
    refused(index, "line 1");
    unlink(index);
    refused(folder, ".safetensors files"); /* several, and nothing says which */
}

static vg_tensors *open_real(const char *name)
{
    char path[512];
    vg_tensors *t = NULL;
    snprintf(path, sizeof path, "%s/safetensors-fixtures/%s", getenv("VLGTR_DATA"), name);
    assert_int_equal(vg_tensors_open(path, &t), VG_OK);
    assert_int_equal(vg_tensors_count(t), 1);
    return t;
}

static void real_files_are_read(void **state)
{
    (void)state;
    if (!getenv("VLGTR_DATA")) skip();
    const float cube[12] = {22, 23, 24, 11, 12, 13, 2, 3, 4, 1, 2, 3}, square[6] = {1, 2, 3, 24, 25, 26};
    const int32_t line[3] = {1, 2, 3};
    float x[12];
    int32_t ids[3];
    vg_tensors *t = open_real("tensor-3d-float32.safetensors");
    assert_int_equal(vg_tensors_get(t, 0)->rank, 3);
    assert_int_equal(vg_tensors_read_f32(t, 0, x), VG_OK);
    assert_memory_equal(x, cube, sizeof cube);
    vg_tensors_close(t);
    t = open_real("tensor-2d-float64.safetensors");
    assert_int_equal(vg_tensors_read_f32(t, 0, x), VG_OK);
    assert_memory_equal(x, square, sizeof square);
    vg_tensors_close(t);
    t = open_real("tensor-1d-int32.safetensors");
    assert_int_equal(vg_tensors_read_bytes(t, 0, ids), VG_OK);
    assert_memory_equal(ids, line, sizeof line);
    vg_tensors_close(t);
    vg_tensors_close(open_real("tensor-4d-float32.safetensors"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_types_are_read_as_fp32),
        cmocka_unit_test(other_types_are_listed_but_not_read_as_fp32),
        cmocka_unit_test(a_file_that_lies_about_itself_is_refused),
        cmocka_unit_test(a_header_longer_than_its_file_is_refused),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(a_full_disk_fails_the_write_and_leaves_nothing),
        cmocka_unit_test(a_writer_refuses_missing_and_surplus_data),
        cmocka_unit_test(an_index_joins_its_files),
        cmocka_unit_test(real_files_are_read),
    };
    return cmocka_run_group_tests_name("safetensors", tests, make_folder, remove_folder);
}
