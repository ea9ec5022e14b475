#!/usr/bin/env python3
"""Training on GPUs follows training on the CPU, through a change of stage, with one hash for every number of ranks, every
order in which the device gets its work done, and whether runs are recorded or not.

usage: device_training.py VLGTR BUILD [--all]     --all: each number of ranks in each order

Without a GPU the device is emulated (tests/emu)."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

STEPS = {"schedule.0.steps": 10, "schedule.1.steps": 10, "train.global_batch": 4, "train.threads": 1, "data.workers": 0}
# Both compute in fp32 and add in other orders. What rounding makes of a loss in 20 steps stays below this; a kernel that is
# wrong shows in the first step.
LIMIT = 1e-4


def losses(bench, folder):
    return [r["loss"] for r in bench.records(folder) if "loss" in r]


def farthest(a, b):
    return max(abs(x - y) / abs(y) for x, y in zip(a, b)) if len(a) == len(b) == 20 else float("inf")


def main(vlgtr, build, more=""):
    os.environ["VLGTR_BUILD"] = os.path.abspath(build)
    good = True
    with harness.Bench(vlgtr, through=[str(pathlib.Path(__file__).resolve().parents[1] / "emu" / "run")]) as bench:
        bench.make_data(train=24)

        def train(folder, ranks=0, device="cuda", seed=0, **options):
            os.environ["VG_EMU_SEED"] = str(seed)
            options = {key.replace("_", ".", 1): value for key, value in options.items()}
            done = bench.run("train", "run.yaml", "--device", device, *bench.sets({**STEPS, "run.folder": folder, **options}),
                             ranks=ranks)
            if done.returncode == 71 and "no GPU" in done.stderr:
                raise SystemExit(77)
            if done.returncode:
                raise SystemExit(f"{folder} ended with {done.returncode}:\n{done.stdout[-800:]}{done.stderr}")
            return bench.hashes(folder)

        want = train("one")
        train("cpu", device="cpu")
        off = farthest(losses(bench, "one"), losses(bench, "cpu"))
        good &= off < LIMIT
        print(f"20 losses from {losses(bench, 'cpu')[0]:.4f} to {losses(bench, 'cpu')[-1]:.4f}: off by {off:.2g} at most, "
              f"limit {LIMIT:g}", flush=True)
        runs = {(1, 1, False), (2, 1, True), (3, 2, False)}
        if more:
            runs |= {(ranks, seed, True) for ranks in (1, 2) for seed in range(3)} - {(1, 0, True)}
        for ranks, seed, recorded in sorted(runs):
            have = train(f"{ranks}-{seed}-{recorded}", ranks, seed=seed, train_record=str(recorded).lower())
            same = have == want and len(want) == 20
            good &= same
            print(f"{ranks} ranks, order {seed}, {'recorded' if recorded else 'launched one by one'}: "
                  f"{'same' if same else 'OTHER'} bits at every step", flush=True)
        same = train("buckets", 2, seed=1, train_bucket_mb=0.1) == want
        good &= same
        print(f"2 ranks, gradients exchanged in small buckets: {'same' if same else 'OTHER'} bits at every step", flush=True)
        done = bench.run("train", "run.yaml", "--device", "cuda", *bench.sets({**STEPS, "run.folder": "asked"}), "--inject", "ask@1,7", ranks=2)
        same = done.returncode == 75 and "stopped at step 7 on request" in done.stderr and train("asked") == want
        good &= same
        print(f"asked to stop within step 7, which devices end, and gone on: {'same' if same else 'OTHER'} bits at every step", flush=True)
        same = train("stored", features_images="disk", features_phrases="disk") == want
        good &= same
        print(f"features of images and phrases from stores: {'same' if same else 'OTHER'} bits at every step", flush=True)
        other = train("seed", train_seed=2)[20] != want[20]
        print(f"another seed gives other bits: {other}; hash after 20 steps {want[20]}")
    return 0 if good and other else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
