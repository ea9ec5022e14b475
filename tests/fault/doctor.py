#!/usr/bin/env python3
"""vlgtr doctor finds what would end a run, says so in a line, and leaves nothing behind.

usage: doctor.py VLGTR"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

CONFIGURATION = 78
bad = 0


def examine(bench, what, code, failures, ranks=0, **options):
    """The exit code, and the subjects that failed, in order."""
    global bad
    words = bench.sets({key.replace("_", ".", 1): value for key, value in options.items()})
    done = bench.run("doctor", "run.yaml", *words, ranks=ranks)
    lines = [line.split() for line in done.stdout.splitlines()]
    good = (done.returncode == code and [line[2] for line in lines if line[0] == "FAIL"] == failures
            and {"mpi", "program", "memory", "/dev/shm", "shards", "storage", "clock", "device"} <= {line[2] for line in lines}
            and not list(pathlib.Path(bench.folder).rglob("doctor.*")))
    bad += not good
    print(f"{'ok ' if good else 'BAD'} {what}: {done.returncode}, {len(lines)} lines, failed: "
          f"{[' '.join(line[2:]) for line in lines if line[0] == 'FAIL']}", flush=True)
    if not good:
        print(done.stdout, done.stderr)


def main(vlgtr):
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        examine(bench, "a sound host", 0, [])
        examine(bench, "two ranks on it", 0, [], ranks=2)
        examine(bench, "shards that are not there", CONFIGURATION, ["shards", "shards"], data_shards="absent")
        examine(bench, "a split that is not there", CONFIGURATION, ["shards"], data_eval_split="absent", ranks=2)
        examine(bench, "a folder that cannot be made", CONFIGURATION, ["storage"], run_folder="run.yaml/below")
        examine(bench, "weights that are not there", CONFIGURATION, ["weights"], vision_weights="absent.safetensors")
        examine(bench, "a tokenizer that is not there", CONFIGURATION, ["tokenizer"], text_tokenizer="absent")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
