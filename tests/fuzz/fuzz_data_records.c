/* Any bytes as a list of records to leave out: read, or refused by its line. */
#define _GNU_SOURCE /* memfd_create */
#include "data/record_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32];
    vg_record_list list;
    const int fd = memfd_create("list", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const vg_status st = vg_record_list_read(path, &list);
    if (st != VG_OK && (st != VG_E_DATA || !strstr(vg_error_text(), path))) abort();
    for (size_t i = 0; st == VG_OK && i < list.n; i++)
        if (!vg_record_list_has(&list, list.records[i])) abort();
    vg_record_list_release(&list);
    close(fd);
    return 0;
}
