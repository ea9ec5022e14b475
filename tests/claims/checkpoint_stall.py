"""A full-size run of ours that saves behind its steps, beside torch.save of as many bytes, on this disk.

usage: checkpoint_stall.py VLGTR PYTHON"""

import json
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

EVERY, SAVES = 10, 3  # a save goes on behind four or five steps: the next one would wait for its end

CONFIG = f"""
model: {{preset: seed}}
vision: {{grid: 16}}
text: {{tokenizer: data/tokenizer}}
data: {{shards: [shards], side: 224}}
train: {{global_batch: 8, micro_batch: 8, allow_from_scratch: true, device: cpu, threads: 2}}
run: {{folder: run, log_every: 1, checkpoint_every: {EVERY}, checkpoint_keep: 1}}
schedule:
  - {{name: blocks, steps: {EVERY * (SAVES + 1) - 1}, unfreeze_blocks: 12}}
"""

# Weights of all parameters, two moments of those that train: what a checkpoint holds.
TORCH_SAVE = """
import sys, time, torch
every, trained = int(sys.argv[1]), int(sys.argv[2])
piece = 1 << 20
def tensors(n):
    return {str(i): torch.randn(min(piece, n - i)) for i in range(0, n, piece)}
state = {"model": tensors(every), "exp_avg": tensors(trained), "exp_avg_sq": tensors(trained)}
times = []
for _ in range(3):
    start = time.perf_counter()
    torch.save(state, sys.argv[3])
    times.append(time.perf_counter() - start)
print(torch.__version__, sorted(times)[1])
"""


def ours(bench):
    """Milliseconds of a step without a save and with one behind it, and what each save made the steps wait."""
    bench.write("run.yaml", CONFIG)
    bench.must("train", "run.yaml")
    records = bench.records()
    steps = {r["step"]: r["step_ms"] for r in records if "step_ms" in r}
    stalls = [r["save_stall_ms"] for r in records if "save_stall_ms" in r]
    calm = statistics.median(steps[s] for s in range(2, EVERY + 1))
    behind = statistics.median(steps[s] for s in steps if s > EVERY and s % EVERY in (1, 2))
    return calm, behind, stalls[:SAVES]


def size_of(bench):
    """Bytes of the last checkpoint, and values: of all parameters, of those that train."""
    folder = sorted(pathlib.Path(bench.path("run", "checkpoints")).glob("step-*"))[-1]
    files = {f["name"]: f["bytes"] for f in json.loads((folder / "manifest.json").read_text())["files"]}
    weights = files.pop("weights.safetensors")
    return weights + sum(files.values()), weights // 4, sum(files.values()) // 8


def main(vlgtr, python):
    with harness.Bench(vlgtr, timed=True) as bench:
        bench.make_data(train=40)
        calm, behind, stalls = ours(bench)
        size, every, trained = size_of(bench)
        said = subprocess.run([python, "-c", TORCH_SAVE, str(every), str(trained), bench.path("torch.pt")], check=True,
                              capture_output=True, text=True).stdout.split()
        torch_ms = 1e3 * float(said[1])
    stall = statistics.median(stalls)
    print(f"checkpoint of {size * 1e-6:.0f} MB, {trained * 1e-6:.1f} M of {every * 1e-6:.1f} M parameters train; stalls "
          f"{', '.join(f'{s:.1f}' for s in stalls)} ms; torch.save ({said[0]}) {torch_ms:.0f} ms")
    print(f"a step takes {calm:.0f} ms, {behind:.0f} ms while a save goes on behind it")
    print(f"stall {stall:.1f} ms: {100 * stall / calm:.1f} % of a step (at most 5), 1/{torch_ms / stall:.0f} of torch.save (at most 1/20)")
    return 0 if stall <= 0.05 * calm and stall <= torch_ms / 20 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
