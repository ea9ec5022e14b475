#!/usr/bin/env python3
"""Bytes that the kernels of each operation move on the emulated device, against the committed table.

usage: gpu_bytes.py BUILD SCRATCH [--record]

A line a operation: kernels launched, KB that must move (each input and output once), KB that come from and go to
memory as often as a block asks (what a block comes back to is in its cache), and both as a ratio; last, the sectors of
32 bytes that the warps' accesses take over the fewest that would do. Products are cuBLASLt's and not counted. The kernels
are as many as the forecast counts (kernels/cost.c)."""

import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests/emu/bytes.txt"
SECTOR = 32
# Kernels that memory alone bounds move no more than this times the floor; no hot kernel takes more sectors than this
# times the fewest. The losses' are a few kilobytes.
MOST_MOVED, MOST_SECTORS = 1.15, 1.15
SMALL = {"detr_loss"}
# The rest is bound otherwise, attention by its products and the losses by latency.
BOUND_OTHERWISE = {"attention", "attention_grad", "detr_loss", "align_loss"}
PRODUCTS = {"linear", "linear_dx", "linear_dw", "heads_expand", "heads_contract", "heads_dw"}


def operations():
    rows = re.findall(r"^VG_OP\((\w+),", (ROOT / "kernels/ops.def").read_text(), re.M)
    return [row for row in rows if row not in PRODUCTS]


def measure(build, scratch, operation, precision):
    """None where no step of that precision has the operation."""
    counters = pathlib.Path(scratch, f"{operation}.{precision}")
    run = subprocess.run([ROOT / "tests/emu/run", f"{build}/tests/emu/emu_bytes", operation, precision], text=True,
                         capture_output=True, env={**os.environ, "VG_EMU_COUNTERS": str(counters)})
    if run.returncode == 77:
        sys.exit(77)
    if not run.returncode and not run.stdout:
        return None
    if run.returncode or not counters.exists():
        sys.exit(f"{operation} {precision}: {run.stdout}{run.stderr}ended with {run.returncode}, or counted nothing")
    launches = [json.loads(line) for line in counters.read_text().splitlines()]
    sides = [launch[side] for launch in launches for side in ("read", "written")]
    floor, priced = map(float, run.stdout.split())
    moved = SECTOR * sum(s["fetched"] for s in sides)
    return {"kernels": len(launches), "priced": priced, "floor_kb": floor / 1e3, "moved_kb": moved / 1e3, "moved": moved / floor,
            "sectors": sum(s["sectors"] for s in sides) / sum(s["least"] for s in sides)}


def line(operation, precision, m):
    return f"{operation:18} {precision:9} {m['kernels']:7} {m['floor_kb']:9.1f} {m['moved_kb']:9.1f} {m['moved']:6.2f} {m['sectors']:7.2f}"


def main(build, scratch, record):
    rows = [(row, precision) for precision in ("fp32", "bf16") for row in operations()]
    measured = {row: m for row in rows if (m := measure(build, scratch, *row))}
    lines = [f"# {'operation':16} precision kernels  floor KB  moved KB  moved sectors"]
    lines += [line(*row, m) for row, m in measured.items()]
    print("\n".join(lines))
    if record:
        TABLE.write_text("\n".join(lines) + "\n")
    bad = [f"{o} {p}: {m['moved']:.2f} of the floor moved, {m['sectors']:.2f} of the sectors that would do"
           for (o, p), m in measured.items()
           if (m["moved"] > MOST_MOVED and o not in BOUND_OTHERWISE) or (m["sectors"] > MOST_SECTORS and o not in SMALL)]
    bad += [f"{o} {p}: {m['kernels']} kernels, the forecast counts {m['priced']:.0f}" for (o, p), m in measured.items()
            if m["kernels"] != m["priced"]]
    absent = set(operations()) - {operation for operation, _ in measured}
    bad += [f"{o}: not measured, for the step of tests/emu/bytes.c has none" for o in sorted(absent)]
    known = TABLE.read_text().splitlines() if TABLE.exists() else []
    bad += [f"not in the table: {x}" for x in lines if x not in known]
    bad += [f"only in the table: {x}" for x in known if x not in lines]
    if lines != known:
        bad.append("is that meant? tests/claims/gpu_bytes --record writes the table anew")
    print("\n".join(bad) or f"gpu_bytes: holds, at most {MOST_MOVED} of the floor where memory is the bound")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], "--record" in sys.argv[3:]))
