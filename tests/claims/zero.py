#!/usr/bin/env python3
"""What a rank saves that keeps its share of AdamW's moments alone, beside what plan says, and what follows backward takes
then, on 2 and 4 ranks of a host.

usage: zero.py VLGTR BENCH_UPDATE [ROUNDS]"""

import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

# ViT-S/14 with all blocks trained and the seed preset, on made-up scenes. Pictures are small, and so is the frozen text
# tower: moments, gradients and weights that train are as at full size, and show beside the rest.
FULL = """
model: {preset: seed}
vision: {grid: 4}
text: {tokenizer: data/tokenizer, depth: 1, max_tokens: 16}
data: {shards: [shards], side: 56}
train: {global_batch: 8, micro_batch: 2, threads: 1, device: cpu, allow_from_scratch: true}
run: {folder: run, log_every: 1}
schedule:
  - {name: blocks, steps: 2, unfreeze_blocks: 12}
"""
MIB = "120"  # of gradients there
OFF, MOST_TIME = 0.1, 1.0  # of the saving that plan tells; of what everything on every rank takes


def peak_mb(bench, ranks, zero):
    folder = f"ranks{ranks}-{zero}"
    bench.must("train", "full.yaml", *bench.sets({"run.folder": folder, "train.zero": zero}), ranks=ranks)
    return [r["peak_bytes"] / 1e6 for r in bench.records(folder) if "peak_bytes" in r][-1], bench.hashes(folder)[2]


def planned(bench, ranks, zero):
    text = bench.must("plan", "full.yaml", "--ranks", str(ranks), "--set", f"train.zero={zero}")
    return [float(re.search(rf"^  {k} +([\d.]+) MB", text, re.M)[1]) for k in ("moments", "peak")]


def memory(bench, ranks):
    (plain, want), (shared, got) = (peak_mb(bench, ranks, zero) for zero in ("false", "true"))
    (moments, without), (share, with_shares) = (planned(bench, ranks, zero) for zero in ("false", "true"))
    saved, should = plain - shared, without - with_shares
    print(f"{ranks} ranks: moments of a rank {share:.0f} MB of {moments:.0f}; its peak {shared:.0f} MB, without {plain:.0f}: "
          f"{saved:.0f} MB saved, forecast {should:.0f}; {'same' if got == want else 'OTHER'} bits", flush=True)
    return got == want and should > 0 and abs(saved / should - 1) <= OFF


def time(bench, update, ranks, rounds):
    words = ["mpirun", "--oversubscribe", "-n", str(ranks), update, str(rounds), MIB]
    line = subprocess.run(words, env=bench.environment(ranks), capture_output=True, text=True, check=True).stdout
    print(f"sum, norm, AdamW and weights of {line.strip()}", flush=True)
    return float(line.split()[-1]) <= MOST_TIME


def main(vlgtr, update, rounds):
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        bench.write("full.yaml", FULL)
        good = [part for ranks in (2, 4) for part in (memory(bench, ranks), time(bench, update, ranks, rounds))]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3], int(sys.argv[3]) if len(sys.argv) > 3 else 21))
