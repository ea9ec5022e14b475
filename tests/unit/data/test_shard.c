/* Shards: what is written is read, equal input is equal bytes, and nothing in a file is believed unchecked. */
#define _XOPEN_SOURCE 700
#include "data/shard.h"

#include "data/draw.h"
#include "data/shard_impl.h"
#include "data/shard_tools.h"
#include "data/shard_writer.h"
#include "tests/unit/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What fontconfig keeps until the process ends is not ours, nor what HDF5 loses over a damaged object header; its
 * handles, which are ours to close, are counted below. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\nleak:libhdf5";
}

#include "tests/unit/data/small_shard.h"

static const float boxes[3][4] = {{1, 2, 11, 12}, {0, 0, 40, 30}, {5.5F, 6.25F, 25.5F, 16.25F}};

/* Sentences of image 7: two of train, one of val without a box. */
static const vg_new_sentence seven[] = {
    {.sentence_id = 70,
     .ref_id = 700,
     .text = "left man",
     .text_bytes = 8,
     .split = "train",
     .kind = "position",
     .boxes = boxes[0],
     .n_boxes = 1},
    {.sentence_id = 71,
     .ref_id = 701,
     .text = "caf\u00e9 people",
     .text_bytes = 12,
     .split = "train",
     .kind = "plural",
     .boxes = boxes[1],
     .n_boxes = 2},
    {.sentence_id = 72, .ref_id = 702, .text = "nothing", .text_bytes = 7, .split = "val", .kind = "", .n_boxes = 0},
};
static const vg_new_sentence eight[] = {
    {.sentence_id = 80,
     .ref_id = 800,
     .text = "dog",
     .text_bytes = 3,
     .split = "train",
     .kind = "",
     .boxes = boxes[2],
     .n_boxes = 1},
};

static vg_new_image image_of(int64_t id, const void *bytes, size_t n, const vg_new_sentence *s, size_t n_sentences)
{
    return (vg_new_image){.image_id = id,
                          .width = 40,
                          .height = 30,
                          .file_name = "a.jpg",
                          .bytes = bytes,
                          .n_bytes = n,
                          .sentences = s,
                          .n_sentences = n_sentences};
}

static void shard_of_two(const char *path)
{
    vg_shard_writer *w = NULL;
    const vg_new_image first = image_of(7, "seven bytes", 11, seven, 3), second = image_of(8, "eight", 5, eight, 1);
    MUST(vg_shard_writer_open(path, "test", "hand", &w));
    MUST(vg_shard_writer_add(w, &first));
    MUST(vg_shard_writer_add(w, &second));
    MUST(vg_shard_writer_close(w, 42));
}

static void assert_unreadable(const char *path, const char *words)
{
    vg_split *split = NULL;
    assert_int_equal(vg_split_open(&path, 1, "train", &split), VG_E_DATA);
    assert_null(split);
    ASSERT_SAYS(path);
    ASSERT_SAYS(words);
}

/* ---- reading back ---- */

static void what_is_written_is_read_back(void **state)
{
    const char *path = path_in(*state, "two.h5");
    shard_of_two(path);
    vg_split *split = split_of(path, "train");
    vg_sentence s;
    vg_image_info info;
    unsigned char *bytes = NULL;
    size_t capacity = 0, n = 0;
    assert_int_equal(vg_split_image_count(split), 2);
    assert_int_equal(vg_split_sentence_count(split), 3);
    vg_split_sentence(split, 1, &s);
    assert_string_equal(s.text, "caf\u00e9 people");
    assert_int_equal(s.text_bytes, 12);
    assert_int_equal(s.sentence_id, 71);
    assert_int_equal(s.ref_id, 701);
    assert_int_equal(s.image, 0);
    assert_string_equal(s.kind, "plural");
    assert_int_equal(s.n_boxes, 2);
    assert_memory_equal(s.boxes, boxes[1], 2 * sizeof *boxes);
    vg_split_image(split, 1, &info);
    assert_int_equal(info.image_id, 8);
    assert_int_equal(info.width, 40);
    assert_int_equal(info.first_sentence, 2);
    assert_int_equal(info.n_sentences, 1);
    assert_string_equal(info.file_name, "a.jpg");
    MUST(vg_split_read_image(split, 0, &bytes, &capacity, &n));
    assert_int_equal(n, 11);
    assert_memory_equal(bytes, "seven bytes", 11);
    free(bytes);
    vg_split_close(split);
}

static void a_split_holds_only_its_own(void **state)
{
    const char *path = path_in(*state, "two.h5");
    shard_of_two(path);
    vg_split *split = split_of(path, "val");
    vg_sentence s;
    assert_string_equal(vg_split_name(split), "val");
    assert_int_equal(vg_split_image_count(split), 1);
    assert_int_equal(vg_split_sentence_count(split), 1);
    vg_split_sentence(split, 0, &s);
    assert_string_equal(s.text, "nothing");
    assert_int_equal(s.n_boxes, 0);
    vg_split_close(split);
    assert_int_equal(vg_split_open(&path, 1, "testA", &split), VG_E_DATA);
    ASSERT_SAYS(
        "no split 'testA'; there are train, val; an import with --shares testA=0.1 makes one of train, or `vlgtr "
        "shard split OUT SHARD... --to testA --share 0.1`");
    assert_int_equal(vg_split_open(&path, 1, "trian", &split), VG_E_DATA);
    ASSERT_SAYS("no split 'trian'; there are train, val; did you mean 'train'?");
}

static void equal_input_makes_equal_bytes(void **state)
{
    const char *a = path_in(*state, "a.h5"), *b = path_in(*state, "b.h5");
    char *x = NULL, *y = NULL;
    size_t n = 0, m = 0;
    shard_of_two(a);
    sleep(1); /* a time stamp would tell them apart */
    shard_of_two(b);
    MUST(vg_file_read(a, 1 << 20, &x, &n));
    MUST(vg_file_read(b, 1 << 20, &y, &m));
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

/* Images of 5, 2, 3, 20 and 1 MiB in chunks of 8: the third would straddle the first edge. */
static void no_image_straddles_a_chunk_unless_it_is_larger(void **state)
{
    enum { N = 5, MIB = 1 << 20 };
    const size_t sizes[N] = {5 * MIB, 2 * MIB, 3 * MIB, 20 * MIB + 3, MIB};
    const uint64_t places[N] = {0, 5 * MIB, 8 * MIB, 16 * MIB, 36 * MIB + 3};
    const char *path = path_in(*state, "large.h5");
    uint32_t *pixels = malloc(21 * MIB);
    vg_shard_writer *w = NULL;
    MUST(vg_shard_writer_open(path, "test", "", &w));
    for (int64_t i = 0; i < N; i++) {
        for (uint32_t k = 0; k < 21 * MIB / 4; k++) pixels[k] = k * 2654435761u + (uint32_t)i;
        const vg_new_image image = image_of(i, pixels, sizes[i], eight, 1);
        MUST(vg_shard_writer_add(w, &image));
    }
    MUST(vg_shard_writer_close(w, 0));
    vg_shard *shard = NULL;
    unsigned char *bytes = NULL;
    size_t capacity = 0, n = 0;
    MUST(vg_shard_open(path, &shard));
    assert_int_equal(shard->tables.chunk_bytes, 8 * MIB);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(shard->tables.images[i].offset, places[i]);
        MUST(vg_shard_read_image(shard, i, &bytes, &capacity, &n)); /* checks the hash */
        assert_int_equal(n, sizes[i]);
    }
    vg_shard_close(shard);
    free(bytes);
    free(pixels);
}

static void a_folder_is_its_shards_by_name(void **state)
{
    const char *folder = *state;
    assert_unreadable(folder, "no *.h5 in this folder");
    shard_of_two(path_in(folder, "b.h5"));
    shard_of_two(path_in(folder, "a.h5"));
    shard_of_two(path_in(folder, "c.h5.partial")); /* unfinished work is not read */
    vg_split *split = split_of(folder, "train");
    assert_int_equal(vg_split_sentence_count(split), 6);
    vg_split_close(split);
    const char *twice[] = {folder, path_in(folder, "a.h5")};
    assert_int_equal(vg_split_open(twice, 2, "train", &split), VG_E_DATA);
    ASSERT_SAYS("is the same file as");
}

static void the_split_hash_follows_the_data(void **state)
{
    const char *a = path_in(*state, "a.h5"), *b = path_in(*state, "b.h5");
    vg_shard_writer *w = NULL;
    vg_new_sentence changed[3];
    memcpy(changed, seven, sizeof changed);
    changed[0].text = "Left man";
    const vg_new_image first = image_of(7, "seven bytes", 11, changed, 3), second = image_of(8, "eight", 5, eight, 1);
    shard_of_two(a);
    MUST(vg_shard_writer_open(b, "test", "hand", &w));
    MUST(vg_shard_writer_add(w, &first));
    MUST(vg_shard_writer_add(w, &second));
    MUST(vg_shard_writer_close(w, 42));
    vg_split *train_a = split_of(a, "train"), *train_b = split_of(b, "train");
    vg_split *val_a = split_of(a, "val"), *val_b = split_of(b, "val");
    assert_true(vg_split_hash(train_a) != vg_split_hash(train_b));
    assert_true(vg_split_hash(val_a) == vg_split_hash(val_b)); /* the changed sentence is none of val's */
    vg_split_close(train_a);
    vg_split_close(train_b);
    vg_split_close(val_a);
    vg_split_close(val_b);
}

static void *read_many_times(void *argument)
{
    const vg_split *split = argument;
    unsigned char *bytes = NULL;
    size_t capacity = 0, n = 0;
    intptr_t bad = 0;
    for (int i = 0; i < 2000; i++) bad += vg_split_read_image(split, i % 2, &bytes, &capacity, &n) != VG_OK;
    free(bytes);
    return (void *)bad;
}

static void threads_read_images_side_by_side(void **state)
{
    const char *path = path_in(*state, "two.h5");
    shard_of_two(path);
    vg_split *split = split_of(path, "train");
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, read_many_times, split), 0);
    for (int i = 0; i < 4; i++) {
        void *bad = NULL;
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    vg_split_close(split);
}

/* ---- writing ---- */

static void nothing_appears_before_the_shard_is_whole(void **state)
{
    const char *path = path_in(*state, "two.h5"), *partial = path_in(*state, "two.h5.partial");
    const vg_new_image image = image_of(7, "seven bytes", 11, seven, 3);
    vg_shard_writer *w = NULL;
    MUST(vg_shard_writer_open(path, "test", "", &w));
    MUST(vg_shard_writer_add(w, &image));
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(partial, F_OK), 0);
    vg_shard_writer_abandon(w);
    assert_int_equal(access(partial, F_OK), -1);
    MUST(vg_shard_writer_open(path, "test", "", &w));
    MUST(vg_shard_writer_close(w, 0)); /* no images, no shard */
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(partial, F_OK), -1);
}

static void a_record_that_readers_refuse_is_not_written(void **state)
{
    const char *path = path_in(*state, "two.h5");
    const float outside[4] = {0, 0, 41, 10}, not_finite[4] = {0, 0, NAN, 10};
    const vg_new_image good = image_of(7, "seven bytes", 11, seven, 3);
    vg_shard_writer *w = NULL;
    MUST(vg_shard_writer_open(path, "test", "", &w));
    vg_new_sentence two[2] = {eight[0], eight[0]};
    vg_new_image bad = image_of(9, "nine", 4, two, 2);
    two[1].boxes = outside;
    assert_int_equal(vg_shard_writer_add(w, &bad), VG_E_DATA);
    ASSERT_SAYS("image 9: sentence 80: its box leaves the image");
    two[1].boxes = not_finite;
    assert_int_equal(vg_shard_writer_add(w, &bad), VG_E_DATA);
    ASSERT_SAYS("not finite");
    two[1] = eight[0];
    two[1].text = "\xff\xff";
    two[1].text_bytes = 2;
    assert_int_equal(vg_shard_writer_add(w, &bad), VG_E_DATA);
    ASSERT_SAYS("not UTF-8");
    two[1].text_bytes = 0;
    assert_int_equal(vg_shard_writer_add(w, &bad), VG_E_DATA);
    ASSERT_SAYS("its text is empty");
    two[1] = eight[0];
    two[1].split = "\xff";
    assert_int_equal(vg_shard_writer_add(w, &bad), VG_E_DATA);
    ASSERT_SAYS("its split or kind");
    two[1].split = "";
    assert_int_equal(vg_shard_writer_add(w, &bad), VG_E_DATA);
    bad.n_sentences = 0;
    assert_int_equal(vg_shard_writer_add(w, &bad), VG_E_DATA);
    bad = image_of(9, "", 0, eight, 1);
    assert_int_equal(vg_shard_writer_add(w, &bad), VG_E_DATA);
    MUST(vg_shard_writer_add(w, &good));
    MUST(vg_shard_writer_close(w, 0));
    vg_shard *shard = NULL;
    MUST(vg_shard_open(path, &shard));
    assert_int_equal(shard->tables.n_images, 1); /* nothing of the refused ones is left */
    assert_int_equal(shard->tables.n_sentences, 3);
    assert_int_equal(shard->tables.n_boxes, 3);
    assert_int_equal(shard->tables.images[0].offset, 0);
    vg_shard_close(shard);
}

static void no_more_kinds_are_written_than_are_read(void **state)
{
    const char *path = path_in(*state, "kinds.h5");
    vg_shard_writer *w = NULL;
    vg_shard *shard = NULL;
    MUST(vg_shard_writer_open(path, "test", "", &w));
    for (int64_t i = 0; i <= VG_SHARD_MAX_NAMES; i++) {
        char kind[32];
        vg_new_sentence one = eight[0];
        const vg_new_image image = image_of(i, "bytes", 5, &one, 1);
        snprintf(kind, sizeof kind, "%lld", (long long)i);
        one.kind = kind;
        assert_int_equal(vg_shard_writer_add(w, &image), i < VG_SHARD_MAX_NAMES ? VG_OK : VG_E_DATA);
    }
    ASSERT_SAYS("'4096' is one of more than 4096 splits or kinds");
    MUST(vg_shard_writer_close(w, 0));
    MUST(vg_shard_open(path, &shard));
    assert_int_equal(shard->tables.n_kinds, VG_SHARD_MAX_NAMES);
    vg_shard_close(shard);
}

static void a_shard_in_no_folder_is_a_storage_error(void **state)
{
    vg_shard_writer *w = NULL;
    assert_int_equal(vg_shard_writer_open(path_in(*state, "absent/two.h5"), "test", "", &w), VG_E_STORAGE);
    ASSERT_SAYS("No such file or directory");
}

/* ---- files that are broken ---- */

static void write_file(const char *path, const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void cut_shards_are_refused_by_name(void **state)
{
    const char *whole = path_in(*state, "two.h5"), *cut = path_in(*state, "cut.h5");
    char *bytes = NULL;
    size_t n = 0;
    shard_of_two(whole);
    MUST(vg_file_read(whole, 1 << 20, &bytes, &n));
    for (size_t keep = 0; keep < n; keep += 1 + n / 97) {
        write_file(cut, bytes, keep);
        assert_unreadable(cut, "cut short or damaged, import it again");
    }
    free(bytes);
    assert_unreadable(path_in(*state, "absent.h5"), "No such file");
}

/* Every 19th byte is flipped in turn: the shard is refused when it is opened, or an image when it is read, or the
 * byte means nothing (padding). It never reads differently. */
static void a_flipped_byte_never_reads_differently(void **state)
{
    const char *whole = path_in(*state, "two.h5"), *broken = path_in(*state, "broken.h5");
    char *bytes = NULL;
    size_t n = 0, refused = 0;
    shard_of_two(whole);
    vg_split *split = split_of(whole, "train");
    const uint64_t hash = vg_split_hash(split);
    vg_split_close(split);
    MUST(vg_file_read(whole, 1 << 20, &bytes, &n));
    write_file(broken, bytes, n);
    const int fd = open(broken, O_RDWR);
    for (size_t i = 0; i < n; i += 19) {
        const char flipped = bytes[i] ^ 0x55;
        assert_int_equal(pwrite(fd, &flipped, 1, (off_t)i), 1);
        vg_shard_verify_report report;
        const vg_status st = vg_shard_verify(&broken, 1, false, &report);
        vg_shard_verify_report_release(&report);
        assert_true(st == VG_OK || st == VG_E_DATA);
        refused += st == VG_E_DATA;
        if (st == VG_OK) {
            split = split_of(broken, "train");
            assert_true(vg_split_hash(split) == hash);
            vg_split_close(split);
        }
        assert_int_equal(pwrite(fd, bytes + i, 1, (off_t)i), 1);
    }
    close(fd);
    assert_true(refused > 100);
    free(bytes);
}

static hid_t file_to_edit(const char *path)
{
    shard_of_two(path);
    const hid_t access = vg_h5_access(), file = H5Fopen(path, H5F_ACC_RDWR, access);
    H5Pclose(access);
    assert_true(file >= 0);
    return file;
}

static void newer_format_is_refused_by_name(void **state)
{
    const char *path = path_in(*state, "newer.h5");
    const int32_t newer = VG_SHARD_VERSION + 1;
    const hid_t file = file_to_edit(path), attribute = H5Aopen(file, "format_version", H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_INT32, &newer);
    H5Aclose(attribute);
    H5Fclose(file);
    assert_unreadable(path, "update vlgtr or import again");
}

/* The promise of data/FORMAT.md to files of the past and of the future. */
static void a_shard_of_format_1_is_read(void **state)
{
    vg_shard *shard = NULL;
    (void)state;
    MUST(vg_shard_open(FIXTURES "/../fuzz/corpus/data_container/two.h5", &shard));
    assert_true(shard->tables.n_images == 2 && shard->tables.n_sentences == 4);
    assert_true(shard->tables.images[0].coco_id == 0 && shard->origin.history[0] == '\0');
    vg_shard_close(shard);
}

/* /images once more, with a column behind the others. */
static void images_widen(hid_t file, const vg_shard_tables *t)
{
    const hid_t narrow = vg_shard_image_type(false), memory = vg_shard_image_type(true);
    const hid_t wide = H5Tcreate(H5T_COMPOUND, H5Tget_size(narrow) + 4);
    for (int i = 0; i < H5Tget_nmembers(narrow); i++) {
        char *name = H5Tget_member_name(narrow, (unsigned)i);
        const hid_t member = H5Tget_member_type(narrow, (unsigned)i);
        H5Tinsert(wide, name, H5Tget_member_offset(narrow, (unsigned)i), member);
        H5Tclose(member);
        H5free_memory(name);
    }
    H5Tinsert(wide, "licence", H5Tget_size(narrow), H5T_STD_I32LE);
    const hsize_t n = t->n_images;
    H5Ldelete(file, "images", H5P_DEFAULT);
    const hid_t space = H5Screate_simple(1, &n, NULL);
    const hid_t set = H5Dcreate2(file, "images", wide, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Dwrite(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, t->images) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Tclose(wide);
    H5Tclose(memory);
    H5Tclose(narrow);
}

static void what_a_reader_does_not_know_is_passed_over(void **state)
{
    const char *path = path_in(*state, "more.h5");
    vg_shard *before = NULL, *after = NULL;
    const hid_t file = file_to_edit(path), space = H5Screate(H5S_SCALAR);
    MUST(vg_shard_open(path, &before));
    H5Aclose(H5Acreate2(file, "licence", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT));
    H5Dclose(H5Dcreate2(file, "masks", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    images_widen(file, &before->tables);
    H5Sclose(space);
    H5Fclose(file);
    MUST(vg_shard_open(path, &after));
    assert_true(after->content == before->content && after->tables.n_images == 2);
    assert_true(after->tables.images[1].record == before->tables.images[1].record);
    vg_shard_close(before);
    vg_shard_close(after);
}

static void tables_must_lie_plainly_in_the_file(void **state)
{
    const char *path = path_in(*state, "linked.h5"), *other = path_in(*state, "other.h5");
    hid_t file = file_to_edit(path);
    shard_of_two(other);
    H5Ldelete(file, "boxes", H5P_DEFAULT);
    H5Fclose(file);
    assert_unreadable(path, "no /boxes in it");

    file = file_to_edit(path);
    H5Ldelete(file, "boxes", H5P_DEFAULT);
    H5Lcreate_external(other, "boxes", file, "boxes", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    assert_unreadable(path, "/boxes is a link");

    file = file_to_edit(path);
    H5Ldelete(file, "boxes", H5P_DEFAULT);
    const hsize_t size[2] = {1u << 30, 4}, chunk[2] = {1u << 20, 4};
    const hid_t space = H5Screate_simple(2, size, NULL), how = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(how, 2, chunk);
    H5Pset_deflate(how, 1);
    hid_t set = H5Dcreate2(file, "boxes", H5T_IEEE_F32LE, space, H5P_DEFAULT, how, H5P_DEFAULT);
    H5Dclose(set);
    H5Fclose(file);
    assert_unreadable(path, "/boxes is not stored plainly"); /* a filter may unpack to any size */

    file = file_to_edit(path);
    H5Ldelete(file, "boxes", H5P_DEFAULT);
    set = H5Dcreate2(file, "boxes", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dclose(set);
    H5Pclose(how);
    H5Sclose(space);
    H5Fclose(file);
    assert_unreadable(path, "more rows than the file has room for"); /* 16 GiB claimed, none written */

    file = file_to_edit(path);
    H5Ldelete(file, "boxes", H5P_DEFAULT);
    H5Ldelete(file, "sentences", H5P_DEFAULT);
    H5Gclose(H5Gcreate2(file, "sentences", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Fclose(file);
    assert_unreadable(path, "/sentences");
}

/* ---- I/O errors ---- */

static int failures_left, failure_code;

static ssize_t failing_pread(int fd, void *to, size_t n, off_t offset)
{
    if (failures_left == 0) return pread(fd, to, n > 3 ? 3 : n, offset); /* and short reads all along */
    failures_left--;
    errno = failure_code;
    return -1;
}

static void an_io_error_that_passes_is_tried_again(void **state)
{
    const char *path = path_in(*state, "two.h5");
    const int passing[] = {EIO, ESTALE, EINTR, ETIMEDOUT};
    unsigned char *bytes = NULL;
    size_t capacity = 0, n = 0;
    vg_shard *shard = NULL;
    shard_of_two(path);
    MUST(vg_shard_open(path, &shard));
    shard->pread = failing_pread;
    for (size_t i = 0; i < 4; i++) {
        failures_left = 2;
        failure_code = passing[i];
        MUST(vg_shard_read_image(shard, 0, &bytes, &capacity, &n));
        assert_memory_equal(bytes, "seven bytes", 11);
    }
    vg_shard_close(shard);
    free(bytes);
}

static void an_io_error_that_lasts_is_a_storage_error(void **state)
{
    const char *path = path_in(*state, "two.h5");
    unsigned char *bytes = NULL;
    size_t capacity = 0, n = 0;
    vg_shard *shard = NULL;
    shard_of_two(path);
    MUST(vg_shard_open(path, &shard));
    shard->pread = failing_pread;
    failures_left = 1000;
    failure_code = EIO;
    assert_int_equal(vg_shard_read_image(shard, 0, &bytes, &capacity, &n), VG_E_STORAGE);
    ASSERT_SAYS("Input/output error, after 5 tries");
    ASSERT_SAYS(path);
    failures_left = 1;
    failure_code = EBADF; /* never passes: no second try */
    assert_int_equal(vg_shard_read_image(shard, 0, &bytes, &capacity, &n), VG_E_STORAGE);
    assert_int_equal(failures_left, 0);
    vg_shard_close(shard);
    free(bytes);
}

static void a_shard_cut_while_it_is_open_is_noticed(void **state)
{
    const char *path = path_in(*state, "two.h5");
    unsigned char *bytes = NULL;
    size_t capacity = 0, n = 0;
    shard_of_two(path);
    vg_split *split = split_of(path, "train");
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(vg_split_read_image(split, 0, &bytes, &capacity, &n), VG_E_DATA);
    ASSERT_SAYS("cut short while it was read");
    vg_split_close(split);
    free(bytes);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(what_is_written_is_read_back),
        IN_SCRATCH(a_split_holds_only_its_own),
        IN_SCRATCH(equal_input_makes_equal_bytes),
        IN_SCRATCH(no_image_straddles_a_chunk_unless_it_is_larger),
        IN_SCRATCH(a_folder_is_its_shards_by_name),
        IN_SCRATCH(the_split_hash_follows_the_data),
        IN_SCRATCH(threads_read_images_side_by_side),
        IN_SCRATCH(nothing_appears_before_the_shard_is_whole),
        IN_SCRATCH(a_record_that_readers_refuse_is_not_written),
        IN_SCRATCH(no_more_kinds_are_written_than_are_read),
        IN_SCRATCH(a_shard_in_no_folder_is_a_storage_error),
        IN_SCRATCH(cut_shards_are_refused_by_name),
        IN_SCRATCH(a_flipped_byte_never_reads_differently),
        IN_SCRATCH(newer_format_is_refused_by_name),
        cmocka_unit_test(a_shard_of_format_1_is_read),
        IN_SCRATCH(what_a_reader_does_not_know_is_passed_over),
        IN_SCRATCH(tables_must_lie_plainly_in_the_file),
        IN_SCRATCH(an_io_error_that_passes_is_tried_again),
        IN_SCRATCH(an_io_error_that_lasts_is_a_storage_error),
        IN_SCRATCH(a_shard_cut_while_it_is_open_is_noticed),
        cmocka_unit_test(no_file_or_table_was_left_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
