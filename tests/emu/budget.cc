/* budget [--record] TABLE TOOLKIT MESSAGES..: what each kernel takes of a multiprocessor, as ptxas said when the build
 * compiled it (kernels/cuda/<name>.cu.o.ptxas), against the table in the repository. Architectures that the build left
 * out are left alone. Another toolkit than the table's says nothing: 77. Linked with the emulator's kernels, which know
 * how many threads a block may have. */
#include "emu/exec.h"

#include <cuda_occupancy.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iomanip>
#include <map>
#include <set>
#include <sstream>
#include <string>

enum { SKIPPED = 77, KILOBYTE = 1024 };

/* CUDA programming guide, "Technical specifications per compute capability". */
struct architecture {
    int sm, threads, shared_kb, block_kb; /* of a multiprocessor; shared memory that one block may have */
};
static const architecture architectures[] = {
    {80, 2048, 164, 163}, {90, 2048, 228, 227}, {100, 2048, 228, 227}, {120, 1536, 100, 99}};

/* A line of the table. */
struct row {
    int registers, stack, spilled, shared;
    int dynamic; /* shared memory given at launch, in a usual case: written by hand */
    unsigned threads;
    int occupancy; /* per cent */

    std::string text() const
    {
        char line[128];
        snprintf(line, sizeof line, "%9d %5d %7d %6d %7d %7u %9d", registers, stack, spilled, shared, dynamic, threads,
                 occupancy);
        return line;
    }
};
using table = std::map<std::pair<std::string, int>, row>; /* by kernel and architecture */

static int occupancy(int sm, const row &r)
{
    for (const architecture &a : architectures) {
        if (a.sm != sm) continue;
        cudaOccDeviceProp device;
        device.computeMajor = sm / 10;
        device.computeMinor = sm % 10;
        device.maxThreadsPerBlock = 1024;
        device.maxThreadsPerMultiprocessor = a.threads;
        device.regsPerBlock = device.regsPerMultiprocessor = 64 * KILOBYTE;
        device.warpSize = 32;
        device.sharedMemPerBlock = 48 * KILOBYTE;
        device.sharedMemPerMultiprocessor = (size_t)a.shared_kb * KILOBYTE;
        device.sharedMemPerBlockOptin = (size_t)a.block_kb * KILOBYTE;
        device.reservedSharedMemPerBlock = KILOBYTE;
        device.numSms = 1;
        cudaOccFuncAttributes kernel;
        kernel.maxThreadsPerBlock = (int)r.threads;
        kernel.numRegs = r.registers;
        kernel.sharedSizeBytes = (size_t)r.shared;
        kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        kernel.maxDynamicSharedSizeBytes = (size_t)r.dynamic;
        cudaOccDeviceState state;
        cudaOccResult result;
        if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, (int)r.threads,
                                                    (size_t)r.dynamic) == CUDA_OCC_SUCCESS)
            return 100 * result.activeBlocksPerMultiprocessor * (int)r.threads / a.threads;
    }
    return 0;
}

/* The number before `unit` in a line of ptxas, 0 without one. */
static int number_before(const std::string &line, const char *unit)
{
    size_t at = line.find(unit);
    if (at == std::string::npos) return 0;
    while (at && (isdigit(line[at - 1]) || line[at - 1] == ' ')) at--;
    return atoi(line.c_str() + at);
}

/* Adds what a file of messages says; false when there is none. */
static bool read_messages(const char *path, table *found)
{
    std::ifstream file(path);
    std::string line;
    std::pair<std::string, int> key;
    row r = {};
    for (; std::getline(file, line);) {
        char name[128];
        if (sscanf(line.c_str(), "ptxas info : Compiling entry function '%127[^']' for 'sm_%d'", name, &key.second) ==
            2) {
            key.first = name;
            r = {};
        } else if (line.find("bytes stack frame") != std::string::npos) {
            r.stack = number_before(line, " bytes stack frame");
            r.spilled = number_before(line, " bytes spill stores") + number_before(line, " bytes spill loads");
        } else if (line.find("Used ") != std::string::npos && !key.first.empty()) {
            r.registers = number_before(line, " registers");
            r.shared = number_before(line, " bytes smem");
            (*found)[key] = r;
        }
    }
    return !file.bad() && !found->empty();
}

/* Reads the table; its first line names the toolkit. */
static bool read_table(const char *path, std::string *toolkit, table *rows)
{
    std::ifstream file(path);
    std::string line;
    while (std::getline(file, line)) {
        std::istringstream words(line);
        std::pair<std::string, int> key;
        row r = {};
        if (line.rfind("# toolkit ", 0) == 0)
            *toolkit = line.substr(strlen("# toolkit "));
        else if (line[0] != '#' && words >> key.first >> key.second >> r.registers >> r.stack >> r.spilled >>
                                       r.shared >> r.dynamic >> r.threads >> r.occupancy)
            (*rows)[key] = r;
    }
    return !rows->empty();
}

static void write_table(const char *path, const char *toolkit, const table &rows)
{
    std::ofstream file(path);
    file << "# toolkit " << toolkit << "\n"
         << "# What kernels take of a multiprocessor; `budget --record` writes this file, but for the column "
            "`dynamic`.\n"
         << "# kernel               sm registers stack spilled shared dynamic threads occupancy\n";
    for (const auto &[key, r] : rows)
        file << std::left << std::setw(20) << key.first << ' ' << std::right << std::setw(4) << key.second << ' '
             << r.text() << '\n';
}

/* Completes what ptxas said with what it doesn't know. False when the emulator lacks a kernel. */
static bool complete(table *found, const table &known)
{
    std::map<std::string, int> dynamic;
    for (const auto &[key, r] : known) dynamic[key.first] = r.dynamic;
    for (auto &[key, r] : *found) {
        const emu::kernel *kernel = emu::kernel_find(key.first.c_str());
        if (!kernel) {
            printf("%s: no KERNEL_ENTRY\n", key.first.c_str());
            return false;
        }
        r.threads = kernel->max_threads;
        r.dynamic = dynamic[key.first];
        r.occupancy = occupancy(key.second, r);
    }
    return true;
}

/* Rows of the table for architectures that were not built are kept as found. */
static void keep_unbuilt(table *found, const table &known)
{
    std::set<int> built;
    for (const auto &[key, r] : *found) built.insert(key.second);
    for (const auto &[key, r] : known)
        if (!built.count(key.second)) (*found)[key] = r;
}

static int compare(const table &found, const table &known)
{
    int faults = 0;
    for (const auto &[key, r] : found) {
        const auto before = known.find(key);
        const std::string was = before == known.end() ? "nothing" : before->second.text();
        if (was == r.text()) continue;
        printf("%s sm_%d: was %s, is %s\n", key.first.c_str(), key.second, was.c_str(), r.text().c_str());
        faults++;
    }
    for (const auto &[key, r] : known) {
        if (found.count(key)) continue;
        printf("%s sm_%d: gone\n", key.first.c_str(), key.second);
        faults++;
    }
    printf("%zu kernels and architectures, %d differ%s\n", found.size(), faults,
           faults ? "; is that meant? `cmake --build . --target record_budget` writes the table anew" : "");
    return faults ? 1 : 0;
}

int main(int argc, char **argv)
{
    const bool record = argc > 1 && strcmp(argv[1], "--record") == 0;
    char **word = argv + 1 + record;
    if (argc - record < 4) {
        printf("usage: budget [--record] TABLE TOOLKIT MESSAGES..\n");
        return 64;
    }
    const char *path = word[0], *toolkit = word[1];
    table found, known;
    std::string known_toolkit;
    for (char **messages = word + 2; *messages; messages++)
        if (!read_messages(*messages, &found)) {
            printf("%s: nothing from ptxas\n", *messages);
            return 1;
        }
    if (!read_table(path, &known_toolkit, &known) && !record) {
        printf("%s: no table\n", path);
        return 1;
    }
    if (known_toolkit != toolkit && !record) {
        printf("the table is of toolkit %s, this is %s\n", known_toolkit.c_str(), toolkit);
        return SKIPPED;
    }
    if (!complete(&found, known)) return 1;
    keep_unbuilt(&found, known);
    if (!record) return compare(found, known);
    write_table(path, toolkit, found);
    return 0;
}
