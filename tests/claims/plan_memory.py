#!/usr/bin/env python3
"""plan's peak against the measured one, per stage; what stage 1 keeps; what a step allocates.

usage: plan_memory.py VLGTR PRELOAD"""

import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

# ViT-S/14, RoBERTa-base and the seed preset at full size, on made-up scenes; the vocabulary is that of the scenes.
FULL = """
model: {{preset: {preset}}}
text: {{tokenizer: data/tokenizer, vocab: 50265, max_tokens: 16}}
data: {{shards: [shards], side: 224}}
train: {{global_batch: 8, micro_batch: 4, allow_from_scratch: true}}
run: {{folder: {preset}, log_every: 1}}
schedule:
  - {{name: heads, steps: 2}}
  - {{name: blocks, steps: 2, unfreeze_blocks: 4}}
"""


def plan(bench, config, *sets):
    text = bench.must("plan", config, *sets)
    return {k: [float(x) for x in re.findall(rf"^  {k} +([\d.]+) MB", text, re.M)] for k in ("peak", "activations")}


def peaks(bench, preset):
    bench.write("full.yaml", FULL.format(preset=preset))
    forecast = plan(bench, "full.yaml")["peak"]
    bench.must("train", "full.yaml")
    measured = [r["peak_bytes"] / 1e6 for r in bench.records(preset) if "peak_bytes" in r]
    good = len(measured) == len(forecast) == 2
    for stage, (f, m) in enumerate(zip(forecast, measured), 1):
        print(f"{preset} stage {stage}: forecast {f:.0f} MB, measured {m:.0f} MB, off by {100 * (f / m - 1):+.1f} %", flush=True)
        good &= abs(f / m - 1) <= 0.1
    return good


def depth(bench):
    """With frozen backbones a deeper tower needs no more room for activations."""
    shallow, deep = (plan(bench, "full.yaml", "--set", f"vision.depth={n}")["activations"] for n in (6, 12))
    print(f"activations with 6 and 12 vision blocks: stage 1 {shallow[0]:.1f} and {deep[0]:.1f} MB, "
          f"stage 2 {shallow[1]:.1f} and {deep[1]:.1f} MB")
    return shallow[0] == deep[0]


def allocations(bench, preload):
    counts = []
    for steps in (20, 60):
        options = {"run.folder": f"count{steps}", "run.log_every": 1000, "run.hash_every": 0, "schedule.heads.steps": steps,
                   "schedule.blocks.steps": 1, "train.threads": 2}
        env = {**bench.environment(), **harness.preloading(preload)}
        done = subprocess.run(bench.command(0, "train", "run.yaml", *bench.sets(options)), cwd=bench.folder, env=env,
                              capture_output=True, text=True, check=True)
        counts.append(int(re.findall(r"^allocations (\d+)", done.stderr, re.M)[-1]))
    print(f"allocations of a run with 20 and with 60 steps: {counts[0]} and {counts[1]}")
    return counts[0] == counts[1] and counts[0] > 100


def main(vlgtr, preload):
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        good = allocations(bench, preload)
        good &= peaks(bench, "seed")
        good &= peaks(bench, "strong")
        good &= depth(bench)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
