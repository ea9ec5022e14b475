#!/usr/bin/env python3
"""Times the trainer's step and PyTorch's in turn and compares medians.

usage: step_speed.py BENCH PYTHON [case...]"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

PEER = pathlib.Path(__file__).resolve().parents[1] / "bench" / "torch_step.py"
ROUNDS, STEPS = int(os.environ.get("ROUNDS", 3)), os.environ.get("STEPS", "5")
THREADS = os.environ.get("THREADS", "2")
WANTED = {"seed-stage1": 1.5, "strong-stage1": 2.0, "seed-unfreeze4": 1.3, "strong-unfreeze4": 1.3,
          "seed-unfreeze12": 1.3, "strong-unfreeze12": 1.3}
TABLES = {"neither side keeps phrase features": "", "both sides keep phrase features": "-cached"}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"step_speed: {' '.join(command)} ends with {done.returncode}: {done.stderr.strip()[-500:]}")
    cases = json.loads(done.stdout)["cases"]
    for case, result in cases.items():
        if "error" in result:
            sys.exit(f"step_speed: PyTorch does not run {case}: {result['error']}")
    return cases


def measure(bench, python, case):
    """ms, processor ms and the floor of both sides, a list with one entry per round."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(run(bench, "--threads", THREADS, "--rounds", STEPS, case)[case])
        theirs.append(run(python, str(PEER), "--threads", THREADS, "--rounds", STEPS, case)[case])
    return ours, theirs


def middle(rounds, key):
    return statistics.median(r[key] for r in rounds)


def line(case, wanted, ours, theirs):
    ratio = middle(theirs, "ms") / middle(ours, "ms")
    good = ratio >= wanted
    print(f"{case:24} {middle(ours, 'ms'):8.0f} {middle(theirs, 'ms'):8.0f} {ratio:6.2f} {wanted:6.1f}  "
          f"{'ok' if good else 'SHORT':5} {middle(theirs, 'cpu_ms') / middle(ours, 'cpu_ms'):8.2f} "
          f"{middle(ours, 'gflop'):6.0f} {middle(ours, 'peak_gflops'):6.0f} {100 * middle(ours, 'floor'):5.0f} %", flush=True)
    return good


def main(bench, python, *cases):
    version = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True)
    cpu = [l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")]
    print(f"{cpu[0]} x {len(cpu)}, load {os.getloadavg()[0]:.1f}, {THREADS} threads, {ROUNDS} rounds of {STEPS} steps, PyTorch {version.stdout.strip()}")
    good, settings = True, None
    for title, suffix in TABLES.items():
        chosen = {c + suffix: w for c, w in WANTED.items() if not cases or c + suffix in cases}
        if chosen:
            print(f"\n{title}\n{'case':24} {'ms':>8} {'torch':>8} {'ratio':>6} {'wanted':>6}        cpu ratio  gflop   peak floor")
        for case, wanted in chosen.items():
            ours, theirs = measure(bench, python, case)
            good &= line(case, wanted, ours, theirs)
            settings = theirs[0]["settings"]
    print(f"\nsettings of PyTorch: {settings}; floor: the share of the time that products and attention take at peak")
    return good


if __name__ == "__main__":
    sys.exit(0 if main(*sys.argv[1:]) else 1)
