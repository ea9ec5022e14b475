#!/usr/bin/env python3
"""One training that is killed again and again, at random moments and by SIGKILL: one of its ranks, mpirun, or all at once;
in start-up, between steps, while a checkpoint is written. Each life may have another number of ranks, which may keep
their share of the moments alone. It ends with the weights of the run that nobody disturbed.

usage: kills.py VLGTR [KILLS]"""

import collections
import os
import pathlib
import random
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

# Lives are killed within 1.5 s, and a rank that is a tenth of a second late to every step makes 15 steps of that: the run is
# not through before its last kill.
STEPS_PER_KILL, LATE = 16, ("--inject", "lag@0,1")
GONE_S = 30


def newest(bench, folder):
    """The last step that metrics.jsonl tells of."""
    if not os.path.exists(bench.path(folder, "metrics.jsonl")):
        return 0
    return max((r["step"] for r in bench.records(folder) if "loss" in r), default=0)


def writes(bench, folder):
    """Whether a checkpoint is being written."""
    return any(not os.path.exists(os.path.join(path, "manifest.json"))
               for path in pathlib.Path(bench.path(folder, "checkpoints")).glob("step-*"))


def moment(bench, folder, process, chance):
    """Waits for the moment of a kill: after some time, some steps on, or in a save. Its name, or None when the run ended."""
    kind = chance.choice(["at any time", "steps on", "in a save"])
    until, step = time.monotonic() + chance.uniform(0, 1.5), newest(bench, folder) + chance.randint(1, 4)
    while process.poll() is None:
        if kind == "at any time" and time.monotonic() > until:
            return kind
        if kind == "steps on" and newest(bench, folder) >= step:
            return kind
        if kind == "in a save" and newest(bench, folder) >= step and writes(bench, folder):
            return kind
        time.sleep(0.001)
    return None


def kill(bench, process, chance):
    """Kills a rank, mpirun or all; what was killed."""
    ranks = bench.processes()
    whom = chance.choice(["rank", "mpirun", "all"])
    if whom == "rank" and ranks:
        os.kill(ranks[chance.choice(list(ranks))], signal.SIGKILL)
    elif whom == "all":
        os.killpg(process.pid, signal.SIGKILL)
        for pid in ranks.values():
            os.kill(pid, signal.SIGKILL)
    else:
        whom = "mpirun"
        os.kill(process.pid, signal.SIGKILL)
    return whom


def within(seconds, holds):
    """Whether it comes to hold in that time."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def wait_until_gone(bench, process):
    """What is left of a life ends by itself. Only mpirun was seen to stand still in its own end, with no rank left (Open
    MPI 4.1.4, in PMIx_server_finalize): it is killed then, and that is told."""
    if not within(GONE_S, lambda: process.poll() is not None) and not bench.processes():
        print("mpirun outlives its ranks: killed", flush=True)
        process.kill()
    if not within(GONE_S, lambda: process.poll() is not None and not bench.processes()):
        raise SystemExit(f"ranks outlive what was killed by {GONE_S} s: {bench.processes()}")


def main(vlgtr, kills):
    chance, done = random.Random(11), collections.Counter()
    half = STEPS_PER_KILL * kills // 2
    schedule = {"run.checkpoint_every": 2, "run.hash_every": 0, "data.workers": 1}
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        bench.write("run.yaml", harness.CONFIG.replace("steps: 16", f"steps: {half}").replace("steps: 14", f"steps: {half}"))
        bench.train(1, {"run.folder": "calm", **schedule, "run.checkpoint_every": 1000000})
        want = bench.hashes("calm")[2 * half]
        while sum(done.values()) < kills:
            life = {"run.folder": "killed", "train.zero": chance.choice(["true", "false"]), **schedule}
            process = bench.start("train", "run.yaml", *bench.sets(life), *LATE, ranks=chance.randint(1, 4))
            when = moment(bench, "killed", process, chance)
            if when is None:
                print(f"the run ended before its kill {sum(done.values()) + 1}, with {process.returncode}")
                return 1
            done[f"{kill(bench, process, chance)} {when}"] += 1
            wait_until_gone(bench, process)
        reached = newest(bench, "killed")
        bench.train(2, {"run.folder": "killed", **schedule})
        same = bench.hashes("killed")[2 * half] == want
    print(", ".join(f"{n} x {what}" for what, n in sorted(done.items())))
    print(f"{kills} kills until step {reached} of {2 * half}: {'same' if same else 'OTHER'} bits at the end")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4))
