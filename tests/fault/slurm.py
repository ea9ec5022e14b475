#!/usr/bin/env python3
"""Training under a real Slurm: whatever the scheduler does to a job, the weights are those of a run that nobody disturbed.

usage: slurm.py VLGTR [--all]     --all: also what takes Slurm itself minutes: time limits, lost nodes

Skips (77) where Debian's slurmctld, slurmd and munge are not installed, or without root."""

import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "fault")]
import harness
import slurm_cluster

SKIPPED = 77
STEPS = {"schedule.heads.steps": 140, "schedule.blocks.steps": 60, "run.checkpoint_every": 40}
LONGER = {**STEPS, "schedule.heads.steps": 1440}  # with SLOW, more than two minutes
SLOW = ["--set", "train.check=true"]
JOBS = ROOT / "jobs" / "slurm"
check = harness.Check()


class Test:
    def __init__(self, bench, slurm):
        self.bench, self.slurm = bench, slurm
        slurm.env.update(VLGTR=bench.vlgtr[-1], VLGTR_HOME=str(ROOT), VLGTR_LAUNCH="srun")
        self.want = self.undisturbed("calm", STEPS)

    def undisturbed(self, folder, steps):
        self.bench.train(2, {"run.folder": folder, **steps})
        return self.end(folder)

    def end(self, folder):
        """The last step and the hash of its weights."""
        return max(self.bench.hashes(folder).items())

    def submit(self, folder, *options, more=(), steps=STEPS):
        words = ["run.yaml", *self.bench.sets({"run.folder": folder, **steps}), *more]
        return self.slurm.submit(self.bench.folder, *options, str(JOBS / "train.sbatch"), *words)

    def log(self, folder):
        path = pathlib.Path(self.bench.path(folder, "log.txt"))
        return path.read_text() if path.exists() else ""

    def trains(self, folder, step=5):
        """Until the job's run has reached this step."""
        def reached():
            path = self.bench.path(folder, "metrics.jsonl")
            return os.path.exists(path) and any(r["step"] >= step for r in self.bench.records(folder))
        self.slurm.until(reached, 120, f"{folder} is not at step {step}")

    def same(self, what, folder, job, restarted=True, want=None):
        have, n = self.end(folder), int(self.slurm.job(job)["Restarts"])
        check(what, have == (want or self.want) and (n > 0) == restarted, f"{n} restarts, hash {have[1]} at step {have[0]}")

    # ---- what happens to jobs ----

    def plain(self):
        job = self.submit("plain", "-N", "2", "--ntasks-per-node=2", "--gpus-per-node=2")
        self.slurm.wait(job, "COMPLETED")
        self.same("two nodes, two ranks each, by srun", "plain", job, restarted=False)

    def by_mpirun(self):
        self.slurm.env["VLGTR_LAUNCH"] = "mpirun"
        job = self.submit("mpirun", "-N", "2", "--ntasks-per-node=1")
        self.slurm.env["VLGTR_LAUNCH"] = "srun"
        self.trains("mpirun")
        self.slurm.call("scancel", "--batch", "-s", "USR1", job)  # what --signal=B:USR1@.. sends
        self.slurm.wait(job, "COMPLETED")
        self.same("by mpirun, warned by USR1: saved, requeued, resumed", "mpirun", job)

    def preempted(self):
        job = self.submit("preempted", "-N", "2", "--ntasks-per-node=2", "--exclusive")
        self.trains("preempted")
        urgent = self.slurm.submit(self.bench.folder, "-p", "urgent", "-N", "2", "--exclusive", "--output=/dev/null",
                                   "--wrap", "sleep 1")
        self.slurm.wait(urgent, "COMPLETED")
        stopped = "stopped at step" in self.log("preempted")
        self.slurm.wait(job, "COMPLETED")
        check("preempted: stopped at a checkpoint", stopped)
        self.same("preempted: requeued, resumed", "preempted", job)

    def cancelled(self):
        job = self.submit("cancelled", "-N", "2", "--ntasks-per-node=1")
        self.trains("cancelled")
        self.slurm.call("scancel", "--full", job)
        self.slurm.wait(job, "CANCELLED")
        self.slurm.until(lambda: not self.bench.processes(), 30, "ranks outlive scancel")
        left = list(pathlib.Path(self.bench.path("cancelled", "checkpoints")).glob("step-*"))
        whole = all((p / "manifest.json").exists() for p in left)
        check("scancel: saved, gone for good, nothing half-written", left and whole and
              "stopped at step" in self.log("cancelled") and self.slurm.job(job)["Restarts"] == "0", f"{len(left)} checkpoints")
        self.bench.train(1, {"run.folder": "cancelled", **STEPS})
        check("scancel: the run can still go on", self.end("cancelled") == self.want)

    def warned(self):
        """A minute is the shortest limit; Slurm sends the warning in its first half, or a little later."""
        want = self.undisturbed("longer", LONGER)
        job = self.submit("warned", "-N", "1", "--ntasks-per-node=1", "-t", "1", "--signal=B:USR1@45", more=SLOW, steps=LONGER)
        self.slurm.until(lambda: int(self.slurm.job(job)["Restarts"]) > 0, 120, "no warning, or no requeue")
        stopped = "stopped " in self.log("warned")
        self.slurm.call("scontrol", "update", f"JobId={job}", "TimeLimit=UNLIMITED", check=False)
        self.slurm.wait(job, "COMPLETED", 300)
        check("warned of the time limit: stopped at a checkpoint", stopped)
        self.same("warned of the time limit: requeued, resumed", "warned", job, want=want)

    def node_lost(self):
        job = self.submit("lost", "-N", "2", "--ntasks-per-node=2", more=SLOW)
        self.trains("lost", 45)
        began, first = time.monotonic(), self.slurm.nodes_of(job)
        self.slurm.kill_node(first[1])
        self.slurm.until(lambda: int(self.slurm.job(job)["Restarts"]) > 0, 120, "no requeue")
        requeued = time.monotonic() - began
        self.slurm.wait(job, "COMPLETED", 150)
        then = self.slurm.nodes_of(job)
        check("a node lost: goes on on the others", first[1] not in then and len(then) == 2,
              f"first {first}, after {requeued:.0f} s {then}")
        self.same("a node lost: resumed", "lost", job)
        self.slurm.start_node(first[1])

    # ---- jobs that hang on each other ----

    def chain(self):
        """Two imports side by side, a job for each stage, the checkpoints evaluated side by side."""
        pathlib.Path(self.bench.path("imports")).write_text("synth data chained-1\nsynth data 'chained 2'\n")
        imports = self.slurm.submit(self.bench.folder, "-a", "1-2", str(JOBS / "import.sbatch"), "imports")
        self.slurm.env["CHAIN_AFTER"] = f"afterok:{imports}"
        self.bench.write("chained.yaml", harness.CONFIG.replace("shards: [shards]", "shards: [chained-1]")
                         .replace("folder: run", "folder: chained"))
        one = "-N 1 --ntasks-per-node=2"
        stages = self.slurm.call(str(JOBS / "chain"), "chained.yaml", "heads", one, "blocks", "-N 2 --ntasks-per-node=1",
                                 cwd=self.bench.folder).split()
        self.slurm.wait(stages[-1], "COMPLETED")
        heads = self.slurm.job(stages[0])["JobState"]
        self.bench.must("shard", "verify", "chained 2")
        self.bench.train(1, {"run.folder": "unchained", "data.shards": "chained-1"})
        same = self.bench.hashes("chained") == self.bench.hashes("unchained")
        check("imports, then a job for each stage", same and heads == "COMPLETED" and len(stages) == 2)
        evaluations = self.slurm.submit(self.bench.folder, "-a", "1-2", str(JOBS / "evaluate.sbatch"), "chained",
                                        "--split", "val")
        for i in (1, 2):
            self.slurm.wait(f"{evaluations}_{i}", "COMPLETED")
        scores = list(pathlib.Path(self.bench.path("chained", "evaluations")).glob("*.txt"))
        check("checkpoints evaluated side by side", len(scores) == 2 and all("split val" in p.read_text() for p in scores))

    def without_mpi(self):
        """Tasks that do not know of each other are no run."""
        self.slurm.env["VLGTR_SRUN"] = "--mpi=none -K1"
        job = self.submit("apart", "-n", "2", "--output=apart.log")
        del self.slurm.env["VLGTR_SRUN"]
        log = pathlib.Path(self.bench.path("apart.log"))
        self.slurm.until(lambda: log.exists() and "--mpi=pmix" in log.read_text(), 60, "srun without MPI goes unnoticed")
        self.slurm.wait(job, "FAILED")
        check("srun without MPI is refused", not os.path.exists(self.bench.path("apart", "metrics.jsonl")))


def main(vlgtr, more=""):
    if not slurm_cluster.available():
        print("no Slurm: apt-get install slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge, as root")
        return SKIPPED
    with harness.Bench(vlgtr) as bench, slurm_cluster.Cluster(nodes=3) as slurm:
        bench.make_data()
        test = Test(bench, slurm)
        cases = [test.preempted, test.cancelled, test.chain, test.without_mpi]
        if more == "--all":
            cases += [test.plain, test.by_mpirun, test.warned, test.node_lost]
        for case in cases:
            began = time.monotonic()
            case()
            print(f"    {time.monotonic() - began:.1f} s", flush=True)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
