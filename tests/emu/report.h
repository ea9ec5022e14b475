/* Findings about the code under test. Each is one line on stderr; the process ends with status 86 when there was one,
 * unless VG_EMU_STRICT is 0. */
#ifndef VG_EMU_REPORT_H
#define VG_EMU_REPORT_H

namespace emu
{

/* `kind` in a word or two ("race", "out of bounds"), then the sentence. The same finding at the same place counts once:
 * `place` is a code address, or NULL for a finding that always counts. */
void report(const char *kind, const void *place, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Was this reported at this place before? Spares the trouble to put the sentence together. */
bool is_known(const char *kind, const void *place);

/* How many so far, by kind; NULL for all. Used by the self-test, which forgets the ones that it planted. */
int reports(const char *kind);
void reports_forget();

} // namespace emu

#endif
