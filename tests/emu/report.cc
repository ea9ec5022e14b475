#include "emu/report.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <unistd.h>

namespace emu
{

enum { STATUS = 86 };

namespace
{
struct findings {
    std::map<std::string, int> counts;
    std::set<std::pair<std::string, const void *>> seen;
    bool strict;

    findings()
    {
        const char *setting = getenv("VG_EMU_STRICT");
        strict = !setting || atoi(setting) != 0;
        atexit(end);
    }
    static void end();
};

findings &all()
{
    static findings &f = *new findings; /* outlives exit handlers */
    return f;
}

void findings::end()
{
    const int n = reports(nullptr);
    if (n == 0 || !all().strict) return;
    fprintf(stderr, "vg-emu: %d finding%s\n", n, n == 1 ? "" : "s");
    fflush(nullptr);
    _exit(STATUS);
}
} // namespace

void report(const char *kind, const void *place, const char *format, ...)
{
    findings &f = all();
    if (place && !f.seen.insert({kind, place}).second) return;
    f.counts[kind]++;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "vg-emu: %s: ", kind);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

bool is_known(const char *kind, const void *place)
{
    return all().seen.count({kind, place}) > 0;
}

int reports(const char *kind)
{
    int n = 0;
    for (const auto &[name, count] : all().counts)
        if (!kind || name == kind) n += count;
    return n;
}

void reports_forget()
{
    all().counts.clear();
    all().seen.clear();
}

} // namespace emu
