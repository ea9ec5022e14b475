#!/usr/bin/env python3
"""The trainer's step on a GPU, PyTorch's on the same one, and the forecast of `vlgtr plan --gpu`, case by case.

usage: gpu_speed.py VLGTR BENCH [case...]

Both sides: batches in host memory, several steps in a row, median of the rounds. The trainer waits for the losses of each step as
training does; PyTorch waits for none."""

import json
import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness
from gpu_forecast import SUM

PEER = pathlib.Path(__file__).resolve().parents[1] / "bench" / "torch_step.py"
STAGES = ("stage1", "unfreeze4", "unfreeze12")
CASES = [f"{preset}-{stage}{size}" for size in ("", "-518") for preset in ("seed", "strong") for stage in STAGES]
BATCH, GPU = os.environ.get("BATCH", "64"), os.environ.get("GPU", "h100")
DURATION, MODES = os.environ.get("DURATION", "2"), os.environ.get("MODES", "eager,graph")
STEPS = os.environ.get("STEPS", "10")
PRECISIONS = os.environ.get("PRECISIONS", "bf16 fp32").split()
PEER_PRECISIONS = {"bf16": ["bf16"], "fp32": ["fp32", "tf32"]}
CONFIG = """
model: {preset: PRESET}
text: {max_tokens: 24}
data: {phrases: 1}
features: {phrases: off}
train: {allow_from_scratch: true}
schedule:
  - {name: stage1}
  - {name: unfreeze4, unfreeze_blocks: 4}
  - {name: unfreeze12, unfreeze_blocks: 12}
"""


def run(*command):
    """The cases of one side, {} where it fails: the other is shown all the same."""
    done = subprocess.run([*command, "--device", "cuda", "--batch", BATCH, "--steps", STEPS, "--seconds", DURATION], capture_output=True, text=True)
    if done.returncode:
        print(f"gpu_speed: {' '.join(command[:3])} ends with {done.returncode}: {done.stderr.strip()[-1500:]}", flush=True)
        return {}
    return json.loads(done.stdout)


def forecast(vlgtr, cases):
    """Milliseconds by case and precision."""
    out = {}
    with harness.Bench(vlgtr) as bench:
        for preset in {c.split("-")[0] for c in cases}:
            bench.write(f"{preset}.yaml", CONFIG.replace("PRESET", preset))
            for side in ("224", "518"):
                text = bench.must("plan", f"{preset}.yaml", "--gpu", GPU, "--side", side, "--set", f"vision.grid={int(side) // 14}",
                                  "--set", f"train.micro_batch={BATCH}", "--set", f"train.global_batch={BATCH}")
                for i, (precision, ms, *_) in enumerate(SUM.findall(text)):
                    out[f"{preset}-{STAGES[i // 2]}" + ("-518" if side == "518" else ""), precision] = float(ms)
    return out


def table(precision, peer_precision, cases, ours, theirs, expected):
    print(f"\n{precision}, PyTorch in {peer_precision}, {BATCH} images a step; {ours.get('profile')}; {theirs.get('machine')}")
    print(f"{'case':24} {'ms':>9} {'update':>7} {'TFLOP/s':>8} {'PyTorch':>9} {'ratio':>6}  {'mode':14} {'forecast':>9} {'of it':>6}")
    for case in cases:
        own, peer = ours.get("cases", {}).get(case), theirs.get("cases", {}).get(case)
        ms, other = own and own["ms"], peer and peer["ms"]
        plan = expected.get((case, precision))
        cell = lambda value, form: format(value, form) if value else "-"
        print(f"{case:24} {cell(ms, '.2f'):>9} {cell(own and own['update_ms'], '.2f'):>7} "
              f"{cell(own and own['gflops'] / 1000, '.1f'):>8} {cell(other, '.2f'):>9} {cell(ms and other and other / ms, '.2f'):>6}  "
              f"{peer['settings']['mode'] if peer else '-':14} {cell(plan, '.2f'):>9} {cell(ms and plan and ms / plan, '.2f'):>6}", flush=True)
        if peer and not other:
            print(f"{'':24} PyTorch: {peer['error']}")


def main(vlgtr, bench, *cases):
    cases = cases or CASES
    expected = forecast(vlgtr, cases)
    for precision in PRECISIONS:
        ours = run(bench, "--precision", precision, *cases)
        for peer_precision in PEER_PRECISIONS[precision]:
            theirs = run(sys.executable, str(PEER), "--precision", peer_precision, "--mode", MODES, *cases)
            table(precision, peer_precision, cases, ours, theirs, expected)
    print("\nms: a step, median; update: its part behind the program; ratio: PyTorch's ms by ours; of it: ours by the forecast")


if __name__ == "__main__":
    main(*sys.argv[1:])
