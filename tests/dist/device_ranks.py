#!/usr/bin/env python3
"""What several GPUs may do among themselves without a trace in the weights: gradients that leave in buckets, moments of
which each keeps its share, another number of ranks after an interruption. And NCCL's own sum, which leaves one.

usage: device_ranks.py VLGTR BUILD

Without GPUs the devices are emulated (tests/emu)."""

import os
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

LAST = 6
STEPS = {"schedule.0.steps": 3, "schedule.1.steps": 3, "train.global_batch": 3, "train.threads": 1, "data.workers": 0,
         "run.checkpoint_every": 1, "train.bucket_mb": 0.1}
SHARES = {"train.zero": "true"}
AVERAGE = {"train.average_decay": 0.9}
FAST_LIMIT = 1e-5  # of a loss, after 6 steps of sums in another order


def drop_newest(bench, folder):
    """The checkpoint of the last step: the run goes on from the one before, in the second stage."""
    shutil.rmtree(sorted(pathlib.Path(bench.path(folder, "checkpoints")).iterdir())[-1])


def main(vlgtr, build):
    os.environ["VLGTR_BUILD"] = os.path.abspath(build)
    good = True
    with harness.Bench(vlgtr, through=[str(pathlib.Path(__file__).resolve().parents[1] / "emu" / "run")]) as bench:
        bench.make_data(train=24)

        def train(folder, ranks, seed, more):
            os.environ["VG_EMU_SEED"] = str(seed)
            done = bench.run("train", "run.yaml", "--device", "cuda", *bench.sets({**STEPS, "run.folder": folder, **more}),
                             ranks=ranks)
            if done.returncode == 71 and "no GPU" in done.stderr:
                raise SystemExit(77)
            if done.returncode:
                raise SystemExit(f"{folder} ended with {done.returncode}:\n{done.stdout[-800:]}{done.stderr}")
            return bench.hashes(folder)

        def tell(what, same):
            nonlocal good
            good &= same
            print(f"{what}: {'same' if same else 'OTHER'} bits", flush=True)

        want = train("one", 1, 1, {})
        tell("2 ranks, gradients in buckets", train("buckets", 2, 2, {}) == want and len(want) == LAST)
        tell("2 ranks, each with its share of the moments", train("shares", 2, 3, SHARES) == want)
        drop_newest(bench, "shares")
        tell("3 ranks that go on from the step before the last", train("shares", 3, 4, SHARES)[LAST] == want[LAST])
        drop_newest(bench, "shares")
        tell("1 rank that does", train("shares", 1, 5, {})[LAST] == want[LAST])
        for folder, ranks, more in (("average", 1, {}), ("shared-average", 2, SHARES)):
            train(folder, ranks, 7, {**AVERAGE, **more})
        drop_newest(bench, "shared-average")
        train("shared-average", 2, 8, {**AVERAGE, **SHARES})
        answers = []
        for folder in ("average", "shared-average", "one"):
            bench.must("eval", folder, "--device", "cpu", "--out", "answers.jsonl")
            answers.append(pathlib.Path(bench.path("answers.jsonl")).read_text())
        tell("2 ranks, a running average and shares of the moments, taken up again", answers[0] == answers[1] != answers[2])
        fast = train("fast", 3, 6, {"train.reduction": "fast"})
        losses = [[r["loss"] for r in bench.records(folder) if "loss" in r] for folder in ("fast", "one")]
        off = max(abs(a - b) / b for a, b in zip(*losses))
        good &= off < FAST_LIMIT and fast[LAST] != want[LAST]
        print(f"3 ranks with the library's own sum: losses off by {off:.2g}, limit {FAST_LIMIT:g}; "
              f"{'other' if fast[LAST] != want[LAST] else 'THE SAME'} bits")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
