#!/usr/bin/env python3
"""vlgtr doctor finds what would end a run, says so in a line, and leaves nothing behind.

usage: doctor.py VLGTR"""

import contextlib
import os
import pathlib
import re
import resource
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

CONFIGURATION = 78
check = harness.Check()


def examine(bench, what, code, failures, ranks=0, **options):
    """The exit code, and the subjects that failed, in order."""
    words = bench.sets({key.replace("_", ".", 1): value for key, value in options.items()})
    done = bench.run("doctor", "run.yaml", *words, ranks=ranks)
    lines = [line.split() for line in done.stdout.splitlines()]
    good = (done.returncode == code and [line[2] for line in lines if line[0] == "FAIL"] == failures
            and {"mpi", "program", "memory", "shared", "shards", "storage", "clock", "device"} <= {line[2] for line in lines}
            and not list(pathlib.Path(bench.folder).rglob("doctor.*")))
    failed = [" ".join(line[2:]) for line in lines if line[0] == "FAIL"]
    check(what, good, f"{done.returncode}, {len(lines)} lines, failed: {failed}" if good else f"{done.stdout}{done.stderr}")


def shared(bench, folder):
    """What doctor says of shared memory, the MB it names, and the MiB that the stages of a run miss."""
    line = next(line for line in bench.run("doctor", "run.yaml", ranks=2).stdout.splitlines() if " shared " in line)
    done = bench.run("train", "run.yaml", "--set", f"run.folder={folder}", ranks=2)
    missed = [int(mib) for mib in re.findall(r"shared gradient window needs (\d+) MiB", done.stderr)]
    return line, float(re.search(r"ranks take ([0-9.]+) MB", line)[1]), missed


def little_shared_memory(bench):
    """A file system without room takes its place."""
    enough, need, missed = shared(bench, "enough")
    os.environ["OMPI_MCA_osc_sm_backing_directory"] = "/proc"
    little, _, most = shared(bench, "little")
    del os.environ["OMPI_MCA_osc_sm_backing_directory"]
    check("shared memory that is enough for the gradients", enough.startswith("ok") and not missed, enough)
    check("a folder without room is named, with what the run finds missing", little.startswith("warn") and
          "/proc has room for 0.0 MB" in little and most and 0 <= max(most) * 2**20 - need * 1e6 <= 2**20, (little, most))


def full_disk(bench):
    """A disk that takes a part of what is written last."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 19, 5 << 19))

    done = bench.run("doctor", "run.yaml", preexec_fn=limit)
    line = next(line for line in done.stdout.splitlines() if " storage " in line)
    check("a full disk", done.returncode == CONFIGURATION and line.startswith("FAIL") and "File too large" in line, line)


def cores(bench):
    """mpirun may keep cores from its ranks: Open MPI binds one or two ranks to a core each."""
    lines, threads = {}, {}
    for policy in "core", "none":
        env = bench.environment(1) | {"OMPI_MCA_hwloc_base_binding_policy": policy}
        for verb in "doctor", "train":
            words = bench.sets({"run.folder": policy})
            done = subprocess.run(bench.command(1, verb, "run.yaml", *words), cwd=bench.folder, env=env, text=True, capture_output=True)
            said = done.stdout + done.stderr
            check(f"{verb} with ranks bound to {policy}", done.returncode == 0, "" if done.returncode == 0 else said)
            lines[policy, verb] = [line for line in said.splitlines() if "--bind-to" in line]
            threads[policy] = int(re.search(r"(\d+) threads", said)[1])
    wanted = r"mpirun leaves its 1 rank on \S+ only (\d+) of (\d+) cores: start it with --bind-to none$"
    told = [re.search(wanted, "".join(lines["core", verb])) for verb in ("doctor", "train")]
    there = threads["core"] < threads["none"]  # more than a core
    check("cores that mpirun keeps from its ranks", all(told) if there else not any(told), lines)
    check("no word where it does not", not lines["none", "doctor"] and not lines["none", "train"])


LIMITS = {"cpu/{}/cpu.cfs_quota_us": "100000", "memory/{}/memory.limit_in_bytes": "500000000"}  # version 1
LIMITS_2 = {"{}/cpu.max": "100000 100000", "{}/memory.max": "500000000"}
SWAP = {"memory/{}/memory.memsw.limit_in_bytes": "500000000", "{}/memory.swap.max": "0"}  # where the kernel counts it


def granted(bench):
    """A control group grants one processor and little memory."""
    top, group = pathlib.Path("/sys/fs/cgroup"), f"vlgtr-test-{os.getpid()}"
    limits = LIMITS if (top / "cpu").is_dir() else LIMITS_2
    files = [top / name.format(group) for name in limits]

    def enter():
        for path in files:
            (path.parent / "cgroup.procs").write_text("0")

    try:
        for path, limit in zip(files, limits.values()):
            path.parent.mkdir(exist_ok=True)
            path.write_text(limit)
        for name, limit in SWAP.items():
            with contextlib.suppress(OSError):
                (top / name.format(group)).write_text(limit)
        said = bench.run("doctor", "run.yaml", preexec_fn=enter).stdout
        good = "1 threads a rank" in said and "0.5 GB, 1 ranks here" in said
        check("what a control group grants", good, "" if good else said)
        much = bench.sets({"run.folder": "much", "train.global_batch": 4096, "train.micro_batch": 4096})
        said = bench.run("train", "run.yaml", *much, preexec_fn=enter, timeout=60).stderr
        warned = re.search(r"warning: the ranks of \S+ need ([0-9.]+) GB of memory, of 0.50 GB that they may take", said)
        check("a run that needs more of it says so", warned and float(warned[1]) > 0.5, warned[0] if warned else said)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"skip what a control group grants: {error}")
    finally:
        for folder in {path.parent for path in files}:
            with contextlib.suppress(OSError):  # it was not made
                folder.rmdir()


def main(vlgtr):
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        examine(bench, "a sound host", 0, [])
        examine(bench, "two ranks on it", 0, [], ranks=2)
        little_shared_memory(bench)
        cores(bench)
        granted(bench)
        full_disk(bench)
        examine(bench, "shards that are not there", CONFIGURATION, ["shards", "shards"], data_shards="absent")
        examine(bench, "a split that is not there", CONFIGURATION, ["shards"], data_eval_split="absent", ranks=2)
        examine(bench, "a folder that cannot be made", CONFIGURATION, ["storage"], run_folder="run.yaml/below")
        examine(bench, "weights that are not there", CONFIGURATION, ["weights"], vision_weights="absent.safetensors")
        examine(bench, "a tokenizer that is not there", CONFIGURATION, ["tokenizer"], text_tokenizer="absent")
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
