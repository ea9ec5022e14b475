#!/usr/bin/env python3
"""The bits of the weights depend on seed, configuration and data alone.

usage: same_bits.py VLGTR [KILLS]"""

import os
import pathlib
import random
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

LAST = 30


def kill_and_resume(bench, want, trial, chance):
    """SIGKILL at a random step, then on with another number of ranks, until the end."""
    folder, ranks, kills = f"killed{trial}", chance.choice([1, 2, 3]), 0
    options = {"run.folder": folder, "run.checkpoint_every": 3}
    stop_at = chance.randint(2, LAST - 2)
    process = bench.start("train", "run.yaml", *bench.sets(options), ranks=ranks)
    while process.poll() is None:
        steps = [r["step"] for r in bench.records(folder)] if os.path.exists(bench.path(folder, "metrics.jsonl")) else []
        if steps and max(steps) >= stop_at:
            os.killpg(process.pid, signal.SIGKILL)
            kills = 1
            break
        time.sleep(0.005)
    process.wait()
    os.system(f"pkill -9 -f run.folder={folder}")  # ranks that outlived their launcher
    again = chance.choice([r for r in (1, 2, 3, 4) if r != ranks])
    bench.train(again, options)
    same = bench.hashes(folder)[LAST] == want
    print(f"killed near step {stop_at} on {ranks} ranks{'' if kills else ' (it had finished)'}, resumed on {again}: "
          f"{'same' if same else 'OTHER'} bits", flush=True)
    return same


def main(vlgtr, kills):
    good, chance = True, random.Random(7)
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        runs = [(1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (2, 2)]
        for ranks, threads in runs:
            folder = f"r{ranks}t{threads}"
            bench.train(ranks, {"run.folder": folder, "train.threads": threads})
        want = bench.hashes("r1t1")
        for ranks, threads in runs:
            records = [r for r in bench.records(f"r{ranks}t{threads}") if "rank_phrases" in r]
            whole = all(sum(r["rank_phrases"]) == r["phrases"] and len(r["rank_phrases"]) == ranks for r in records)
            same = bench.hashes(f"r{ranks}t{threads}") == want and len(want) == LAST
            print(f"{ranks} ranks, {threads} threads: {'same' if same else 'OTHER'} bits at every step; phrases per rank "
                  f"{records[0]['rank_phrases']} add up to {records[0]['phrases']}: {whole}", flush=True)
            good &= same and whole and len(records) == LAST
        for trial in range(kills):
            good &= kill_and_resume(bench, want[LAST], trial, chance)
        bench.train(1, {"run.folder": "seed", "train.seed": 2})
        other = bench.hashes("seed")[LAST] != want[LAST]
        print(f"another seed gives other bits: {other}; hash after {LAST} steps {want[LAST]}")
    return 0 if good and other else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1))
