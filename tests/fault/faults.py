#!/usr/bin/env python3
"""What a run makes of each fault: told within its time, in a line that says what to do, with its exit code; and the same
command goes on from what is left on disk to the weights of the run that nobody disturbed.

usage: faults.py VLGTR [TABLE.md]        TABLE.md: the rows between its two marks are written anew"""

import os
import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

LAST, AT, DEADLINE = 30, 7, 4
OPTIONS = {"run.checkpoint_every": 3, "train.deadline": DEADLINE, "data.workers": 1, "data.cache_mb": 0}

# What happens, how it is brought about (--inject, or a function of the bench), exit code, seconds until the job has ended
# or, where it goes on, has told (None: it goes on to its end, told in its log), and what is said.
FAULTS = [
    ("a rank dies", ["lag@1,1", "kill@1,25"], 137, 20,
     r"rank 1 on \S+ is gone, last seen .* after step [1-9].*goes on from its last checkpoint"),
    ("a bug ends a rank", "crash@1,7", 134, 15, r"rank 1 on \S+ is gone, last seen .*goes on from its last checkpoint"),
    ("a rank no longer answers (its host stands still)", "stop@1,7", 69, DEADLINE + 15, r"no answer from rank 1 on .*start again"),
    ("a rank hangs", "hang@0,7", 69, DEADLINE + 15, r"no answer from rank 0 on .*start again"),
    ("a rank is five times as slow", "slow@1,7", 0, None, r"warning: rank 1 on \S+ takes .* see what else runs there"),
    ("a loss is not finite", "nan@1,7", 0, None, r"step 6: a loss or gradient is not finite .* skipped"),
    ("losses are not finite again and again", ["nan@1,7", "nan@0,8", "nan@1,9"], 76, 15,
     r"3 steps in a row are not finite; lower the learning rate"),
    ("the disk is full", "full@0,7", 74, 30, r"3 saves in a row failed: rank 0 on .* too large"),
    ("the scheduler asks for the nodes", "ask@1,7", 75, 15, r"stopped at step 6 on request; the same command goes on"),
    ("a shard loses its end", "truncate", 65, 60, r"shards/.*\.h5: .* cut short .* `vlgtr shard verify`"),
    ("the newest checkpoint is damaged", "damage", 0, None, r"WARNING: checkpoint .* cannot be used: .* falling back"),
    ("a key of the configuration is wrong", "typo", 78, 15, r"train\.clip_nrom.*did you mean 'train.clip_norm'"),
]


def watch(process):
    """Lines of standard error until the end, and the seconds since a fault was injected (or since the start)."""
    lines, start = [], time.monotonic()
    for line in process.stderr:
        lines.append(line)
        if "is injected" in line:
            start = time.monotonic()
    process.wait()
    return "".join(lines), time.monotonic() - start


def launch(bench, options, more=()):
    return subprocess.Popen([*bench.command(2, "train", "run.yaml", *bench.sets(options), *more)], cwd=bench.folder,
                            env=bench.environment(2), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                            errors="replace", start_new_session=True)


def bring_about(bench, how, options):
    """Starts the run that meets the fault. Returns the process and what makes it good again."""
    if how == "typo":
        return launch(bench, options, ("--set", "train.clip_nrom=1")), lambda: None
    if how == "damage":
        bench.train(2, {**options, "run.until": "heads"})
        weights = sorted(pathlib.Path(bench.path(options["run.folder"], "checkpoints")).glob("step-*"))[-1] / "weights.safetensors"
        with open(weights, "r+b") as f:
            f.seek(-5, os.SEEK_END)
            byte = f.read(1)[0]
            f.seek(-5, os.SEEK_END)
            f.write(bytes([byte ^ 1]))
        return launch(bench, options), lambda: None
    if how == "truncate":
        shard = next(pathlib.Path(bench.path("shards")).glob("*.h5"))
        whole = shard.read_bytes()
        process = bench.start("train", "run.yaml", *bench.sets({**options, "run.until": "heads"}), ranks=2)
        process.wait()
        process = launch(bench, options, ("--inject", f"slow@0,{LAST // 2 + 2}"))
        bench.wait_for_step(LAST // 2 + 2, options["run.folder"], process)
        os.truncate(shard, len(whole) // 3)
        return process, lambda: shard.write_bytes(whole)
    words = [word for fault in ([how] if isinstance(how, str) else how) for word in ("--inject", fault)]
    return launch(bench, options, words), lambda: None


def left(bench, folder):
    """The newest checkpoint."""
    names = sorted(p.parent.name for p in pathlib.Path(bench.path(folder, "checkpoints")).glob("step-*/manifest.json"))
    return names[-1] if names else "nothing"


def meet(bench, number, fault, want):
    what, how, code, limit, said = fault
    folder = f"fault{number}"
    options = {"run.folder": folder, **OPTIONS, "train.max_skips": 3}
    process, mend = bring_about(bench, how, options)
    text, seconds = watch(process)
    text = '\n'.join(l for l in text.splitlines() if re.match('vlgtr|warning', l))
    found = left(bench, folder)
    bench.kill_left()  # one that stands still
    mend()
    line = re.search(f".*{said}.*", text)
    once = "is gone" in said or "is gone" not in text  # ranks that follow the one that says why are no news
    good = process.returncode == code and line is not None and once and (limit is None or seconds < limit)
    whole = "nan" not in str(how) or code
    if code != 0:
        bench.train(3, options)
    same = bench.hashes(folder).get(LAST) == want if whole else bench.hashes(folder).get(LAST) != want
    print(f"{'ok ' if good and same else 'BAD'} {what}: {process.returncode} after {seconds:.1f} s, {found} is left; "
          f"{line.group(0) if line else text[-600:]}; then {'same' if same else 'OTHER'}", flush=True)
    told = re.sub(r"^vlgtr \w+: ", "", line.group(0).strip()).replace("`", "'") if line else ""  # it stands in backticks
    end = f"{process.returncode}" if code else "0, it goes on"
    row = f"| {what} | {end} | {f'{seconds:.1f} s' if limit else 'at the next log line or at once'} | `{told[:400]}` | {found} |"
    return good and same, row.replace(bench.folder, "")


def record(path, rows):
    begin, end = "<!-- faults -->\n", "<!-- end -->"
    text = pathlib.Path(path).read_text()
    head, rest = text.split(begin)
    table = "| what happens | exit code | until the job has ended | what is said | left on disk |\n|---|---|---|---|---|\n"
    pathlib.Path(path).write_text(head + begin + table + "\n".join(rows) + "\n" + end + rest.split(end)[1])


def main(vlgtr, table=None):
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        bench.train(1, {"run.folder": "calm", **OPTIONS})
        want = bench.hashes("calm")[LAST]
        results = [meet(bench, i, fault, want) for i, fault in enumerate(FAULTS)]
    if table:
        record(table, [row for _, row in results])
    return 0 if all(good for good, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
