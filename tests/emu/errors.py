#!/usr/bin/env python3
"""What goes wrong with a GPU ends in one line and the documented exit code, or in the CPU where that was allowed.

usage: errors.py VLGTR BUILD"""

import os
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

COMM, DEVICE, SKIPPED, CONFIG = 69, 71, 77, 78
RUN = str(pathlib.Path(__file__).with_name("run"))
# The second rank alone: words of a shell command before the program's own.
SECOND_RANK = ["sh", "-c", '[ "$OMPI_COMM_WORLD_RANK" = 1 ] || unset VG_EMU_LOST VG_EMU_NCCL_VERSION VG_EMU_NCCL_MEMORY; exec "$0" "$@"', RUN]
runs = 0
check = harness.Check()


def train(bench, settings, *words, ranks=1):
    global runs
    runs += 1
    environment = dict(os.environ)
    os.environ.update(settings)
    options = {"run.folder": f"run{runs}", "schedule.heads.steps": 2, "schedule.blocks.steps": 1, "train.deadline": 5}
    done = bench.run("train", "run.yaml", *bench.sets(options), *words, ranks=ranks, timeout=120)
    os.environ.clear()
    os.environ.update(environment)
    return done


def expect(what, done, code, *words):
    """This exit code, one line from the program that has the words, and nothing that the emulator found."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("vlgtr")]
    findings = [line for line in done.stderr.splitlines() if line.startswith("vg-emu")]
    line = lines[0] if len(lines) == 1 else f"not one line, but {lines}"
    good = done.returncode == code and len(lines) == 1 and all(w in line for w in words) and not findings
    check(what, good, f"{done.returncode}  {line if good else done.stderr}")


def enough(bench, short, words, ranks):
    """With the memory that the refusal asks for the run comes to its end."""
    asked = re.search(r"needs (\d+) MiB", short.stderr)
    memory = int(asked[1]) if asked else 0
    done = train(bench, {"VG_EMU_MEMORY": str(memory << 20)}, *words, ranks=ranks)
    check(f"the {memory} MiB that {ranks} ranks ask for are enough", memory > 4 and done.returncode == 0, done.stderr if done.returncode else "")


def main(vlgtr, build):
    if os.path.exists("/dev/nvidiactl"):
        return SKIPPED  # a real GPU does not fail on demand
    os.environ["VLGTR_BUILD"] = os.path.abspath(build)
    with harness.Bench(vlgtr, through=[RUN]) as bench:
        bench.make_data()
        cuda = ["--device", "cuda"]
        expect("no device", train(bench, {"VG_EMU_DEVICES": "0"}, *cuda), DEVICE, "no GPU", "--device")
        expect("fewer devices than ranks", train(bench, {"VG_EMU_DEVICES": "2"}, *cuda, ranks=3), DEVICE, "rank 2", "no GPU")
        expect("two ranks on one device", train(bench, {"CUDA_VISIBLE_DEVICES": "3"}, *cuda, ranks=2), CONFIG, "ranks 0 and 1",
               "same GPU, 0000:1e:00.0")
        expect("hidden devices", train(bench, {"CUDA_VISIBLE_DEVICES": ""}, *cuda), DEVICE, "CUDA_VISIBLE_DEVICES")
        allowed = train(bench, {"VG_EMU_DEVICES": "0"}, "--device", "auto")
        check("no device, and that is allowed", allowed.returncode == 0 and "computing on the CPU: no GPU" in allowed.stderr)
        foreign = {"VG_EMU_NO_CODE": "1"}
        expect("no code for the device", train(bench, foreign, *cuda), DEVICE, "compute capability 9.0", "VLGTR_CUDA_ARCHITECTURES=90", "--device")
        allowed = train(bench, foreign, "--device", "auto")
        check("no code for it, and that is allowed", allowed.returncode == 0 and "computing on the CPU: this build" in allowed.stderr)
        short = train(bench, {"VG_EMU_MEMORY": str(4 << 20)}, *cuda)
        expect("too little memory", short, DEVICE, "train.micro_batch")
        enough(bench, short, cuda, ranks=1)
        shares = [*cuda, "--set", "train.zero=true", "--set", "train.bucket_mb=0.1"]
        enough(bench, train(bench, {"VG_EMU_MEMORY": str(4 << 20)}, *shares, ranks=2), shares, ranks=2)
        expect("device lost", train(bench, {"VG_EMU_LOST": "100"}, *cuda), DEVICE, "unspecified launch failure")
    with harness.Bench(vlgtr, through=SECOND_RANK) as bench:
        bench.make_data()
        expect("one of two devices lost", train(bench, {"VG_EMU_LOST": "100"}, *cuda, ranks=2), DEVICE,
               "unspecified launch failure")
        expect("the same where each keeps a share of the moments",
               train(bench, {"VG_EMU_LOST": "100"}, *cuda, "--set", "train.zero=true", ranks=2), DEVICE,
               "unspecified launch failure")
        expect("another NCCL beside one of two", train(bench, {"VG_EMU_NCCL_VERSION": "22703"}, *cuda, ranks=2), COMM,
               "rank 1 on", "the version of NCCL")
        expect("too little memory for NCCL", train(bench, {"VG_EMU_NCCL_MEMORY": str(8 << 30)}, *cuda, ranks=2), DEVICE,
               "rank 1 on", "Failed to CUDA malloc", "MiB are free", "train.micro_batch")
        # What the others' devices wait for never comes: they are told, long before the deadline.
        soon = {"VG_EMU_LOST": "adamw_blocks"}
        for what, more in (("two", []), ("two that share the moments", ["--set", "train.zero=true"])):
            expect(f"one of {what} lost in the update", train(bench, soon, "--set", "train.deadline=300", *cuda, *more, ranks=2),
                   DEVICE, "rank 1 on", "unspecified launch failure")
        expect("one of two lost when they meet", train(bench, {"VG_EMU_LOST": "add_numbers"}, "--set", "train.deadline=300", *cuda, ranks=2),
               DEVICE, "rank 1 on", "unspecified launch failure")
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
