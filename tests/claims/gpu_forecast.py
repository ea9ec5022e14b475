#!/usr/bin/env python3
"""`vlgtr plan --gpu h100` for both stages of ViT-S/14 with RoBERTa-base and the seed preset.

usage: gpu_forecast.py VLGTR

Holds when in bf16 at least 85 % of a step is what its kernels take at the rates that are reached where all processors
have work, at 518 pixels with 64 images a GPU and at 224 with 256, which have about as many patches; the rest is starts,
processors without work, partial sums, merges, and what no backward hides of the exchange. 224 pixels with 64 images fall
short of that: those rows are for information, and so is the share of a roofline at the peaks, which no kernel reaches."""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

LEAST = 85.0
CASES = [(224, 64), (224, 256), (518, 64)]  # pixels, images a GPU
SMALL = (224, 64)
CONFIG = """
model: {preset: seed}
text: {max_tokens: 24}
data: {phrases: 3}
train: {allow_from_scratch: true}
schedule:
  - {name: heads}
  - {name: blocks, unfreeze_blocks: 4}
"""
SUM = re.compile(r"(fp32|bf16): ([\d.]+) ms a step, (\d+) images/s, MFU ([\d.]+) %.*?; ([\d.]+) % of the step.*?, ([\d.]+) %")
MEMORY = re.compile(r"memory of a GPU: ([\d.]+) GB")


def main(vlgtr):
    good = True
    print("pixels images GPUs stage  precision  ms a step  images/s  MFU %  of reachable %  of peak %   GB a GPU")
    with harness.Bench(vlgtr) as bench:
        bench.write("gpu.yaml", CONFIG)
        for side, images in CASES:
            for ranks in (1, 8, 64):
                text = bench.must("plan", "gpu.yaml", "--gpu", "h100", "--ranks", str(ranks), "--side", str(side),
                                  "--set", f"train.micro_batch={images}", "--set", f"train.global_batch={images * ranks}")
                for i, (precision, ms, rate, mfu, reachable, peak) in enumerate(SUM.findall(text)):
                    memory = (MEMORY.findall(text) or ["", ""])[i // 2]  # said by builds with CUDA
                    print(f"{side:6} {images:6} {ranks:4} {1 + i // 2:5}  {precision:9} {ms:>10} {rate:>9} {mfu:>6} {reachable:>15} "
                          f"{peak:>10} {memory if precision == 'fp32' else '':>10}")
                    good &= (side, images) == SMALL or precision != "bf16" or float(reachable) >= LEAST
    print(f"gpu_forecast: {'holds' if good else 'falls short'}: in bf16 at least {LEAST:.0f} % of a step is kernels at the "
          "rates they reach, at 518 pixels with 64 images and at 224 with 256. A forecast from a model, not a measurement.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
