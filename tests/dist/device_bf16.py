#!/usr/bin/env python3
"""Training in bf16 on GPUs follows training in fp32 on the CPU through a change of stage, with one hash for every number of
ranks and every order in which the device gets its work done; its kernels keep to their memory. What it has trained
answers on the CPU too, which does not train so.

usage: device_bf16.py VLGTR BUILD

Without a GPU the device is emulated (tests/emu)."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

STEPS = {"train.global_batch": 4, "train.threads": 1, "data.workers": 0}
# A bf16 has 8 bits: to round is to err by 2^-8 at most. Losses sum many such errors, of either sign, and stay below two of
# them; a term that is wrong shows more in the first step.
LIMIT = 2 * 2**-8


def stages(n):
    return {"schedule.0.steps": n, "schedule.1.steps": n}


def main(vlgtr, build):
    os.environ["VLGTR_BUILD"] = os.path.abspath(build)
    good = True
    with harness.Bench(vlgtr, through=[str(pathlib.Path(__file__).resolve().parents[1] / "emu" / "run")]) as bench:
        bench.make_data(train=24)

        def command(folder, ranks, device, options):
            return bench.run("train", "run.yaml", "--device", device,
                             *bench.sets({**STEPS, "run.folder": folder, **options}), ranks=ranks)

        def train(folder, n, ranks=0, device="cuda", mode="fast", order="forward", seed=0, **options):
            os.environ.update(VG_EMU_SEED=str(seed), VG_EMU_MODE=mode, VG_EMU_ORDER=order)
            precision = {"train.precision": "bf16"} if device == "cuda" else {}
            done = command(folder, ranks, device, {**stages(n), **precision, **options})
            if done.returncode == 71 and "no GPU" in done.stderr:
                raise SystemExit(77)
            if done.returncode or "vg-emu" in done.stderr:
                raise SystemExit(f"{folder} ended with {done.returncode}:\n{done.stdout[-800:]}{done.stderr}")
            return bench.hashes(folder)

        def tell(what, same):
            nonlocal good
            good &= same
            print(f"{what}: {same}", flush=True)

        want = train("one", 3)
        train("cpu", 3, device="cpu")
        losses = [[r["loss"] for r in bench.records(folder) if "loss" in r] for folder in ("one", "cpu")]
        off = max(abs(a - b) / b for a, b in zip(*losses))
        tell(f"6 losses follow fp32: off by {off:.2g} at most, limit {LIMIT:.2g}", len(losses[0]) == 6 and 0 < off < LIMIT)
        tell("2 ranks have the same bits", train("two", 3, 2, seed=1) == want)
        tell("2 ranks with shares of the moments have them", train("shares", 3, 2, seed=2, **{"train.zero": "true"}) == want)
        checked = train("checked", 1, mode="check")
        tell("a step of each stage is checked and clean, with the bits of another order", train("7", 1, order="7") == checked)
        os.environ.update(VG_EMU_MODE="fast", VG_EMU_ORDER="forward")
        for device in ("cpu", "cuda"):
            bench.must("eval", "one", "--device", device)
        refused = command("refused", 0, "cpu", {**stages(1), "train.precision": "bf16"})
        tell("the CPU refuses to train so", refused.returncode == 78 and "train.precision" in refused.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
