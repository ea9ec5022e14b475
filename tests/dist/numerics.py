#!/usr/bin/env python3
"""The weights of a small training have the bits that were recorded for this numerics profile, and a run that goes on under
another one says so. A change that gives other bits raises VG_NUMERICS (trainer/compute.h) and records anew:

usage: numerics.py VLGTR [--record]"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

SKIPPED, LAST = 77, 30
RECORDED = pathlib.Path(__file__).with_suffix(".txt")  # a line `weights hash  profile` for each
check = harness.Check()


def recorded():
    return dict(reversed(line.split("  ", 1)) for line in RECORDED.read_text().splitlines())


def train(bench, folder, isa):
    """Under a limit on the instruction set, where one is given: the profile, the last weights' hash, and what was said."""
    if isa:
        os.environ["VLGTR_ISA"] = isa
    profile = bench.must("version").split("numerics profile: ")[1].strip()
    done = bench.run("train", "run.yaml", *bench.sets({"run.folder": folder}))
    os.environ.pop("VLGTR_ISA", None)
    check(f"a run with '{profile}'", done.returncode == 0, done.stderr[-400:] if done.returncode else "")
    return profile, bench.hashes(folder)[LAST], done.stderr


def record(found):
    """Rows of this program take the place of older ones; those of other machines stay for them to record."""
    def machine(profile):
        return profile.split(", ", 1)[1]

    mine = {machine(profile) for profile in found}
    rows = {**{p: h for p, h in recorded().items() if machine(p) not in mine}, **found}
    RECORDED.write_text("".join(f"{hash}  {profile}\n" for profile, hash in sorted(rows.items())))


def main(vlgtr, mode=""):
    known, found = recorded(), {}
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        for isa in ("", "avx2", "base"):
            profile, found_hash, _ = train(bench, f"run-{isa}", isa)
            found[profile] = found_hash
        if mode == "--record":
            record(found)
            return 0
        for profile, found_hash in found.items():
            others = [p for p in known if p.split(", ", 1)[1] == profile.split(", ", 1)[1] and p != profile]
            if profile in known:
                same = known[profile] == found_hash
                check(f"'{profile}' gives the bits that were recorded", same, "" if same else
                      f"{found_hash}, not {known[profile]}: raise VG_NUMERICS if they are meant to differ, and record anew")
            else:
                check(f"'{profile}' is recorded, or nothing like it", not others, f"record it in the place of {others}")
        if len(found) > 1:
            bench.train(0, {"run.folder": "mixed", "run.until": "heads"})
            _, _, said = train(bench, "mixed", "base")
            told = [line for line in said.splitlines() if "was computed with" in line]
            check("a run that goes on under another profile says so in a line", len(told) == 1 and "warning" in told[0] and
                  all(profile in told[0] for profile in (list(found)[0], list(found)[-1])), told)
        again = bench.run("train", "run.yaml", *bench.sets({"run.folder": "run-"}))
        check("and does not under its own", again.returncode == 0 and "was computed with" not in again.stderr)
    return 1 if check.bad else 0 if set(found) & set(known) else SKIPPED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
