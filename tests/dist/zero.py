#!/usr/bin/env python3
"""Ranks that keep their share of AdamW's moments alone (train.zero) train the same bits and save the same checkpoints,
on any number of ranks and hosts, with gradients in buckets, with a running average, and when one goes on where the other
stopped.

usage: zero.py VLGTR"""

import json
import os
import pathlib
import re
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

LAST = 8
STEPS = {"schedule.heads.steps": 4, "schedule.blocks.steps": 4, "train.global_batch": 5, "train.threads": 1,
         "data.workers": 0, "run.checkpoint_every": 1, "run.checkpoint_keep": 100, "train.average_decay": 0.9,
         "train.bucket_mb": 0.02}
ZERO = {"train.zero": "true"}


def files(bench, folder, step):
    """What the manifest of a checkpoint says of its files: names, sizes and hashes."""
    return json.loads(pathlib.Path(bench.path(folder, "checkpoints", f"step-{step:08}", "manifest.json")).read_text())["files"]


def drop_after(bench, folder, step):
    for checkpoint in pathlib.Path(bench.path(folder, "checkpoints")).glob("step-*"):
        if int(checkpoint.name[5:13]) > step:
            shutil.rmtree(checkpoint)


def moments_mb(bench, more):
    text = bench.must("plan", "run.yaml", "--ranks", "4", *bench.sets({**STEPS, **more}))
    return [float(mb) for mb in re.findall(r"^  moments +([\d.]+) MB", text, re.M)]


def main(vlgtr):
    check = harness.Check()
    with harness.Bench(vlgtr) as bench:
        bench.make_data(train=24)

        def train(folder, ranks, more, window=""):
            os.environ["VLGTR_WINDOW_RANKS"] = window  # so many ranks are a host
            bench.train(ranks, {**STEPS, "run.folder": folder, **more})
            return bench.hashes(folder)

        want = train("plain1", 1, {})
        check("a run has a hash of every step", len(want) == LAST)
        for ranks, window, hosts in ((2, "", "a host"), (3, "1", "hosts of 1"), (4, "", "a host and one without work"),
                                     (5, "2", "hosts of 2, 2 and 1")):
            folder = f"zero{ranks}"
            check(f"{ranks} ranks, {hosts}: the same bits at every step", train(folder, ranks, ZERO, window) == want)
        train("plain2", 2, {})
        both = [[files(bench, folder, s) for s in range(1, LAST + 1)] for folder in ("plain2", "zero2")]
        check("the same files in all checkpoints", both[0] == both[1] and all(len(f) == 3 for f in both[0]))
        for folder, step, ranks, more in (("zero2", 6, 3, ZERO), ("zero3", 5, 1, {}), ("plain2", 2, 3, ZERO)):
            drop_after(bench, folder, step)
            got = train(folder, ranks, more)
            check(f"{folder} goes on from step {step} on {ranks} ranks{', with shares' if more else ', without'}",
                  {s: got[s] for s in range(step + 1, LAST + 1)} == {s: want[s] for s in range(step + 1, LAST + 1)})
        plain, shares = moments_mb(bench, {}), moments_mb(bench, ZERO)
        check("plan tells a quarter of the moments on 4 ranks",
              len(plain) == 2 and all(abs(s - p / 4) <= 0.1 for s, p in zip(shares, plain)), f"{plain} and {shares} MB")
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
