#!/usr/bin/env python3
"""What of the exchange of gradients hides behind backward, where the link is so slow that it costs half of backward; and
what the canonical sum takes beside MPI's own, on one host and between hosts behind a slow link. Hosts are network
namespaces.

usage: overlap.py VLGTR [BENCH_ALLREDUCE]

Without tests/bench/allreduce.c it shows the first alone.

Skips (77) where network namespaces cannot be made."""

import json
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "fault")]
import harness
import hosts

SKIPPED, SLOWER = 77, 1.1
STEPS, UNCOUNTED = 8, 2  # the first steps make connections and touch memory
MODEL = {"vision.width": 192, "vision.depth": 8, "vision.heads": 3, "vision.mlp": 768, "vision.grid": 8, "data.side": 64,
         "train.global_batch": 64, "train.micro_batch": 32, "train.threads": 1, "schedule.heads.steps": STEPS,
         "schedule.heads.unfreeze_blocks": 8, "run.until": "heads", "run.trace_steps": STEPS, "run.log_every": STEPS,
         "run.checkpoint_every": 0}
check = harness.Check()


class Net:
    """Runs programs with a rank on each of some hosts, or several."""

    def __init__(self, bench, net):
        self.bench, self.net = bench, net
        self.env = {**bench.environment(1), "OMPI_MCA_btl_tcp_if_include": "eth0", "OMPI_MCA_oob_tcp_if_include": "eth0",
                    "OMPI_MCA_btl": "vader,tcp,self", "OMPI_MCA_coll_tuned_use_dynamic_rules": "1"}

    def run(self, n_hosts, per_host, *words):
        where = ",".join(f"{name}:{per_host}" for name in self.net.names[:n_hosts])
        launcher = ["mpirun", "--mca", "plm_rsh_agent", self.net.agent, "--host", where, "-np", str(n_hosts * per_host)]
        process = self.net.start("h1", [*launcher, *words], cwd=self.bench.folder, env=self.env, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = process.communicate(timeout=600)
        if process.returncode:
            raise SystemExit(f"{' '.join(words)} ended with {process.returncode}:\n{said}")
        return said

    def steps(self, folder, bucket_mb):
        """From the trace, medians over steps in ms: backward, and from there (of the last rank) until the last rank has the
        last bucket; and how many buckets there are."""
        self.run(2, 1, self.bench.vlgtr[-1], "train", "run.yaml",
                 *self.bench.sets({**MODEL, "run.folder": folder, "train.bucket_mb": bucket_mb}))
        trace = json.loads(pathlib.Path(self.bench.path(folder, "trace.json")).read_text())["traceEvents"]
        spans = {name: [[(e["ts"], e["ts"] + e["dur"]) for e in trace if e["name"] == name and e["pid"] == rank] for rank in (0, 1)]
                 for name in ("backward", "bucket")}
        n_buckets = len(spans["bucket"][0]) // STEPS
        backward, after = [], []
        for step in range(UNCOUNTED, STEPS):
            of_ranks = [spans["backward"][rank][step] for rank in (0, 1)]
            done = max(spans["bucket"][rank][(step + 1) * n_buckets - 1][1] for rank in (0, 1))
            backward.append(statistics.mean(end - start for start, end in of_ranks))
            after.append(max(0, done - max(end for _, end in of_ranks)))
        return statistics.median(backward) / 1e3, statistics.median(after) / 1e3, n_buckets


def hidden(bench, net):
    """The link is slowed until the exchange, in one piece after backward, takes half of backward."""
    many = Net(bench, net)
    megabits = 150
    net.shape(megabits)
    backward, cost, _ = many.steps("first", 1000)
    for attempt in range(4):
        megabits = round(megabits * cost / (backward / 2))
        net.shape(megabits)
        backward, cost, _ = many.steps(f"whole{attempt}", 1000)
        print(f"at {megabits} Mbit/s: backward {backward:.1f} ms, the exchange in one piece after it {cost:.1f} ms", flush=True)
        if 0.42 < cost / backward < 0.6:
            break
    check("the exchange costs half of backward", 0.42 < cost / backward < 0.6, f"{cost / backward:.2f}")
    backward, exposed, n = many.steps("buckets", 0.5)
    share = 1 - exposed / cost
    check("at least 90 % of it is hidden", share >= 0.9,
          f"{100 * share:.1f} %: in {n} buckets {exposed:.1f} of {cost:.1f} ms come after backward, which takes {backward:.1f} ms")


def beside(bench, net, program):
    many = Net(bench, net)
    for n_hosts, per_host, megabits, rounds, sizes in (
        (1, 2, 0, 41, (1, 4, 16, 64)), (2, 1, 100, 9, (4, 8)), (2, 1, 400, 9, (16,)), (2, 2, 100, 9, (4, 8)),
        (4, 1, 100, 9, (4, 8))):
        net.shape(megabits)
        said = many.run(n_hosts, per_host, program, str(rounds), *map(str, sizes))
        print(said, flush=True)
        for size, (ratio, of) in zip(sizes, re.findall(r"^ratio ([\d.]+) of (.*)$", said, re.M), strict=True):
            check(f"{n_hosts} hosts of {per_host}, {size} MiB: at most {SLOWER} of the fastest other way", float(ratio) <= SLOWER,
                  f"{ratio} of {of}")


def main(vlgtr, program=None):
    if not hosts.available():
        print("no network namespaces: this test wants root with CAP_SYS_ADMIN and CAP_NET_ADMIN, and iproute2")
        return SKIPPED
    with harness.Bench(vlgtr) as bench, hosts.Hosts(4) as net:
        bench.make_data(train=80)
        hidden(bench, net)
        if program:
            beside(bench, net, program)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
