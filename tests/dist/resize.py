#!/usr/bin/env python3
"""One training that goes on with another number of ranks each time it is asked to stop: 1, 4, 2, 3, 1, through the change
of stage. The weights have the bits, step by step, of one that never stops.

usage: resize.py VLGTR"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

STOPPED, LAST = 75, 30
RANKS, STOPS = (1, 4, 2, 3, 1), (6, 13, 18, 24)  # stage 2 begins after step 16


def go_until(bench, ranks, step):
    """Trains on `ranks` until it is asked to stop as step `step` begins; returns the steps that it took."""
    before = len(bench.records("resized")) if pathlib.Path(bench.path("resized", "metrics.jsonl")).exists() else 0
    words = ("--inject", f"ask@0,{step}") if step else ()
    done = bench.run("train", "run.yaml", *bench.sets({"run.folder": "resized"}), *words, ranks=ranks)
    if done.returncode != (STOPPED if step else 0):
        raise SystemExit(f"{ranks} ranks ended with {done.returncode}:\n{done.stderr}")
    return [r["step"] for r in bench.records("resized")[before:] if "weights_hash" in r]


def main(vlgtr):
    check = harness.Check()
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        bench.train(2, {"run.folder": "whole"})
        steps = []
        for ranks, step in zip(RANKS, (*STOPS, None)):
            done = go_until(bench, ranks, step)
            check(f"{ranks} ranks go on where the run stopped", done[:1] == [len(steps) + 1], f"steps {done[:1]} to {done[-1:]}")
            steps += done
        check("each step is taken once", steps == list(range(1, LAST + 1)), f"{len(steps)} steps")
        want, have = bench.hashes("whole"), bench.hashes("resized")
        check("the bits of the weights after each step", want == have and len(want) == LAST, f"in the end {have.get(LAST)}")
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
