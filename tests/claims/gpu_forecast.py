#!/usr/bin/env python3
"""`vlgtr plan --gpu h100` for both stages of ViT-S/14 with RoBERTa-base and the seed preset, 64 images a GPU.

usage: gpu_forecast.py VLGTR

Holds when at 518 pixels in bf16 the design spends at least 85 % of a step in kernels at the rates that they reach, the
rest being starts, merges and what no backward hides of the exchange."""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

LEAST, IMAGES = 85.0, 64
CONFIG = """
model: {preset: seed}
text: {max_tokens: 24}
data: {phrases: 3}
train: {micro_batch: 64, allow_from_scratch: true}
schedule:
  - {name: heads}
  - {name: blocks, unfreeze_blocks: 4}
"""
SUM = re.compile(r"(fp32|bf16): ([\d.]+) ms a step, (\d+) images/s, MFU ([\d.]+) %.*?; ([\d.]+) % of the step.*?, ([\d.]+) %")
MEMORY = re.compile(r"memory of a GPU: ([\d.]+) GB")


def main(vlgtr):
    good = True
    print("pixels GPUs stage  precision  ms a step  images/s  MFU %  of reachable %  of peak %   GB a GPU")
    with harness.Bench(vlgtr) as bench:
        bench.write("gpu.yaml", CONFIG)
        for side in (224, 518):
            for ranks in (1, 8, 64):
                text = bench.must("plan", "gpu.yaml", "--gpu", "h100", "--ranks", str(ranks), "--side", str(side),
                                  "--set", f"train.global_batch={IMAGES * ranks}")
                for i, (precision, ms, rate, mfu, reachable, peak) in enumerate(SUM.findall(text)):
                    memory = MEMORY.findall(text)[i // 2]
                    print(f"{side:6} {ranks:4} {1 + i // 2:5}  {precision:9} {ms:>10} {rate:>9} {mfu:>6} {reachable:>15} "
                          f"{peak:>10} {memory if precision == 'fp32' else '':>10}")
                    good &= side != 518 or precision != "bf16" or float(reachable) >= LEAST
    print(f"gpu_forecast: {'holds' if good else 'falls short'}: at 518 pixels in bf16 at least {LEAST:.0f} % of a step is "
          "kernels at the rates they reach. A forecast from a model, not a measurement.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
