#!/usr/bin/env python3
"""trace.json is what chrome://tracing and Perfetto take: complete events in lanes, named, one after the other; and it has
what each rank did.

usage: trace.py VLGTR"""

import collections
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness

STEPS, RANKS = 12, 2
COMPLETE = {"ph": str, "pid": int, "tid": int, "name": str, "cat": str, "ts": (int, float), "dur": (int, float)}
METADATA = {"ph": str, "pid": int, "name": str, "args": dict}
check = harness.Check()


def fits(event):
    schema = METADATA if event.get("ph") == "M" else COMPLETE
    return event.get("ph") in ("M", "X") and all(isinstance(event.get(k), t) for k, t in schema.items()) and event.get("dur", 0) >= 0


def main(vlgtr):
    with harness.Bench(vlgtr) as bench:
        bench.make_data()
        bench.train(RANKS, {"run.trace_steps": STEPS, "run.checkpoint_every": 4, "train.bucket_mb": 0.02})
        trace = json.loads(pathlib.Path(bench.path("run", "trace.json")).read_text())
        bench.train(1, {"run.folder": "short", "run.trace_steps": 1000, "run.until": "heads"})
        short = json.loads(pathlib.Path(bench.path("short", "trace.json")).read_text())
    check("a run shorter than run.trace_steps has all of its steps", sum(e["name"] == "update" for e in short["traceEvents"]) == 16)
    events = trace["traceEvents"]
    check("every event fits the schema", all(map(fits, events)), f"{len(events)} events")
    spans = [e for e in events if e["ph"] == "X"]
    lanes = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    check("every span lies in a lane with a name", all((s["pid"], s["tid"]) in lanes for s in spans))
    check("ranks are named", sorted(e["pid"] for e in events if e["name"] == "process_name") == list(range(RANKS)))
    for rank in range(RANKS):
        mine = [s for s in spans if s["pid"] == rank]
        seen = collections.Counter(s["name"] for s in mine)
        check(f"rank {rank} has its data, compute and exchange of every step",
              seen["micro-batches"] >= STEPS and seen["update"] >= STEPS - 1 and seen["wait for batches"] >= STEPS, dict(seen))
        check(f"rank {rank} wrote a checkpoint behind its steps",
              any(lanes[rank, s["tid"]].startswith("saving behind") for s in mine))
        backward = [s for s in mine if s["name"] == "backward"]
        buckets = [s for s in mine if s["name"] == "bucket"]
        under = [b for b in buckets for w in backward if w["ts"] <= b["ts"] < w["ts"] + w["dur"]]
        check(f"rank {rank} exchanged buckets of gradients in every step, some while backward went on",
              len(backward) == STEPS and len(buckets) > STEPS and len(buckets) % STEPS == 0 and under, f"{len(under)} of {len(buckets)}")
        beside = ("checkpoint", "backward", "bucket")
        phases = sorted((s for s in mine if s["name"] not in beside), key=lambda s: s["ts"])
        check(f"rank {rank} does one thing after the other",
              all(abs(a["ts"] + a["dur"] - b["ts"]) < 0.3 for a, b in zip(phases, phases[1:])))
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
