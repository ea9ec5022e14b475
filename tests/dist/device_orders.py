#!/usr/bin/env python3
"""Kernels of a whole step keep to their memory, and their bits do not hang on the order in which threads and blocks run.

usage: device_orders.py VLGTR BUILD

Two steps, one of each stage: checked, and in two more orders. Without a GPU the device is emulated (tests/emu); on a GPU
there are no orders to choose."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

STEPS = {"schedule.0.steps": 1, "schedule.1.steps": 1, "train.global_batch": 4, "train.threads": 1, "data.workers": 0}


def main(vlgtr, build):
    os.environ["VLGTR_BUILD"] = os.path.abspath(build)
    with harness.Bench(vlgtr, through=[str(pathlib.Path(__file__).resolve().parents[1] / "emu" / "run")]) as bench:
        bench.make_data(train=24)

        def train(folder, mode, order):
            os.environ.update(VG_EMU_MODE=mode, VG_EMU_ORDER=order)
            done = bench.run("train", "run.yaml", "--device", "cuda", *bench.sets({**STEPS, "run.folder": folder}))
            if done.returncode == 71 and "no GPU answers" in done.stderr:
                raise SystemExit(77)
            if done.returncode or "vg-emu" in done.stderr:
                raise SystemExit(f"{folder} ended with {done.returncode}:\n{done.stdout[-800:]}{done.stderr}")
            return bench.hashes(folder)

        hashes = {order: train(order, mode, order)
                  for order, mode in (("forward", "check"), ("reversed", "fast"), ("7", "fast"))}
    same = all(h == hashes["forward"] and len(h) == 2 for h in hashes.values())
    print(f"checked and clean; {'same' if same else 'OTHER'} bits in three orders: {hashes}")
    return not same


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
