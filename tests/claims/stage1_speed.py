#!/usr/bin/env python3
"""Times a step over stored features beside PyTorch's without and with them, in turn, and a training that reads them.

usage: stage1_speed.py VLGTR BENCH PYTHON"""

import itertools
import os
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "claims")]
import harness
from step_speed import PEER, middle, run

ROUNDS, STEPS = int(os.environ.get("ROUNDS", 3)), os.environ.get("STEPS", "6")
THREADS, BY = os.environ.get("THREADS", "2"), os.environ.get("BY", "ms")
PROCESSORS = int(THREADS) if BY == "cpu_ms" else 1  # that a unit of time stands for
BATCHES = [int(b) for b in os.environ.get("BATCHES", "8 64").split()]
FLOOR = 0.8
CASES = {224: ("seed-stage1-stored", "seed-stage1", 10), 518: ("seed-stage1-stored-518", "seed-stage1-518", 15)}
CONFIG = """
model: {{preset: seed}}
vision: {{grid: {grid}}}
text: {{tokenizer: data/tokenizer, vocab: 4096, depth: 2, max_tokens: 24}}
data: {{shards: [shards], side: {side}}}
train: {{global_batch: {batch}, micro_batch: {batch}, threads: {threads}, allow_from_scratch: true, device: cpu}}
features: {{images: disk, phrases: disk}}
run: {{folder: run, log_every: 1}}
schedule:
  - {{name: heads, steps: 24}}
"""


def measure(bench, python, stored, plain, batch):
    """Rounds of our step over stored features, PyTorch's over stored features, and PyTorch's with the towers."""
    sides = [], [], []
    for _ in range(ROUNDS):
        for side, command in zip(sides, ((bench,), (python, str(PEER)), (python, str(PEER)))):
            case = plain if side is sides[2] else stored
            steps = "2" if side is sides[2] else STEPS
            side.append(run(*command, "--threads", THREADS, "--batch", str(batch), "--rounds", steps, case)[case])
    return sides


def training(vlgtr, side, batch):
    """ms of a step of `vlgtr train`, and how much of it waits for features, in the middle of the steps."""
    with harness.Bench(vlgtr, timed=True) as bench:
        bench.must("synth", "data", "--train", "32", "--val", "2", "--test", "2", "--side", str(side))
        bench.must("shard", "import", "synth", "data", "shards")
        bench.write("run.yaml", CONFIG.format(side=side, grid=side // 14, batch=batch, threads=THREADS))
        bench.train(0)
        steps = [r for r in bench.records() if "wait_ms" in r][2:]
    return statistics.median(1e3 * r["phrases"] / r["phrases_per_s"] for r in steps), statistics.median(r["wait_ms"] for r in steps)


def judge(what, wanted, ours, cached, plain):
    epoch, same = (middle(theirs, BY) / middle(ours, BY) for theirs in (plain, cached))
    of_floor = 1e3 * middle(ours, "gflop") / (middle(ours, BY) * middle(ours, "peak_gflops") / PROCESSORS)
    good = epoch >= wanted and same > 1 and of_floor >= FLOOR
    print(f"{what}: {middle(ours, BY):.0f} {BY} a step, PyTorch with the towers {middle(plain, BY):.0f} ({epoch:.1f}x, wanted "
          f"{wanted}), keeping features {middle(cached, BY):.0f} ({same:.2f}x, wanted over 1); {100 * of_floor:.0f} % of the floor "
          f"(wanted {100 * FLOOR:.0f}): {'ok' if good else 'SHORT'}", flush=True)
    return good


def main(vlgtr, bench, python):
    good = True
    print(f"{THREADS} threads, {ROUNDS} rounds, load {os.getloadavg()[0]:.1f}, by {BY}; an epoch is so many steps, on each side")
    for side, batch in itertools.product(CASES, BATCHES):
        stored, plain, wanted = CASES[side]
        what = f"{side} pixels, {batch} images a step"
        good &= judge(what, wanted, *measure(bench, python, stored, plain, batch))
        step_ms, wait_ms = training(vlgtr, side, batch)
        print(f"{what}: one of `vlgtr train` that reads them {step_ms:.0f} ms, of which it waits {wait_ms:.2f}", flush=True)
    return good


if __name__ == "__main__":
    sys.exit(0 if main(*sys.argv[1:]) else 1)
