#!/usr/bin/env python3
"""A network is measured between hosts and the step of a training without it; `vlgtr plan` says from both what a step takes on
2 and on 4 hosts. Then it is trained there.

usage: scaling_forecast.py VLGTR [ROUNDS]

Hosts are network namespaces with shaped links; the network is measured between three of them, and forecast for fewer and for
more. They share this machine's processors, so what a step computes is measured with as many ranks at a time on one
host, where no message takes a link. Both are measured in turns.

What is exchanged behind backward takes time of a processor as well, which the forecast leaves out: where ranks and their
exchanging threads have not a processor each, such a case is shown, but does not count."""

import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "fault")]
import harness
import hosts

WANTED = 0.15
MEGABITS, STEPS, WARM_UP, MICRO_BATCH = 200, 12, 3, 2
CONFIG = """
model: {preset: tiny}
vision: {width: 96, depth: 4, mlp: 384, grid: 8}
text: {tokenizer: data/tokenizer}
fusion: {width: 96, mlp: 4096, decoder_layers: 4}
data: {shards: [shards], side: 64, phrases: 4, max_targets: 2}
train: {global_batch: 2, micro_batch: 2, threads: 1, allow_from_scratch: true, device: cpu}
run: {log_every: 1, eval_every: 0}
schedule: [{name: blocks, steps: %d, unfreeze_blocks: 4}]
""" % STEPS
# MiB of a bucket; whether it goes on behind backward
KINDS = {"one bucket, which nothing hides": (1024, False), "buckets of 4 MiB behind backward": (4, True)}


def quick(records, key):
    """The first quartile: a machine that others use, too, makes some steps slower, and none quicker."""
    return statistics.quantiles(r[key] for r in records if key in r)[0]


class Cluster:
    def __init__(self, bench, net):
        self.bench, self.net = bench, net
        self.runs = 0
        self.env = {**bench.environment(1), "OMPI_MCA_plm_rsh_agent": net.agent, "OMPI_MCA_btl": "vader,tcp,self",
                    "OMPI_MCA_btl_tcp_if_include": "eth0", "OMPI_MCA_oob_tcp_if_include": "eth0"}

    def on_hosts(self, n, *words):
        """One rank on each of n hosts."""
        names = ",".join(f"{name}:1" for name in self.net.names[:n])
        done = self.net.start("h1", ["mpirun", "--host", names, "-n", str(n), *self.bench.vlgtr, *words], cwd=self.bench.folder,
                              env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = done.communicate()[0]
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} on {n} hosts ended with {done.returncode}:\n{said}")
        return said

    def measure(self):
        self.on_hosts(3, "bench", "comm", "--mb", "16", "--out", "network.json")
        return json.loads(pathlib.Path(self.bench.path("network.json")).read_text())

    def options(self, ranks, bucket_mb):
        return self.bench.sets({"train.bucket_mb": bucket_mb, "train.global_batch": MICRO_BATCH * ranks})

    def steps(self, ranks, bucket_mb, apart):
        """Records of the steps of a training, on hosts or on one."""
        self.runs += 1
        folder = f"run{self.runs}"
        words = ["train", "run.yaml", "--set", f"run.folder={folder}", *self.options(ranks, bucket_mb)]
        if apart:
            self.on_hosts(ranks, *words)
        else:
            self.bench.must(*words, ranks=ranks)
        return [r for r in self.bench.records(folder) if r["step"] > WARM_UP]

    def forecast(self, ranks, bucket_mb, compute_ms):
        """Milliseconds of a step: computing, exchange, what of it is exposed, all. A host of one rank computes what each does."""
        text = self.bench.must("plan", "run.yaml", "--ranks", f"1..{ranks}", "--network", "network.json", "--step-ms",
                               f"{compute_ms:.3f}", *self.options(1, bucket_mb))
        rows = [line.split() for line in text.splitlines()]
        return next([float(x) for x in row[3:7]] for row in rows if row[:2] == [str(ranks), str(ranks)])

    def compare(self, what, ranks, bucket_mb, behind, rounds):
        """How far the forecast is off."""
        alone, apart = [], []
        for _ in range(rounds):
            alone += self.steps(ranks, bucket_mb, False)
            apart += self.steps(ranks, bucket_mb, True)
        compute, exchange, exposed, step = self.forecast(ranks, bucket_mb, quick(alone, "step_ms"))
        seen = quick(apart, "step_ms")
        off = step / seen - 1
        counts = not behind or 2 * ranks <= os.cpu_count()
        print(f"{ranks} hosts, {what}: computing {compute:.1f} ms; exchange {exchange:.1f} forecast, {quick(apart, 'exchange_ms'):.1f} "
              f"seen; exposed {exposed:.1f}, {quick(apart, 'exposed_ms'):.1f} seen; a step {step:.1f}, {seen:.1f} seen: off by "
              f"{100 * off:+.1f} %{'' if counts else ' (does not count)'}", flush=True)
        return abs(off) if counts else 0


def main(vlgtr, rounds="3"):
    if not hosts.available():
        print("scaling_forecast: not shown, network namespaces cannot be made here")
        return 1
    with harness.Bench(vlgtr) as bench, hosts.Hosts(4) as net:
        bench.write("run.yaml", CONFIG)
        bench.make_data(train=60)
        net.shape(MEGABITS)
        cluster = Cluster(bench, net)
        print(f"links of {MEGABITS} Mbit/s; measured between three hosts: {cluster.measure()}", flush=True)
        worst = max(cluster.compare(what, ranks, *how, int(rounds)) for what, how in KINDS.items() for ranks in (2, 4))
    good = worst <= WANTED
    print(f"scaling_forecast: {'holds' if good else 'falls short'}: off by {100 * worst:.1f} % at most, wanted {100 * WANTED:.0f}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
